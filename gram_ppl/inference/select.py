"""Selectors: which of N answers to give. Each maps (task, x, rollouts) to an index and a score per input.

Ties go to the trajectory whose decoder is most confident, and between equals to the first. Answers that mean the same,
such as colourings that differ in the names of the colours alone, count as one answer: ``task.canonical`` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..runtime.precision import wide
from ..state import Rollouts
from ..tasks.base import Task


class Selector(Protocol):
    """``(task, x [B, L_in], rollouts) -> (index [B] int64, score [B])``; a higher score is more trust."""

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]: ...


@runtime_checkable
class Viewing(Selector, Protocol):
    """A selector that wants one trajectory of each of N versions of the input, its answers mapped back."""

    def views(
        self, task: Task, x: Tensor, num_samples: int, generator: torch.Generator
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """See :meth:`SymmetryVote.views`."""
        ...


def groups(tokens: Tensor) -> Tensor:
    """Which answers to one input are the same: ``[B, N, L_out] -> [B, N]`` ids from 0 on.

    Equal where all tokens are equal; different inputs share no id.
    """
    batch, num, _ = tokens.shape
    row = torch.arange(batch, device=tokens.device).repeat_interleave(num)
    numbered = torch.cat([row[:, None], tokens.flatten(0, 1)], dim=1)
    return torch.unique(numbered, dim=0, return_inverse=True)[1].view(batch, num)


def distinct(tokens: Tensor, keep: Tensor) -> Tensor:
    """Marks the first of each group of equal answers among those kept: ``[B, N, L_out], [B, N] -> [B, N]`` bool.

    >>> gp.select.distinct(torch.tensor([[[1, 2], [1, 2], [2, 1]]]), torch.ones(1, 3, dtype=torch.bool))
    tensor([[ True, False,  True]])
    """
    ids, num = groups(tokens), tokens.shape[1]
    place = torch.arange(num, device=tokens.device).where(keep, num)
    first = place.new_full((ids.numel(),), num).scatter_reduce(0, ids.flatten(), place.flatten(), "amin")
    return keep & (place == first[ids])


def oracle(task: Task, x: Tensor, rollouts: Rollouts) -> Tensor:
    """Whether any of the N answers holds, ``[B]`` bool: what an ideal selector would reach, pass@N."""
    return task.verify(x[:, None], rollouts.tokens).any(dim=-1)


def verified_answers(task: Task, x: Tensor, rollouts: Rollouts) -> list[Tensor]:
    """All different verified answers to each of B inputs, ``[S_i, L_out]`` in canonical form, the first found first."""
    tokens = task.canonical(rollouts.tokens)
    marks = distinct(tokens, task.verify(x[:, None], rollouts.tokens))
    return [answers[mark] for answers, mark in zip(tokens, marks, strict=True)]


def _highest(merit: Tensor, confidence: Tensor) -> Tensor:
    """Where merit is highest; among equals where confidence is: ``[B, N], [B, N] -> [B]``."""
    best = merit == merit.amax(dim=-1, keepdim=True)
    return confidence.masked_fill(~best, -torch.inf).argmax(dim=-1)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """``[B, N], [B] -> [B]``."""
    return values.gather(1, index[:, None])[:, 0]


def _vote(task: Task, rollouts: Rollouts, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The answer with the greatest weight ``[B, N]`` behind it, and its share of all."""
    ids = groups(task.canonical(rollouts.tokens))
    weights = weights if rollouts.answered is None else weights * rollouts.answered  # no answer is no vote
    votes = weights.new_zeros(ids.numel()).scatter_add(0, ids.flatten(), weights.flatten())[ids]
    index = _highest(votes, rollouts.log_prob)
    share = _at(votes, index) / weights.sum(dim=-1).clamp(min=torch.finfo(weights.dtype).tiny)
    return index, share.to(rollouts.log_prob.dtype)


def _needed(head: Tensor | None, selector: object, name: str) -> Tensor:
    if head is None:
        raise ValueError(
            f"{type(selector).__name__} needs the {name} head, and these rollouts come from a model without heads: "
            "fit them with gp.fit_heads"
        )
    return head


@dataclass(frozen=True)
class First:
    """The first trajectory; the score is one."""

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        index = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
        return index, torch.ones(x.shape[0], device=x.device)


@dataclass(frozen=True)
class MajorityVote:
    """The answer that most trajectories agree on, whole answers compared; the score is its share of the votes."""

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        return _vote(task, rollouts, torch.ones_like(rollouts.log_prob))


