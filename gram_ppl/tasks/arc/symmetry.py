"""Symmetries under which an ARC task is still a task: the square's, and those of the colours but black.

They are the augmentations of HRM and TRM (arXiv:2506.21734, 2510.04871). An answer to an augmented question is mapped
back before it is compared or counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import perm

import numpy as np
import torch
from torch import Tensor

from .data import COLORS, Grid

DIHEDRAL = 8


def flips(dihedral: int) -> tuple[bool, bool, bool]:
    """Whether an element of the dihedral group transposes, then reverses the rows, then the columns."""
    return bool(dihedral & 4), bool(dihedral & 2), bool(dihedral & 1)


def _element(transpose: bool, rows: bool, columns: bool) -> int:
    return 4 * transpose + 2 * rows + columns


@dataclass(frozen=True)
class Augmentation:
    """An element of the dihedral group and a permutation of the colours.

    Args:
        dihedral: 0 .. 7: + 4 transposes first, + 2 reverses the order of the rows, + 1 that of the columns; 0 is the
            identity.
        colors: the new colour of each of the 10 colours; 0, black, stays.

    Raises:
        ValueError: no element, or no permutation that fixes 0.
    """

    dihedral: int = 0
    colors: tuple[int, ...] = tuple(range(COLORS))

    def __post_init__(self) -> None:
        if not 0 <= self.dihedral < DIHEDRAL:
            raise ValueError(f"dihedral: expected 0 .. {DIHEDRAL - 1}, found {self.dihedral}.")
        if sorted(self.colors) != list(range(COLORS)) or self.colors[0] != 0:
            raise ValueError(f"colors: expected a permutation of 0 .. {COLORS - 1} with 0 first, found {self.colors}.")

    def apply(self, grid: Grid) -> Grid:
        """A grid ``[rows, columns]`` under this symmetry, which may swap the two sizes."""
        transpose, rows, columns = flips(self.dihedral)
        grid = grid.T if transpose else grid
        return np.array(self.colors, np.uint8)[grid[:: -1 if rows else 1, :: -1 if columns else 1]]

    def invert(self, grid: Grid) -> Grid:
        """The grid that ``apply`` maps to this one."""
        return self.inverse().apply(grid)

    def inverse(self) -> Augmentation:
        """The symmetry that undoes this one."""
        transpose, rows, columns = flips(self.dihedral)
        back = _element(transpose, columns, rows) if transpose else self.dihedral
        return Augmentation(back, tuple(self.colors.index(color) for color in range(COLORS)))

    def then(self, other: Augmentation) -> Augmentation:
        """This symmetry followed by another."""
        transpose, rows, columns = flips(self.dihedral)
        again, by_rows, by_columns = flips(other.dihedral)
        if again:  # a transposition turns rows into columns on its way past the reversals
            rows, columns = columns, rows
        element = _element(transpose ^ again, rows ^ by_rows, columns ^ by_columns)
        return Augmentation(element, tuple(other.colors[color] for color in self.colors))


def random_augmentations(num: int, used: Sequence[int], generator: torch.Generator) -> Tensor:
    """The identity, then ``num`` others, uniformly random: ``[1 + num, 1 + 10]`` uint8, dihedral and colours.

    They all differ in what they do to the colours ``used`` (black does not matter). There are fewer than ``num`` if
    no more exist: 8 · 9! / (9 - u)! - 1 for u colours.
    """
    colors = sorted(set(used) - {0})
    num = min(num, DIHEDRAL * perm(COLORS - 1, len(colors)) - 1)
    weights = COLORS ** torch.arange(len(colors) + 1)
    columns = torch.tensor([0] + [1 + color for color in colors])
    rows = torch.arange(-1, COLORS).clamp(min=0)[None]
    while len(rows) <= num:
        size = 2 * num + 8
        element = torch.randint(DIHEDRAL, (size, 1), generator=generator)
        order = torch.rand(size, COLORS - 1, generator=generator, dtype=torch.float64).argsort(1) + 1
        rows = torch.cat([rows, torch.cat([element, torch.zeros_like(element), order], 1)])
        key = (rows[:, columns] * weights).sum(1)  # one decimal digit each: element, then the used colours
        rows = rows[np.sort(np.unique(key.numpy(), return_index=True)[1])]
    return rows[: num + 1].to(torch.uint8)


def vote(answers: Iterable[tuple[Augmentation, Grid | None]]) -> list[Grid]:
    """The different answers to one question, mapped back, the most frequent first; of equals, the earliest first.

    Args:
        answers: answers to augmented versions of the question, each with its augmentation; None doesn't count.
    """
    found: dict[tuple[tuple[int, ...], bytes], Grid] = {}
    counts: Counter[tuple[tuple[int, ...], bytes]] = Counter()
    for augmentation, grid in answers:
        if grid is not None:
            back = augmentation.invert(grid)
            key = back.shape, back.tobytes()
            found.setdefault(key, back)
            counts[key] += 1
    return [found[key] for key, _ in counts.most_common()]
