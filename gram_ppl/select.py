"""Selectors: which of N answers to give. Each maps (task, x, rollouts) to an index and a score per input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .state import Rollouts
from .tasks.base import Task


class Selector(Protocol):
    """``(task, x [B, L_in], rollouts) -> (index [B] int64, score [B])``."""

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]: ...


def groups(tokens: Tensor) -> Tensor:
    """Which answers are the same: ``[B, N, L_out] -> [B, N]`` ids, equal where all tokens are equal."""
    batch, num, length = tokens.shape
    return torch.unique(tokens.reshape(-1, length), dim=0, return_inverse=True)[1].view(batch, num)


def distinct(tokens: Tensor, keep: Tensor) -> Tensor:
    """Marks the first of each group of equal answers among those kept: ``[B, N, L_out], [B, N] -> [B, N]`` bool."""
    ids = groups(tokens)
    earlier = (ids[:, :, None] == ids[:, None, :]) & keep[:, None, :]
    return keep & ~earlier.tril(diagonal=-1).any(dim=-1)


@dataclass(frozen=True)
class First:
    """The first trajectory; the score is one."""

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        index = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)
        return index, torch.ones(x.shape[0], device=x.device)


@dataclass(frozen=True)
class MajorityVote:
    """The answer that most trajectories agree on, whole answers compared; the score is its share of the votes.

    Ties go to the answer whose trajectory is most confident.
    """

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        ids = groups(rollouts.tokens)
        votes = (ids[:, :, None] == ids[:, None, :]).sum(dim=-1)
        best = votes == votes.max(dim=-1, keepdim=True).values
        index = rollouts.log_prob.masked_fill(~best, -torch.inf).argmax(dim=-1)
        return index, votes.gather(1, index[:, None])[:, 0] / ids.shape[1]


@dataclass(frozen=True)
class Verified:
    """The first answer that the task's verifier accepts, with score one; else the majority's, with score zero."""

    def __call__(self, task: Task, x: Tensor, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """See :class:`Selector`."""
        valid = task.verify(x[:, None], rollouts.tokens)
        vote, _ = MajorityVote()(task, x, rollouts)
        found = valid.any(dim=-1)
        return torch.where(found, valid.int().argmax(dim=-1), vote), found.float()
