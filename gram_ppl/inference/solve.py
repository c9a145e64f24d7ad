"""Answers: from an input by rollout and selection, from nothing by rollout alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..program.model import as_tokens
from ..program.poutine import Anneal, Temperature
from ..runtime.processes import Shares
from ..state import Answers
from ..tasks.base import Task
from .options import depth, first_seed
from .rollout import checked, rollout, shaped
from .select import SELECTORS, MajorityVote, MostConfident, Selector, Viewing


def generate(model: nn.Module, *, num_samples: int = 100, **options: Any) -> Tensor:
    """Samples of the unconditional model, ``[N, L_out]`` int64: the same program with the empty embedding.

    Processes that ``torchrun`` or ``accelerate launch`` started share the samples: all of them call, with the same
    seed, and each gets all.

    Args:
        model: the program, trained with ``x=None`` or on :class:`gram_ppl.tasks.Unconditional`.
        num_samples: N.
        options: ``steps``, ``noise``, ``seed`` and other fields of :class:`gram_ppl.inference.options.Options`.
    """
    shares = Shares(1, next(model.parameters()).device)
    nothing = torch.zeros(1, 0, dtype=torch.long)
    return rollout(model, nothing, num_samples=num_samples, shares=shares, **options).tokens[0]


@dataclass(frozen=True)
class Mode:
    """What :func:`solve` does where it is told no more than a purpose.

    Args:
        depth: supervision steps, as a multiple of N_sup.
        first, last: factor on the noise in the first and in the last step, in equal steps between.
        select: the selector.
    """

    depth: int
    first: float
    last: float
    select: Selector

    def noise(self, steps: int) -> Temperature:
        """The handler for so many supervision steps."""
        return Temperature(self.first if self.first == self.last else Anneal(self.first, self.last, steps))


# The best on the validation splits of 4×4 Sudoku and of 8 queens alike (docs/inference.md).
MODES = {"accuracy": Mode(4, 0.5, 0.5, MostConfident()), "coverage": Mode(4, 1.5, 0.0, MajorityVote())}
# Of models that decide: trajectories end by themselves, and decisions of the prior are neither too bold nor too timid.
DECIDING = {mode: Mode(4, 1.0, 1.0, MajorityVote()) for mode in MODES}


def in_mode(model: Any, mode: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a rollout, with the depth and the noise of a mode where they give none.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    preset = _presets(model)[mode]
    steps = options.get("steps")
    steps = preset.depth * depth(model) if steps is None else steps
    return options | {"steps": steps, "noise": options.get("noise") or preset.noise(steps)}


def _presets(model: Any) -> dict[str, Mode]:
    return MODES if model.block is None else DECIDING


def solve(
    model: nn.Module,
    task: Task,
    x: Tensor,
    *,
    select: Selector | str | None = None,
    mode: str | None = None,
    num_samples: int = 20,
    **options: Any,
) -> Answers:
    """Roll out N trajectories and select one answer for each input.

    A selector with ``views`` (:class:`gram_ppl.select.SymmetryVote`) sees one trajectory of each of N versions of the
    input, its answers mapped back.

    Args:
        model: the program.
        task: its verifier says which answers hold.
        x: inputs, ``[B, L_in]`` or one input ``[L_in]``.
        select: how to choose among the N, or its name in :data:`gram_ppl.select.SELECTORS`; that of the mode, or
            :class:`gram_ppl.select.MajorityVote`, if not given.
        mode: ``"accuracy"`` for one right answer, ``"coverage"`` for many different ones (:data:`MODES`); what is
            given besides goes before it.
        num_samples: N.
        options: ``steps``, ``halt``, ``noise``, ``seed`` and the other fields of
            :class:`gram_ppl.inference.options.Options`.

    Raises:
        ValueError: an unknown mode or selector, or arguments that :func:`gram_ppl.rollout` refuses.
    """
    if mode is not None:
        options = in_mode(model, mode, options)
        select = select or _presets(model)[mode].select
    if isinstance(select, str):
        if select not in SELECTORS:
            raise ValueError(f"select: expected one of {', '.join(SELECTORS)} or a selector, found {select!r}")
        select = SELECTORS[select]
    select = select or MajorityVote()
    x = as_tokens("x", x, model)
    x, _ = checked(model, x[None] if x.dim() == 1 else x, {}, read=False)
    if isinstance(select, Viewing):
        generator = torch.Generator().manual_seed(first_seed(options.get("seed")))
        views, undo = select.views(task, x.cpu(), num_samples, generator)
        out = shaped(rollout(model, views.flatten(0, 1), num_samples=1, **options), len(x))
        tokens = undo(out.tokens.clamp(min=0).cpu()).to(out.tokens.device)
        out = out._replace(tokens=torch.where(out.tokens < 0, out.tokens, tokens))  # what has no answer keeps none
    else:
        out = rollout(model, x, num_samples=num_samples, **options)
    x = x.to(out.tokens.device)
    index, score = select(task, x, out)
    tokens = out.tokens[torch.arange(x.shape[0], device=x.device), index]
    answered = None if out.answered is None else out.answered.gather(1, index[:, None])[:, 0]
    restarts = None if out.restarts is None else out.restarts.sum(dim=-1)
    each = cast(Any, model).step_calls
    calls = None if each is None else out.steps.sum(dim=-1) * each
    return Answers(tokens, task.verify(x, tokens), score, index, out, answered, calls, restarts)
