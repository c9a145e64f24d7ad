"""A task without its input: the distribution over whole boards, p(y) in place of p(y | x)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..state import Batch, Symmetry
from .base import Task, check_tokens
from .holdout import AFRESH, split_of
from .scene import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Unconditional(Task):
    """Boards from nothing: the same rules, encoding and model, no givens.

    An input has no tokens, ``[B, 0]``, which the model reads as ``x=None``, the empty embedding.

    Args:
        task: a task with complete ``boards`` and a ``blank`` input, such as Sudoku or NQueens.
        num_validation: how many boards are drawn to measure prior accuracy in training.
    """

    def __init__(self, task: Task, *, num_validation: int = 200) -> None:
        super().__init__(task.spec)
        self.title = f"{task.title} from nothing"
        self.task = task
        self.listable = task.spec.len_out < 36  # of 6×6 grids there are 28 million

    def inputs(self, split: str) -> Tensor:
        """``[num_validation, 0]``, and one for the test: a rollout of N trajectories gives N boards."""
        number = split_of({"validation": self.config["num_validation"], "test": 1}, split, train=AFRESH)
        return torch.zeros(number, 0, dtype=torch.long)

    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Endless batches of complete boards, uniform over all of them, whatever the split."""
        split_of(dict.fromkeys(("train", "validation", "test")), split)
        nothing = torch.zeros(batch_size, 0, dtype=torch.long)
        return (Batch(nothing, self.task.boards(batch_size, generator)) for _ in count())

    def solutions(self, x: Tensor) -> Tensor:
        """Every complete board, ``[S, L_out]``; on large boards too many to list."""
        return self.task.solutions(self._blank(x, board=True))

    def completion(self, x: Tensor, candidates: Tensor, seed: int) -> Tensor | None:
        """See :meth:`Task.completion`: a complete board, as the task draws it."""
        return self.task.completion(self._blank(x, board=True), candidates, seed)

    def symmetries(self, num: int, generator: torch.Generator) -> Symmetry | None:
        """Those of the task."""
        return self.task.symmetries(num, generator)

    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        """Violations of the rules, ``[..., 0], [..., L_out] -> [...]`` int64."""
        return self.task.violations(self._blank(x), y)

    def canonical(self, y: Tensor) -> Tensor:
        """That of the task."""
        return self.task.canonical(y)

    def render(self, x: Tensor, y: Tensor | None = None) -> str:
        """As the task renders the blank input and the board."""
        return self.task.render(self._blank(x, board=True), y)

    def draw(self, axes: Axes, x: Tensor, y: Tensor | None = None) -> None:
        """As the task draws the blank input and the board."""
        self.task.draw(axes, self._blank(x, board=True), y)

    def scene(self, x: Tensor) -> Scene:
        """As the task lays out the blank input."""
        return self.task.scene(self._blank(x, board=True))

    def parse(self, text: str) -> Tensor:
        """No tokens from no text.

        Raises:
            ValueError: there is text.
        """
        if text.strip():
            raise ValueError("An unconditional task takes no input.")
        return torch.zeros(0, dtype=torch.long)

    def line(self, x: Tensor) -> str:
        """No text for no tokens."""
        return ""

    def _blank(self, x: Tensor, board: bool = False) -> Tensor:
        check_tokens("x", x, 0, board=board)
        return self.task.blank.to(x.device).expand(*x.shape[:-1], -1)
