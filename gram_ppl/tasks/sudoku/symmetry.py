"""The symmetries of Sudoku: they map boards to boards and solutions to solutions.

Digits are renamed; rows change places within their band and bands among themselves; so do columns and stacks; the board
is transposed if its boxes are square (otherwise the boxes would change shape).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Symmetry(NamedTuple):
    """One symmetry for each of B boards."""

    cells: Tensor  # [B, n * n] int64: the cell whose token moves here
    digits: Tensor  # [B, n + 1] int64: the new name of each token; blank stays blank

    def __call__(self, boards: Tensor) -> Tensor:
        """``[B, n * n]`` int64 tokens in 0 .. n, puzzle or grid, to the same shape."""
        return self.digits.gather(1, boards.gather(1, self.cells))

    def inverse(self) -> Symmetry:
        """The symmetries that undo these."""
        return Symmetry(self.cells.argsort(1), self.digits.argsort(1))

    def to(self, device: torch.device) -> Symmetry:
        """The same on a device."""
        return Symmetry(self.cells.to(device), self.digits.to(device))


def random_symmetries(box: tuple[int, int], num: int, generator: torch.Generator) -> Symmetry:
    """``num`` symmetries, independent and uniform over the whole group."""
    r, c = box

    def shuffled(*shape: int) -> Tensor:
        return torch.rand(num, *shape, generator=generator).argsort(-1)

    def lines(groups: int, size: int) -> Tensor:
        return (shuffled(groups)[..., None] * size + shuffled(groups, size)).flatten(1)

    n = r * c
    cells = lines(c, r)[:, :, None] * n + lines(r, c)[:, None, :]
    if r == c:
        transpose = torch.rand(num, 1, 1, generator=generator) < 0.5
        cells = torch.where(transpose, cells.transpose(1, 2), cells)
    digits = torch.cat([torch.zeros(num, 1, dtype=torch.long), shuffled(n) + 1], 1)
    return Symmetry(cells.flatten(1), digits)
