"""What a preset is: settings of one run as plain data, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from ..guides import AmortizedGuide
from ..models import GRAM
from ..program.objective import LogLinear, SegmentELBO
from ..storage.measurement import Measurement
from ..tasks.base import Task


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


class Parts(NamedTuple):
    """What :func:`build` makes: ``gp.fit(model, guide, task, objective=objective, **fit)`` trains it."""

    task: Any  # of the class that the preset names
    model: GRAM
    guide: nn.Module
    objective: SegmentELBO
    fit: dict[str, Any]