@dataclass(frozen=True)
class WeightedVote:
    """A vote in which each trajectory has the weight that the value head gives it; the score is the share of weight.

    Without heads the weight is the decoder's p(tokens | h): an answer's weight is then proportional to the Monte-Carlo
    estimate of p(y | x) from those of the N trajectories that decode to it.
    """

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        confidence = wide(rollouts.log_prob).softmax(dim=-1)
        return _vote(task, rollouts, confidence if rollouts.value is None else wide(rollouts.value))


@dataclass(frozen=True)
class BestOfN:
    """The trajectory that the value head (LPRM; paper, appendix A.2) values most; the score is that value.

    Raises:
        ValueError: the rollouts have no values.
    """

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        value = _needed(rollouts.value, self, "value")
        index = _highest(value, rollouts.log_prob)
        return index, _at(value, index)


@dataclass(frozen=True)
class MostConfident:
    """The trajectory whose decoder is surest of its own answer; the score is p(tokens | h)."""

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        index = rollouts.log_prob.argmax(dim=-1)
        return index, _at(rollouts.log_prob, index).exp()


@dataclass(frozen=True)
class HaltFirst:
    """The trajectory that ran the fewest steps, among several the one that the halt head is surest of.

    The score is the halt head's probability that the answer is right.

    Raises:
        ValueError: the rollouts have no halt logits.
    """

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        halt = _needed(rollouts.halt, self, "halt")
        fewest = rollouts.steps == rollouts.steps.amin(dim=-1, keepdim=True)
        index = _highest(halt.masked_fill(~fewest, -torch.inf), rollouts.log_prob)
        return index, _at(halt, index).sigmoid()


@dataclass(frozen=True)
class LowestResidual:
    """The trajectory nearest to a fixed point; the score is minus the change of h in its last supervision step.

    The change is the root mean square over tokens and dimensions; a state that stands still has score 0.
    """

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        index = _highest(-rollouts.residual, rollouts.log_prob)
        return index, -_at(rollouts.residual, index)


@dataclass(frozen=True)
class Verified:
    """The first answer that the task's verifier accepts, with score one; else the majority's, with score zero."""

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        valid = task.verify(x[:, None], rollouts.tokens)
        vote, _ = MajorityVote()(task, x, rollouts)
        found = valid.any(dim=-1)
        return torch.where(found, valid.int().argmax(dim=-1), vote), found.float()


@dataclass(frozen=True)
class SymmetryVote:
    """Answers to N symmetric versions of the input, mapped back and given to another selector.

    Whoever rolls out runs one trajectory for each of :meth:`views` and maps its tokens back; the call itself expects
    rollouts whose tokens are mapped back already, and is that of ``base``. For tasks without symmetries all views are
    the input itself.

    Args:
        base: the selector that chooses among the answers mapped back.
    """

    base: Selector = field(default_factory=MajorityVote)

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        return self.base(task, x, rollouts)

    def views(
        self, task: Task, x: Tensor, num_samples: int, generator: torch.Generator
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The input itself and N - 1 random symmetric versions of it, and the way back for their answers.

        Args:
            task: tells its symmetries, :meth:`gram_ppl.tasks.Task.symmetric`.
            x: inputs, ``[B, L_in]``.
            num_samples: N.
            generator: draws the symmetries.

        Returns:
            The views ``[B, N, L_in]``, and ``undo``: answers to them, ``[B, N, L_out]``, to answers to x.

        Raises:
            ValueError: ``num_samples`` is less than 1.
        """
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        images, back = task.symmetric(x.repeat_interleave(num_samples - 1, dim=0), generator)

        def undo(tokens: Tensor) -> Tensor:
            rest = back(tokens[:, 1:].flatten(0, 1)).unflatten(0, (len(x), num_samples - 1))
            return torch.cat([tokens[:, :1], rest], dim=1)

        return torch.cat([x[:, None], images.unflatten(0, (len(x), num_samples - 1))], dim=1), undo


SELECTORS: dict[str, Selector] = {
    "first": First(),
    "vote": MajorityVote(),
    "best": BestOfN(),
    "weighted": WeightedVote(),
    "confident": MostConfident(),
    "halt": HaltFirst(),
    "residual": LowestResidual(),
    "verified": Verified(),
    "symmetry": SymmetryVote(),
}
