"""Grids on canvases of 30 x 30 tokens, many at a time.

A grid stands somewhere on its canvas as colours + 2. A line of end tokens runs along its right and its lower side
where the canvas has room, and all else is padding: the encoding of HRM and TRM (arXiv:2506.21734, 2510.04871).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor

from ..boards import grid_neighbours
from .data import COLORS, SIDE, Grid

PAD, EOS, FIRST = 0, 1, 2  # padding, end, colour 0
VOCABULARY = FIRST + COLORS
LENGTH = SIDE * SIDE


class Grids(NamedTuple):
    """B grids, each in the upper left corner of a square that is 0 elsewhere."""

    cells: Tensor  # [B, 30, 30] int64 or uint8, colours
    sizes: Tensor  # [B, 2] int64, rows and columns


def stack(grids: Sequence[Grid | None]) -> Grids:
    """Grids of any sizes in one tensor; None has size 0 x 0."""
    cells = torch.zeros(len(grids), SIDE, SIDE, dtype=torch.uint8)
    sizes = torch.zeros(len(grids), 2, dtype=torch.long)
    for k, grid in enumerate(grids):
        if grid is not None:
            cells[k, : grid.shape[0], : grid.shape[1]] = torch.from_numpy(grid)
            sizes[k] = torch.tensor(grid.shape)
    return Grids(cells, sizes)


def _inside(row: Tensor, column: Tensor, sizes: Tensor) -> Tensor:
    rows, columns = sizes[:, :1, None], sizes[:, 1:, None]
    return (row >= 0) & (row < rows) & (column >= 0) & (column < columns)


def _pick(cells: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """``cells[b, row[b, i, j], column[b, i, j]]``, ``[B, 30, 30]``; indices off the canvas give any cell."""
    index = row.clamp(0, SIDE - 1) * SIDE + column.clamp(0, SIDE - 1)
    return cells.flatten(1).gather(1, index.flatten(1)).unflatten(1, (SIDE, SIDE))


def transform(grids: Grids, augmentations: Tensor) -> Grids:
    """Each grid under an augmentation of its own.

    Args:
        grids: B grids.
        augmentations: ``[B, 1 + 10]``, dihedral element and new colours, as ``Augmentation`` has them.
    """
    rows = augmentations.long()
    transpose, by_rows, by_columns = ((rows[:, 0] & bit).bool()[:, None, None] for bit in (4, 2, 1))
    sizes = torch.where(transpose[:, 0], grids.sizes.flip(1), grids.sizes)
    place = torch.arange(SIDE, device=rows.device)
    i, j = place[:, None], place
    row = torch.where(by_rows, sizes[:, :1, None] - 1 - i, i)
    column = torch.where(by_columns, sizes[:, 1:, None] - 1 - j, j)
    old = _pick(grids.cells, torch.where(transpose, column, row), torch.where(transpose, row, column))
    new = rows[:, 1:].gather(1, old.flatten(1).long()).unflatten(1, (SIDE, SIDE))
    return Grids(new.masked_fill(~_inside(i, j, sizes), 0), sizes)


def write(grids: Grids, offsets: Tensor) -> Tensor:
    """Canvases with each grid's upper left corner at ``offsets [B, 2]``: ``[B, 900]`` int64; what is off it is cut."""
    place = torch.arange(SIDE, device=offsets.device)
    row, column = place[:, None] - offsets[:, :1, None], place - offsets[:, 1:, None]
    rows, columns = grids.sizes[:, :1, None], grids.sizes[:, 1:, None]
    below = (row == rows) & (column >= 0) & (column < columns)
    beside = (column == columns) & (row >= 0) & (row < rows)
    tokens = (below | beside).long() * EOS
    colors = _pick(grids.cells, row.expand(-1, -1, SIDE), column.expand(-1, SIDE, -1)).long() + FIRST
    return torch.where(_inside(row, column, grids.sizes), colors, tokens).flatten(1)


def read(canvas: Tensor) -> tuple[Grids, Tensor, Tensor]:
    """The grids on canvases ``[B, 900]`` of any tokens, their offsets ``[B, 2]``, and which are there at all, ``[B]``.

    There is a grid if the colours fill one rectangle and all else is padding or end tokens, wherever these stand.
    """
    tokens = canvas.long().unflatten(1, (SIDE, SIDE))
    color = (tokens >= FIRST) & (tokens < VOCABULARY)
    rows, columns = color.any(2).long(), color.any(1).long()
    sizes = torch.stack([rows.sum(1), columns.sum(1)], 1)
    offsets = torch.stack([rows.argmax(1), columns.argmax(1)], 1)
    place = torch.arange(SIDE, device=canvas.device)
    row, column = place[:, None] + offsets[:, :1, None], place + offsets[:, 1:, None]
    there = _inside(place[:, None], place, sizes)
    cells = _pick(torch.where(color, tokens - FIRST, -1), *torch.broadcast_tensors(row, column))
    full = ((cells >= 0) | ~there).all((1, 2)) & (color.sum((1, 2)) == sizes.prod(1)) & (sizes[:, 0] > 0)
    known = (tokens >= 0) & (tokens < VOCABULARY)
    return Grids(cells.clamp(min=0).masked_fill(~there, 0), sizes), offsets, full & known.all((1, 2))


def cut(canvas: Tensor, side: int) -> Tensor:
    """The upper left ``side`` x ``side`` tokens of canvases: ``[..., 900] -> [..., side²]``."""
    return canvas.unflatten(-1, (SIDE, SIDE))[..., :side, :side].flatten(-2)


def grow(canvas: Tensor) -> Tensor:
    """Canvases of any side made full by padding on the right and below: ``[..., side²] -> [..., 900]``."""
    side = isqrt(canvas.shape[-1])
    square = canvas.unflatten(-1, (side, side))
    return torch.nn.functional.pad(square, (0, SIDE - side) * 2, value=PAD).flatten(-2)


def encode(grid: Grid, offset: tuple[int, int] = (0, 0)) -> Tensor:
    """The canvas ``[900]`` int64 of one grid, its upper left corner at row and column ``offset``.

    Raises:
        ValueError: the grid has no room there.
    """
    if any(not 0 <= start <= SIDE - size for start, size in zip(offset, grid.shape, strict=True)):
        raise ValueError(f"offset: a grid of {list(grid.shape)} at {list(offset)} leaves the canvas of side {SIDE}.")
    return write(stack([grid]), torch.tensor([offset]))[0]


def decode(canvas: Tensor) -> list[Grid | None]:
    """The grid of each canvas, ``[..., 900]`` of any tokens, in a flat list; None where ``read`` finds none."""
    found: list[Grid | None] = []
    for part in canvas.reshape(-1, LENGTH).cpu().split(1 << 12):
        grids, _, good = read(part)
        cells = grids.cells.to(torch.uint8).numpy()
        rows = zip(cells, grids.sizes.tolist(), good.tolist(), strict=True)
        found += [square[:h, :w].copy() if there else None for square, (h, w), there in rows]
    return found


def relations(side: int) -> Tensor:
    """Cells in the same row, in the same column, next to each other; the puzzle's number is related to nothing."""
    place = torch.arange(side * side)
    row, column = place // side, place % side
    relations = torch.stack([row[:, None] == row, column[:, None] == column, grid_neighbours(side, side)])
    return torch.nn.functional.pad(relations, (1, 0, 1, 0))
