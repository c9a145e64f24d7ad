"""What a preset is: settings of one run as plain data, and what is made of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from torch import nn

from ..guides import AmortizedGuide
from ..models import GRAM
from ..program.objective import LogLinear, SegmentELBO
from ..storage.measurement import Measurement
from ..tasks.base import Task
from ..training.fit import fit
from .settings import changed

# Arguments of the task, the model and fit that are no settings of a preset.
FIXED = {"spec", "seed", "model", "guide", "task", "objective", "beta", "balance", "out", "resume", "device",
         "progress", "tracker", "before_update"}  # fmt: skip
MAKERS = ("world", "encoder", "kind", "guide", "elbo", "needs")  # fields that can't be changed


@dataclass(frozen=True)
class Preset(Measurement):
    """Settings of one run, from the task to the test."""

    world: Callable[..., Task]  # makes the task from ``task`` and ``seed``
    beta: LogLinear  # weight of the KL
    task: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)  # arguments of ``kind``
    encoder: Callable[[Any], Any] | None = None  # the model's encoder, where it depends on the task
    kind: Callable[..., Any] = GRAM  # makes the model
    guide: Callable[..., nn.Module] = AmortizedGuide
    elbo: Callable[..., SegmentELBO] = SegmentELBO  # makes the objective
    fit: dict[str, Any] = field(default_factory=dict)  # arguments of gp.fit
    objective: dict[str, Any] = field(default_factory=dict)  # arguments of ``elbo`` beside beta and balance
    balance: float = 0.8
    needs: tuple[str, ...] = ()  # arguments of the task that have no default
    steps: int = field(default=16, kw_only=True)

    def changed(self, settings: Mapping[str, Any]) -> Self:
        """The preset with other values of single settings, by dotted name; None leaves one as it is.

        Raises:
            ValueError: no such setting, or a value of another kind.
        """
        makers: dict[str, Any] = {"task": self.world, "model": self.kind, "objective": self.elbo, "fit": fit}
        found = {part: inspect.signature(make).parameters.values() for part, make in makers.items()}
        known = {part: {p.name: p.default for p in found[part] if p.name not in FIXED} for part in found}
        return changed(self, settings, known, hidden=MAKERS)


class Parts(NamedTuple):
    """What :func:`build` makes: ``gp.fit(model, guide, task, objective=objective, **fit)`` trains it."""

    task: Any  #: of the class that the preset names
    model: GRAM
    guide: nn.Module
    objective: SegmentELBO
    fit: dict[str, Any]


def build(preset: Preset, *, seed: int = 0, task: Task | None = None) -> Parts:
    """Task, model, guide, objective and the arguments of ``gp.fit`` that a preset describes.

    Args:
        preset: what is built.
        seed: of the task and of the weights.
        task: in place of the preset's own, which takes a while to make.

    Raises:
        ValueError: a setting that the task needs is missing, or a value does not fit.
    """
    for name in preset.needs:
        if name not in preset.task:
            raise ValueError(f"task.{name} is not set, and this task needs it")
    try:
        task = task or preset.world(**{"seed": seed} | preset.task)
        encoder = {} if preset.encoder is None else {"encoder": preset.encoder(task)}
        model = preset.kind(task.spec, **preset.model, **encoder, seed=seed)
    except TypeError as error:
        raise ValueError(f"a setting of the task or of the model does not fit: {error}") from None
    objective = preset.elbo(preset.beta, preset.balance, **preset.objective)
    return Parts(task, model, preset.guide(model, seed=seed), objective, {"evaluate_steps": preset.steps} | preset.fit)
