"""Every solution of the n queens problem, and every input that solutions leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


def all_solutions(n: int) -> Tensor:
    """Every solution as the column of the queen of each row, ``[S, n]`` int8 in 0 .. n - 1, sorted.

    All partial boards grow together by a row at a time; the bits of three words say which columns of the next row are
    attacked vertically and along either diagonal.
    """
    boards, columns = torch.zeros(1, 0, dtype=torch.int8), torch.arange(n)
    vertical, falling, rising = torch.zeros(3, 1, dtype=torch.long)
    for _ in range(n):
        attacked = (vertical | falling | rising)[:, None] >> columns & 1
        parent, column = (attacked == 0).nonzero(as_tuple=True)
        queen = 1 << column
        vertical, falling, rising = (
            vertical[parent] | queen,
            (falling[parent] | queen) << 1,
            (rising[parent] | queen) >> 1,
        )
        boards = torch.cat([boards[parent], column[:, None].to(torch.int8)], 1)
    return boards


class Inputs(NamedTuple):
    """U different inputs and the P pairs of an input and a completion, those of an input side by side."""

    key: Tensor  # [U] int64, ascending: the sum over kept queens of (column + 1) (n + 1)^row
    first: Tensor  # [U] int64: the first of its completions
    num: Tensor  # [U] int64: how many completions it has
    solution: Tensor  # [P] int16: rows of the table of all solutions


def unique_inputs(solutions: Tensor, removed: Sequence[int]) -> Inputs:
    """All inputs which k in ``removed`` queens taken from each of ``solutions [S, n]`` leave.

    Needs about 60 bytes for each of the S · Σ_k C(n, k) pairs.
    """
    n = solutions.shape[1]
    kept = torch.arange(2**n)[:, None] >> torch.arange(n) & 1
    kept = kept[torch.isin(n - kept.sum(1), torch.tensor(removed))]
    keys = ((solutions.long() + 1) * (n + 1) ** torch.arange(n)) @ kept.T
    ordered, pair = keys.flatten().sort(stable=True)
    key, num = ordered.unique_consecutive(return_counts=True)
    return Inputs(key, num.cumsum(0) - num, num, (pair // len(kept)).to(torch.int16))
