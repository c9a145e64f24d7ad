"""Scheduled sampling: some rows of training go on from where the prior leads (arXiv 1506.03099).

Trained on the posterior's trajectories alone, prior and decoder never see the states that only the prior reaches, and
a wrong answer there stays wrong. A state of the prior may be nearer to another solution than to y. Its y is therefore
drawn again, from p(y | x, h) ∝ p(y | x) p(y | h): the solutions of x, uniform in the data, weighted by the decoder.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..runtime.precision import wide
from ..runtime.processes import Shares
from ..state import SegmentInfo
from ..tasks.base import Task


class Redraw:
    """Draws solutions of inputs by how probable the decoder finds them.

    Args:
        task: lists the solutions.
        remembered: of how many inputs the solutions are kept, those asked for last.
    """

    def __init__(self, task: Task, remembered: int) -> None:
        @lru_cache(maxsize=remembered)
        def solutions(tokens: tuple[int, ...]) -> Tensor:
            return task.solutions(torch.tensor(tokens))

        self.solutions = solutions

    @torch.no_grad()
    def __call__(self, model: Any, x: Tensor, y: Tensor, h: Tensor, chosen: Tensor, chance: Tensor) -> Tensor:
        """The answers y ``[B, L_out]``, those of the chosen rows drawn again.

        Args:
            model: the program, whose ``answer(h)`` is p(y | h).
            x: inputs, ``[B, L_in]``.
            y: their answers; kept where the task knows none.
            h: high-level states, ``[B, L, D]``.
            chosen: ``[B]`` bool.
            chance: a uniform random number for each row, ``[B]``.

        Raises:
            ValueError: the task can't list solutions.
        """
        rows, y = chosen.nonzero()[:, 0], y.clone()
        if not len(rows):
            return y
        logits = model.answer(h[rows]).base_dist.logits  # [b, L_out, V], normalised
        for row, own in zip(rows.tolist(), logits, strict=True):
            try:
                found = self.solutions(tuple(x[row].tolist())).to(y.device)
            except NotImplementedError as error:
                raise ValueError(f"scheduled_sampling needs a task that lists the solutions: {error}") from None
            if len(found):
                weights = wide(own.gather(1, found.T).sum(0)).softmax(0)
                y[row] = found[(weights.cumsum(0) < chance[row]).sum().clamp(max=len(found) - 1)]
        return y

    def after(
        self, model: Any, x: Tensor, y: Tensor, info: SegmentInfo, generator: torch.Generator, shares: Shares
    ) -> Tensor:
        """The joint answers ``[B, L_out]`` after a segment, drawn again for rows whose state is the prior's.

        Raises:
            ValueError: the model has no noise of the prior to go on with, or the task can't list solutions.
        """
        if info.from_prior is None:
            raise ValueError("scheduled_sampling needs a model with a charged noise site that says its proposal")
        here, chance = shares.here(len(x)), torch.rand(len(x), generator=generator)
        mine = self(model, x[here], y[here], info.latent.h, info.from_prior, chance[here])
        return shares.gathered(mine)
