"""Exact Sudoku: every solution of a board, random grids, and puzzles with one solution, by exact cover.

A grid of side n = r c is a choice of (cell, digit) pairs that covers each of 4 n² constraints exactly once: every cell
is filled, every row, column and box has every digit (Knuth, "Dancing Links", 2000).
"""

from __future__ import annotations

import numpy as np
import torch
from exact_cover import get_solution_count
from exact_cover.wrapper import raw_get_all_solutions
from torch import Tensor


def box_of(box: tuple[int, int]) -> Tensor:
    """The number of the box that each cell lies in, ``[n * n]`` int64: boxes of r rows by c columns, row by row."""
    r, c = box
    row, column = torch.meshgrid(torch.arange(r * c), torch.arange(r * c), indexing="ij")
    return (row // r * r + column // c).flatten()


class ExactSolver:
    """Exact cover over the pairs of blank cells and digits that no given excludes."""

    def __init__(self, box: tuple[int, int]) -> None:
        self.side = n = box[0] * box[1]
        row, column, digit = np.indices((n, n, n)).reshape(3, -1)
        boxes = np.repeat(box_of(box).numpy(), n)
        # [n³, 4]: the constraints that pair (cell, digit), number cell * n + digit - 1, covers
        self._covers = np.stack([row * n + column, row * n + digit, column * n + digit, boxes * n + digit], 1)
        self._covers += n * n * np.arange(4)

    def solve(self, x: np.ndarray, limit: int | None = None, order: np.ndarray | None = None) -> np.ndarray:
        """The solutions of a board ``[n * n]``, at most ``limit`` of them: ``[S, n * n]`` int64, sorted.

        ``order``, different pairs, decides which solutions a limit leaves; pairs that are not in it are excluded.
        """
        n, none = self.side, np.zeros((0, x.size), np.int64)
        if limit == 0 or ((x < 0) | (x > n)).any():
            return none
        given = np.flatnonzero(x)
        times = np.bincount(self._covers[given * n + x[given] - 1].ravel(), minlength=4 * n * n)
        if (times > 1).any():
            return none
        if given.size == x.size:
            return x[None].astype(np.int64)
        free = times == 0
        usable = free[self._covers].all(1)
        pairs = np.flatnonzero(usable) if order is None else order[usable[order]]
        if not len(pairs):
            return none
        matrix = np.zeros((len(pairs), free.sum()), bool)
        matrix[np.arange(len(pairs))[:, None], (np.cumsum(free) - 1)[self._covers[pairs]]] = True
        # not get_all_solutions: it is slow on many solutions, and loses one that uses every row of the matrix
        found = raw_get_all_solutions(matrix, get_solution_count(matrix) if limit is None else limit)
        chosen = pairs[found[:, : x.size - given.size]]  # padded beyond: one pair for each blank cell
        y = np.tile(x.astype(np.int64), (len(chosen), 1))
        np.put_along_axis(y, chosen // n, chosen % n + 1, axis=1)
        return y[np.lexsort(y.T[::-1])]

    def complete(self, x: Tensor, candidates: Tensor, seed: int) -> Tensor | None:
        """A solution of a board ``[n * n]`` among candidate digits ``[n * n, n]`` bool, in random order."""
        left = candidates & ((x[:, None] == 0) | (x[:, None] == torch.arange(1, self.side + 1)))
        order = torch.randperm(left.numel(), generator=torch.Generator().manual_seed(seed))
        found = self.solve(np.zeros(len(x), np.int64), limit=1, order=order[left.flatten()[order]].numpy())
        return torch.from_numpy(found[0]) if len(found) else None

    def ordered_grids(self) -> np.ndarray:
        """All grids whose first row is 1 .. n, ``[G, n * n]``; every other grid is one of them with digits renamed."""
        x = np.zeros(self.side**2, np.int64)
        x[: self.side] = np.arange(1, self.side + 1)
        return self.solve(x)

    def random_grid(self, generator: torch.Generator) -> np.ndarray:
        """A full grid ``[n * n]``: the first that is found when the pairs stand in random order; not quite uniform."""
        order = torch.randperm(self.side**3, generator=generator).numpy()
        return self.solve(np.zeros(self.side**2, np.int64), limit=1, order=order)[0]

    def dig(self, y: np.ndarray, clues: int, generator: torch.Generator) -> np.ndarray:
        """A puzzle ``[n * n]`` whose only solution is ``y``.

        Cells are blanked in random order, but those that would let in a second solution, until ``clues`` are left or
        none can be blanked. They are tried in blocks: a block may go exactly if each of its cells may go in turn.
        """
        x, order = y.copy(), torch.randperm(y.size, generator=generator).numpy()
        tried, left, block = 0, y.size, y.size
        while tried < y.size and left > clues:
            cells = order[tried : tried + min(block, left - clues)]
            trial = x.copy()
            trial[cells] = 0
            if len(self.solve(trial, limit=2)) == 1:
                x, left, tried, block = trial, left - len(cells), tried + len(cells), 2 * block
            elif len(cells) == 1:
                tried += 1
            else:
                block = len(cells) // 2
        return x
