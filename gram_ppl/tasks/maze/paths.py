"""Shortest paths on boards of square cells: distances, exact counts and uniform draws, for many boards at once.

A cell at distance d from the goal has N(cell) = Σ N(next) shortest paths to it, over the neighbours at distance d - 1.
Going from the start to each next cell with probability N(next) / N(cell) draws every shortest path equally often.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

PAD, WALL, OPEN, START, GOAL, PATH = range(6)
BLOCK = 512  # boards at once, to stay in the cache

Size = tuple[int, int]


class Mazes(NamedTuple):
    """P solvable mazes and the way to their goals."""

    x: Tensor  # [P, L] uint8
    distance: Tensor  # [P, L] int16: steps to the goal, -1 where it is out of reach
    paths: Tensor  # [P, L] float64: number of shortest paths to the goal, exact up to 2^53, to 1e-13 beyond

    def take(self, rows: Tensor) -> Mazes:
        """The chosen mazes: indices, or one bool each."""
        return Mazes(*(field[rows] for field in self))


def waves(free: Tensor, source: Tensor, size: Size) -> Iterator[Tensor]:
    """The cells at most 0, 1, 2, ... steps from the source, until no more are reached.

    Args:
        free: ``[B, L]`` bool, cells that can be entered.
        source: ``[B, L]`` bool.
        size: rows and columns, L cells in all.

    Yields:
        ``[rows * (columns + 1), B]`` uint8, one tensor that changes in place.
    """
    entered, frame = _inner(_framed(free, size, torch.uint8), size), _framed(source, size, torch.uint8)
    reached = _inner(frame, size)
    while True:
        yield reached
        up, left, right, down = _around(frame, size)
        new = up | down
        new |= left
        new |= right
        new &= entered
        new |= reached
        if torch.equal(new, reached):
            return
        reached.copy_(new)


def distances(free: Tensor, source: Tensor, size: Size) -> Tensor:
    """Steps from the nearest source cell, -1 where there is no way: ``[B, L]`` bool twice ``-> [B, L]`` int16."""
    parts = []
    for part, start in zip(free.split(BLOCK), source.split(BLOCK), strict=True):
        distance = torch.zeros(size[0] * (size[1] + 1), len(part), dtype=torch.int16, device=free.device)
        for reached in waves(part, start, size):
            distance += 1 - reached
        parts.append(_bare(distance.masked_fill_(reached == 0, -1), size))
    return torch.cat(parts)


def shortest(x: Tensor, size: Size) -> Tensor:
    """Steps from start to goal, -1 if there is no path or no single start and goal: ``[..., L] -> [...]`` int64."""
    parts = []
    for part in x.reshape(-1, x.shape[-1]).split(BLOCK):
        start = (part == START) & (faults(part) == 0)[:, None]
        goal = _cell(part, GOAL)
        goal += goal.div(size[1], rounding_mode="floor")  # one column more
        distance = torch.zeros_like(goal)
        for reached in waves(passable(part), start, size):
            there = reached.gather(0, goal[None])[0]
            if there.all():
                break
            distance += 1 - there
        parts.append(torch.where(there.bool(), distance, -1))
    return torch.cat(parts).view(x.shape[:-1])


# A column more after each row, and a row more on both sides: the four neighbours of every cell are then shifts of one
# flat axis, and with the batch last each shift is one contiguous block.


def _framed(field: Tensor, size: Size, dtype: torch.dtype) -> Tensor:
    frame = torch.zeros(size[0] + 2, size[1] + 1, len(field), dtype=dtype, device=field.device)
    frame[1:-1, :-1] = field.T.unflatten(0, size)
    return frame.flatten(0, 1)


def _inner(frame: Tensor, size: Size) -> Tensor:
    return frame[size[1] + 1 : -size[1] - 1]


def _around(frame: Tensor, size: Size) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width = size[1] + 1
    return frame[: -2 * width], frame[width - 1 : -width - 1], frame[width + 1 : -width + 1], frame[2 * width :]


def _bare(field: Tensor, size: Size) -> Tensor:
    return field.unflatten(0, (size[0], size[1] + 1))[:, :-1].flatten(0, 1).T.contiguous()


def faults(x: Tensor) -> Tensor:
    """Tokens that no maze has, and starts and goals other than one each: ``[..., L] -> [...]`` int64."""
    strange = ((x < PAD) | (x > GOAL)).sum(-1)
    return strange + sum(((x == end).sum(-1) - 1).abs() for end in (START, GOAL))


def passable(x: Tensor) -> Tensor:
    """Cells that a path may use: ``[..., L]`` bool."""
    return (x == OPEN) | (x == START) | (x == GOAL)


def prepare(x: Tensor, size: Size) -> Mazes:
    """Those of the boards ``[B, L]`` that have a solution, with the ways to their goals."""
    x = x[shortest(x, size) > 0]
    parts = [_prepared(part, size) for part in x.split(BLOCK)]
    return Mazes(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _prepared(x: Tensor, size: Size) -> Mazes:
    distance = distances(passable(x), x == GOAL, size)
    steps, frame = _inner(_framed(distance, size, torch.int16), size), _framed(x == GOAL, size, torch.float64)
    number = _inner(frame, size).clone()
    for step in range(1, int(distance.max()) + 1 if len(x) else 0):
        up, left, right, down = _around(frame, size)
        new = up + down
        new += left
        new += right
        new *= steps == step
        number += new
        _inner(frame, size).copy_(new)
    return Mazes(x.to(torch.uint8), distance, _bare(number, size))


def num_paths(mazes: Mazes) -> Tensor:
    """The number of solutions of each maze: ``[P]`` float64."""
    return mazes.paths.gather(1, _cell(mazes.x, START)[:, None])[:, 0]


@cache
def neighbours(size: Size) -> Tensor:
    """The cells above, left, right, below, and the cell itself; L stands for none: ``[L, 5]`` int64."""
    cell = torch.arange(size[0] * size[1]).view(size)
    frame = torch.nn.functional.pad(cell, (1, 1, 1, 1), value=cell.numel())
    sides = frame[:-2, 1:-1], frame[1:-1, :-2], frame[1:-1, 2:], frame[2:, 1:-1], cell
    return torch.stack([side.flatten() for side in sides], 1)


def walk(mazes: Mazes, size: Size, choice: torch.Generator | Tensor) -> Tensor:
    """One solution of each maze, uniformly random or by its place in their order: ``[P, L]`` int64.

    The order of solutions is that of their turns: up, left, right, down.

    Args:
        mazes: P of them.
        size: rows and columns.
        choice: the source of randomness, or ``[P]``, places from 0 to the number of solutions less 1.
    """
    x, num = mazes.x.long(), len(mazes.x)
    near = neighbours(size)
    beyond = torch.zeros(num, 1)
    distance = torch.cat([mazes.distance, beyond.short() - 1], 1)
    paths = torch.cat([mazes.paths, beyond.double()], 1)
    at = _cell(x, START)
    on = torch.zeros_like(x, dtype=torch.bool)
    steps = int(distance.gather(1, at[:, None]).max()) if num else 0
    place = choice.double() if isinstance(choice, Tensor) else None
    for _ in range(steps - 1):
        sides = near[at]
        nearer = distance.gather(1, sides[:, :4]) < distance.gather(1, at[:, None])
        upto = (paths.gather(1, sides[:, :4]) * nearer).cumsum(1)  # 0 for a cell out of reach, and at the goal
        if place is None:
            assert isinstance(choice, torch.Generator)
            mark = torch.rand(num, generator=choice, dtype=torch.float64) * upto[:, -1]
        else:
            mark = place
        taken = (mark[:, None] >= upto).sum(1, keepdim=True)  # 4 at the goal: stay there
        if place is not None:
            place = place - torch.cat([beyond.double(), upto], 1).gather(1, taken)[:, 0]
        at = sides.gather(1, taken)[:, 0]
        on.scatter_(1, at[:, None], True)
    return torch.where(on & (x == OPEN), PATH, x)


def count_paths(x: list[int], size: Size) -> int:
    """The exact number of shortest paths from start to goal, at most one of each: ``[L]`` tokens."""
    if x.count(START) != 1 or x.count(GOAL) != 1:
        return 0
    near, goal = neighbours(size)[:, :4].tolist(), x.index(GOAL)
    seen, front = {x.index(START)}, {x.index(START): 1}
    while front and goal not in front:
        new: dict[int, int] = {}
        for cell, number in front.items():
            for other in near[cell]:
                if other < len(x) and other not in seen and x[other] in (OPEN, GOAL):
                    new[other] = new.get(other, 0) + number
        seen |= new.keys()
        front = new
    return front.get(goal, 0)


def _cell(x: Tensor, token: int) -> Tensor:
    return (x == token).to(torch.uint8).argmax(-1)
