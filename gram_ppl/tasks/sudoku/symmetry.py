"""The symmetries of Sudoku: they map boards to boards and solutions to solutions.

Digits are renamed; rows change places within their band and bands among themselves; so do columns and stacks; the board
is transposed if its boxes are square (otherwise the boxes would change shape).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...state import Symmetry


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
