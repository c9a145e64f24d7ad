"""Exact Sudoku: every solution of a board, random grids, and puzzles with one solution, by exact cover.

A grid of side n = r c is a choice of (cell, digit) pairs that covers each of 4 n² constraints exactly once: every cell
is filled, every row, column and box has every digit. The search is Knuth's ("Dancing Links", 2000): it branches on the
first constraint for which the fewest pairs are left. Instead of links it has n integers: bit c of the k-th says
whether the k-th of the n pairs that cover constraint c is left, so one addition counts for all constraints at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor


def box_of(box: tuple[int, int]) -> Tensor:
    """The number of the box that each cell lies in, ``[n * n]`` int64: boxes of r rows by c columns, row by row."""
    r, c = box
    row, column = torch.meshgrid(torch.arange(r * c), torch.arange(r * c), indexing="ij")
    return (row // r * r + column // c).flatten()


class ExactSolver:
    """Exact cover over the pairs of blank cells and digits that no given excludes; the same on every machine."""

    def __init__(self, box: tuple[int, int]) -> None:
        self.side = n = box[0] * box[1]
        row, column, digit = np.indices((n, n, n)).reshape(3, -1)
        boxes = np.repeat(box_of(box).numpy(), n)
        # [n³, 4]: the constraints that pair (cell, digit), number cell * n + digit - 1, covers
        covers = np.stack([row * n + column, row * n + digit, column * n + digit, boxes * n + digit], 1)
        covers += n * n * np.arange(4)
        by_constraint = covers.ravel().argsort(kind="stable")
        place = np.empty_like(by_constraint)
        place[by_constraint] = np.tile(np.arange(n), 4 * n * n)
        self._pairs = (by_constraint // 4).reshape(-1, n).tolist()  # those that cover each constraint
        self._covers = covers.tolist()
        self._places = place.reshape(-1, 4).tolist()  # of a pair among those of each constraint that it covers
        self._bits = [sum(1 << c for c in four) for four in self._covers]
        self._all = (1 << 4 * n * n) - 1
        self._beside: dict[int, list[int]] = {}

    def solve(self, x: np.ndarray, limit: int | None = None, order: np.ndarray | None = None) -> np.ndarray:
        """The solutions of a board ``[n * n]``, at most ``limit`` of them: ``[S, n * n]`` int64, sorted.

        ``order``, different pairs, decides which solutions a limit leaves; pairs that are not in it are excluded.
        """
        n, none = self.side, np.zeros((0, x.size), np.int64)
        if limit == 0 or ((x < 0) | (x > n)).any():
            return none
        given = np.flatnonzero(x)
        first = range(n**3) if order is None else order.tolist()
        left, uncovered = self._left(first), self._all
        for pair in (given * n + x[given] - 1).tolist():
            if self._bits[pair] & ~uncovered:
                return none
            left, uncovered = self._choose(pair, left, uncovered)
        rank = np.empty(n**3, np.int64)
        rank[first] = np.arange(len(first))
        blank = x.size - given.size
        found = self._search(left, uncovered, blank, limit, rank.tolist())
        chosen = np.array(found, np.int64).reshape(len(found), blank)
        y = np.tile(x.astype(np.int64), (len(chosen), 1))
        np.put_along_axis(y, chosen // n, chosen % n + 1, axis=1)
        return y[np.lexsort(y.T[::-1])]

    def complete(self, x: Tensor, candidates: Tensor, seed: int) -> Tensor | None:
        """A solution of a board ``[n * n]`` among candidate digits ``[n * n, n]`` bool, in random order."""
        left = candidates & ((x[:, None] == 0) | (x[:, None] == torch.arange(1, self.side + 1)))
        order = torch.randperm(left.numel(), generator=torch.Generator().manual_seed(seed))
        found = self.solve(np.zeros(len(x), np.int64), limit=1, order=order[left.flatten()[order]].numpy())
        return torch.from_numpy(found[0]) if len(found) else None

    def _left(self, pairs: Iterable[int]) -> list[int]:
        """The n integers when these pairs are left."""
        left = [0] * self.side
        for pair in pairs:
            for c, k in zip(self._covers[pair], self._places[pair], strict=True):
                left[k] |= 1 << c
        return left

    def _choose(self, pair: int, left: list[int], uncovered: int) -> tuple[list[int], int]:
        """What is left beside a pair, none that shares a constraint with it, and the constraints it doesn't cover."""
        if pair not in self._beside:
            rivals = self._left({rival for c in self._covers[pair] for rival in self._pairs[c]})
            self._beside[pair] = [self._all ^ taken for taken in rivals]
        return [a & b for a, b in zip(left, self._beside[pair], strict=True)], uncovered & ~self._bits[pair]

    def _search(
        self, left: list[int], uncovered: int, blank: int, limit: int | None, rank: list[int]
    ) -> list[list[int]]:
        """The pairs of each solution, by depth first, pairs of lower rank first."""
        found: list[list[int]] = []
        chosen = [0] * blank
        stack: list[tuple[list[int], int, int, set[int]]] = [(left, uncovered, 0, set())]
        while stack and len(found) != limit:
            left, uncovered, depth, pairs = stack.pop()
            for pair in pairs:
                if self._bits[pair] & ~uncovered:
                    break
                left, uncovered = self._choose(pair, left, uncovered)
                chosen[depth] = pair
                depth += 1
            else:
                if not uncovered:
                    found.append(chosen.copy())
                    continue
                some = several = 0
                for bits in left:
                    several |= some & bits
                    some |= bits
                if uncovered & ~some:
                    continue
                if forced := uncovered & ~several:
                    ways = [{self._pairs[c][k] for k, bits in enumerate(left) for c in ones(bits & forced)}]
                else:
                    c = fewest(left, uncovered)
                    some_left = [pair for bits, pair in zip(left, self._pairs[c], strict=True) if bits >> c & 1]
                    ways = [{pair} for pair in sorted(some_left, key=rank.__getitem__)]
                stack += [(left, uncovered, depth, way) for way in reversed(ways)]
        return found

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


@cache
def ordered_grids(box: tuple[int, int]) -> np.ndarray:
    """All grids whose first row is 1 .. n, ``[G, n * n]``; every other grid is one of them with digits renamed."""
    side = box[0] * box[1]
    return ExactSolver(box).solve(np.r_[1 : side + 1, np.zeros(side * side - side, np.int64)])


def ones(bits: int) -> Iterator[int]:
    """The numbers of the bits that are 1, ascending."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def fewest(left: list[int], among: int) -> int:
    """The first of some bits that is 1 in the fewest of the integers."""
    counts: list[int] = []  # of all bits at once, in binary, the least digit first
    for bits in left:
        for k, digit in enumerate(counts):
            counts[k], bits = digit ^ bits, digit & bits
        if bits:
            counts.append(bits)
    for digit in reversed(counts):
        among = among & ~digit or among
    return next(ones(among))
