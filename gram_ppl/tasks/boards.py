"""What boards of any puzzle have in common: neighbours, symmetries, fingerprints."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def symmetries(size: tuple[int, int]) -> Tensor:
    """The rotations and reflections that keep the shape of the board: ``[8, L]``, or ``[4, L]`` unless it is square.

    ``x[:, symmetry]`` is the image of x.
    """
    cell = torch.arange(size[0] * size[1]).view(size)
    kept = [cell, cell.flip(0), cell.flip(1), cell.flip(0, 1)]
    if size[0] == size[1]:
        kept += [board.T for board in kept]
    return torch.stack([board.flatten() for board in kept])


def grid_neighbours(rows: int, columns: int) -> Tensor:
    """Which cells of a grid share an edge, ``[L, L]`` bool with L = rows · columns."""
    cell = torch.arange(rows * columns)
    row, column = cell // columns, cell % columns
    return ((row[:, None] - row).abs() + (column[:, None] - column).abs()) == 1


FINGERPRINT_TOKENS = 17


@cache
def _keys(length: int) -> Tensor:
    numbers = torch.Generator().manual_seed(0)
    return torch.randint(-(2**63), 2**63 - 1, (length * FINGERPRINT_TOKENS,), generator=numbers)


def fingerprint(boards: Tensor) -> Tensor:
    """Tells boards apart: ``[B, L] -> [B]`` int64, of tokens 0 .. 16.

    Equal for equal boards; different boards share one with probability 2^-64 (Zobrist hashing, 1970).
    """
    length = boards.shape[1]
    place = torch.arange(length) * FINGERPRINT_TOKENS
    parts = [_keys(length)[part + place].sum(1) for part in boards.split(1 << 15)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
