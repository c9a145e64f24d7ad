"""Training on a model's own states: rows that go on with the prior's decisions, and begin with wrong ones.

A trajectory of the posterior never excludes its y. A trajectory of the prior does, and what it needs then can be
learned nowhere else: to see that no answer is left. Rows therefore go on with decisions of the prior; y is drawn again
among the solutions that agree with the candidates, all alike, since candidates tell nothing else of y; and where none
agrees, the row has lost. (Begun and moved on as in arXiv 2605.08605, whose tasks have one solution.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..nn import one_hot
from ..runtime.processes import Shares
from ..state import Latent, SegmentInfo
from ..tasks.base import Task


@dataclass(frozen=True)
class OwnStates:
    """How rows of training begin and go on, for ``own_states`` of :func:`gram_ppl.fit`.

    A row gives way once it has its answer, rightly calls itself lost, or has run N_sup supervision steps.

    Args:
        share: probability that a row goes on with the prior's decision, not with the posterior's.
        rise: from which to which share of training it rises from 0 to that; an untrained prior loses most rows.
        temperature: of those decisions.
        filled: share of fresh rows of whose open tokens a uniform share is filled with those of y.
        corrupted: share of fresh rows that are filled so, and then 1 to 30 % of what is filled made wrong.
        symmetric: show every row under a fresh symmetry in every update, where the task has symmetries of tokens and
            places and the model begins its latent anew.
        linger: a lost row stays until it rightly calls itself lost; without, it gives way once it has been scored.
        redraw: draw y again; without, rows keep the solution they have, right where inputs have one each.

    Raises:
        ValueError: shares that are none.
    """

    share: float = 1.0
    rise: tuple[float, float] = (0.0, 0.0)
    temperature: float = 1.0
    filled: float = 0.55
    corrupted: float = 0.25
    symmetric: bool = False
    linger: bool = True
    redraw: bool = True

    def __post_init__(self) -> None:
        shares = (self.share, *self.rise, self.filled, self.corrupted, self.filled + self.corrupted)
        if not all(0 <= share <= 1 for share in shares) or self.temperature <= 0:
            raise ValueError(f"expected shares between 0 and 1 and a temperature above 0, got {self}")

    def at(self, progress: float) -> float:
        """The share at a ``progress`` of training in [0, 1]."""
        first, last = self.rise
        return self.share if progress >= last else self.share * max((progress - first) / (last - first), 0.0)


class OwnRows:
    """Begins and moves the rows of one run.

    Args:
        options: how.
        task: lists solutions and has symmetries.
        model: a program that decides.
        remembered: of how many inputs the solutions are kept, those asked for last.

    Raises:
        ValueError: the model makes no decisions, symmetries are asked for that can't be had, or y is to be drawn again
            and the task can neither list its solutions nor complete candidates.
    """

    def __init__(self, options: OwnStates, task: Task, model: Any, remembered: int) -> None:
        if model.block is None:
            raise ValueError(f"own_states needs a model that decides, and {type(model).__name__} makes no decisions")
        if options.symmetric and not model.anew:
            raise ValueError("own_states with symmetries needs a model whose latent begins anew: Deciding(anew=True)")
        self.options, self.task, self.model = options, task, model
        if options.redraw and not task.listable:
            x = task.inputs("test")[0]
            try:
                task.completion(x, model.begin(x[None].to(model.leaves.device), 1).sets[0], 0)
            except NotImplementedError as error:
                raise ValueError(
                    f"own_states draw y again, this task has too many solutions to list, and {error}: redraw=False"
                ) from None
        self.lists = options.redraw

        @lru_cache(maxsize=remembered)
        def solutions(tokens: tuple[int, ...]) -> Tensor:
            return task.solutions(torch.tensor(tokens, dtype=torch.long))

        self.solutions: Callable[[tuple[int, ...]], Tensor] = solutions

    def fresh(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Latent, Tensor]:
        """Where rows begin and what their answers are then, ``[B, L_in], [B, L_out]``; on the CPU like the generator.

        Some rows have nothing but x, some are partly filled, some partly filled and then corrupted.
        """
        z = self.model.begin(x.to(self.model.leaves.device), len(x))
        candidates = z.sets.to(y.device)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(len(y), *shape, generator=generator).to(y.device)

        kind, share = uniform(1), uniform(1)
        bare = kind >= self.options.filled + self.options.corrupted
        corrupted = kind < self.options.corrupted
        filled = (uniform(y.shape[1]) < share) & ~bare & (candidates.sum(dim=-1) > 1)
        wrong = filled & corrupted & (uniform(y.shape[1]) < 0.01 + 0.29 * uniform(1))
        vocab = candidates.shape[-1]
        others = uniform(y.shape[1], vocab).masked_fill(~candidates | one_hot(y, vocab), -1.0).argmax(dim=-1)
        tokens = torch.where(wrong, others, y)
        candidates = torch.where(filled[..., None], one_hot(tokens, vocab), candidates)
        y = self._surviving(x, y, candidates, wrong.any(dim=-1), uniform())
        return z._replace(candidates=candidates.to(z.h.device)), y

    def turned(
        self, x: Tensor, y: Tensor, latent: Latent, generator: torch.Generator, shares: Shares
    ) -> tuple[Tensor, Tensor, Latent]:
        """Rows under fresh symmetries; the same rows if none are asked for or the task has none."""
        turn = self.task.symmetries(len(x), generator) if self.options.symmetric else None
        if turn is None:
            return x, y, latent
        turn = turn.to(x.device)
        here = shares.here(len(x))
        return turn(x), turn(y), latent._replace(candidates=turn.rows(here).sets(latent.sets))

    @torch.no_grad()
    def after(
        self, x: Tensor, y: Tensor, info: SegmentInfo, before: Latent, generator: torch.Generator, shares: Shares
    ) -> tuple[Tensor, Tensor]:
        """The answers that rows go on with, ``[B, L_out]``, and which rows are done, ``[B]`` bool; both joint.

        Args:
            x, y: joint, ``[B, L_in]`` and ``[B, L_out]``.
            info: of the segment; its state is this process's.
            before: the state before it.
            generator: of the data.
            shares: the processes.
        """
        here, chance = shares.here(len(x)), torch.rand(len(x), generator=generator)
        candidates = info.latent.sets
        chosen = torch.zeros(len(candidates), dtype=torch.bool) if info.from_prior is None else info.from_prior
        mine = self._surviving(x[here], y[here], candidates, chosen, chance[here])
        lost = excluded(candidates, mine)
        answered, wrong = self.model.settled(info.latent, before)
        done = (answered & ~lost) | (lost & wrong)
        if self.model.contradiction is None:
            done |= lost  # nothing is to be learned from it
        elif not self.options.linger:
            done |= excluded(before.sets, y[here])
        return shares.gathered(mine), shares.gathered(done)

    def _surviving(self, x: Tensor, y: Tensor, candidates: Tensor, chosen: Tensor, chance: Tensor) -> Tensor:
        """The answers, those of chosen rows that have lost theirs or may have others drawn again."""
        if not self.lists:
            return y
        y = y.clone()
        if not self.task.listable:  # one that is left stays: it is as good as another
            chosen = chosen & excluded(candidates, y)
        for row in chosen.nonzero()[:, 0].tolist():
            try:
                drawn = self._drawn(x[row], candidates[row], chance[row])
            except NotImplementedError:
                self.lists = False
                return y
            if drawn is not None:
                y[row] = drawn
        return y

    def _drawn(self, x: Tensor, candidates: Tensor, chance: Tensor) -> Tensor | None:
        if not self.task.listable:
            return self.task.completion(x, candidates, int(float(chance) * 2**53))
        found = self.solutions(tuple(x.tolist())).to(candidates.device)
        found = found[~excluded(candidates.expand(len(found), -1, -1), found)]
        return found[int(chance * len(found))] if len(found) else None


def excluded(candidates: Tensor, y: Tensor) -> Tensor:
    """Whether candidates exclude an answer: ``[B, L_out, V], [B, L_out] -> [B]`` bool."""
    return ~candidates.gather(-1, y[..., None])[..., 0].all(dim=-1)
