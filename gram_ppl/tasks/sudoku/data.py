"""Sudoku puzzles and their split: made from random grids, or loaded from files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..boards import fingerprint
from .csv import locate, read_csv
from .exact import ExactSolver, ordered_grids
from .symmetry import random_symmetries

PATIENCE = 300  # rounds of drawing in a row that bring nothing new before a request counts as impossible


class Puzzles(NamedTuple):
    """P puzzles, each with one of its solutions."""

    x: Tensor  # [P, n * n] uint8
    y: Tensor  # [P, n * n] uint8


class Split(NamedTuple):
    """Held-out puzzles, all different, and what training is drawn from (held-out puzzles may come up again there)."""

    train: Puzzles
    validation: Puzzles
    test: Puzzles


def within(name: str, bounds: Sequence[int], most: int) -> tuple[int, int]:
    """Fewest and most of something.

    Raises:
        ValueError: they are not in order, or out of 0 .. ``most``.
    """
    lo, hi = bounds
    if not 0 <= lo <= hi <= most:
        raise ValueError(f"{name}: expected 0 <= fewest <= most <= {most}, found {lo} and {hi}.")
    return lo, hi


def uniform_ints(bounds: tuple[int, int], num: int, generator: torch.Generator) -> Tensor:
    """``[num, 1]`` int64, uniform between the bounds, both included."""
    return torch.randint(bounds[0], bounds[1] + 1, (num, 1), generator=generator)


def reveal(x: Tensor, y: Tensor, num: Tensor, generator: torch.Generator) -> Tensor:
    """``x`` with ``num [B, 1]`` more cells of ``y``, uniformly random among the blank ones: ``[B, n * n]``."""
    score = torch.rand(x.shape, generator=generator).masked_fill_(x > 0, 2.0)
    rank = score.argsort(1).argsort(1)
    return torch.where(rank < num, y, x)


def made(
    box: tuple[int, int],
    clues: tuple[int, int],
    held_clues: tuple[int, int],
    unique: bool,
    by_grid: bool,
    num_validation: int,
    num_test: int,
    pool: int,
    seed: int,
) -> Split:
    """Puzzles from random grids, with a uniform number of givens in uniformly random cells.

    Up to n = 6 all grids are listed but for the names of the digits, so a random symmetry of a random one is uniform
    over all grids. Training puzzles are blank, to be revealed by the caller, unless they are to be unique.
    """
    solver, side = ExactSolver(box), box[0] * box[1]
    validation, test, train, split = (torch.Generator().manual_seed(4 * seed + k) for k in range(4))
    small = side <= 6
    listed = ordered_grids((box[0], box[1])) if small else np.stack([solver.random_grid(train) for _ in range(pool)])
    grids = torch.from_numpy(listed)

    def any_grid(num: int, generator: torch.Generator) -> Tensor:
        chosen = grids[torch.randint(len(grids), (num,), generator=generator)]
        return random_symmetries(box, num, generator)(chosen)

    def puzzles(y: Tensor, generator: torch.Generator, clues: tuple[int, int] = held_clues) -> Puzzles:
        targets = uniform_ints(clues, len(y), generator)
        if not unique:
            return Puzzles(reveal(torch.zeros_like(y), y, targets, generator), y)
        pairs = zip(y.numpy(), targets.flatten().tolist(), strict=True)
        x = torch.from_numpy(np.stack([solver.dig(grid, target, generator) for grid, target in pairs]))
        few = (x > 0).sum(1) <= clues[1]
        return Puzzles(x[few], y[few])

    held_grid = any_grid
    if by_grid:
        # so that training keeps most of the 288 grids of the smallest board
        most = len(grids) * factorial(side) // 5 if small else num_validation + num_test
        num_grids = max(1, min(num_validation + num_test, most))
        kept = _collect(num_grids, lambda num: Puzzles(y := any_grid(num, split), y), "grids").y.long()

        def held_grid(num: int, generator: torch.Generator) -> Tensor:
            return kept[torch.randint(len(kept), (num,), generator=generator)]

    tests = _collect(num_test, lambda num: puzzles(held_grid(num, test), test), "puzzles")
    validations = _collect(
        num_validation, lambda num: puzzles(held_grid(num, validation), validation), "puzzles", fingerprint(tests.x)
    )
    if unique:
        trains = _collect(pool, lambda num: puzzles(any_grid(num, train), train, clues), "puzzles", distinct=False)
    else:
        trains = Puzzles(torch.zeros(1, side**2, dtype=torch.uint8).expand(len(grids), -1), grids.to(torch.uint8))
    return Split(trains, validations, tests)


def _collect(
    num: int, draw: Callable[[int], Puzzles], what: str, taken: Tensor | None = None, distinct: bool = True
) -> Puzzles:
    """``num`` puzzles out of repeated draws, ``distinct`` ones if so, none whose fingerprint is taken."""
    none = draw(1).y[:0].to(torch.uint8)
    found, idle = Puzzles(none, none), 0
    while len(found.x) < num:
        if idle == PATIENCE:
            raise ValueError(f"clues: found only {len(found.x)} different {what}, {num} are needed.")
        new = draw(num - len(found.x))
        x, y = torch.cat([found.x, new.x.to(torch.uint8)]), torch.cat([found.y, new.y.to(torch.uint8)])
        keep = torch.arange(len(x))
        if distinct:
            marks = fingerprint(x)
            keep = torch.from_numpy(np.sort(np.unique(marks.numpy(), return_index=True)[1]))
            if taken is not None:
                keep = keep[~torch.isin(marks[keep], taken)]
        idle = idle + 1 if len(keep) == len(found.x) else 0
        found = Puzzles(x[keep], y[keep])
    return found


def loaded(
    box: tuple[int, int],
    data: Sequence[str],
    test_data: Sequence[str] | None,
    by_grid: bool,
    held_reveal: tuple[int, int],
    num_validation: int,
    num_test: int,
    seed: int,
) -> Split:
    """Puzzles from files. The held-out ones are random; training has no row with their question (or their answer)."""

    def read(paths: Sequence[str]) -> Puzzles:
        parts = [read_csv(locate(path), box) for path in paths]
        return Puzzles(torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]))

    rows = read(data)
    others = rows if test_data is None else read(test_data)

    def chosen(source: Puzzles, num: int, generator: torch.Generator, taken: Tensor) -> Puzzles:
        marks = fingerprint(source.x)
        first = torch.from_numpy(np.unique(marks.numpy(), return_index=True)[1])
        first = first[~torch.isin(marks[first], taken)]
        if len(first) < num:
            raise ValueError(f"data: {num} different puzzles are to be held out, and there are only {len(first)}.")
        order = first[torch.randperm(len(first), generator=generator)[:num]]
        return Puzzles(source.x[order], source.y[order])

    generator = torch.Generator().manual_seed(seed)
    test = chosen(others, num_test, generator, torch.zeros(0, dtype=torch.long))
    validation = chosen(rows, num_validation, generator, fingerprint(test.x))
    held = torch.cat([test.x, validation.x]), torch.cat([test.y, validation.y])
    keep = ~torch.isin(fingerprint(rows.x), fingerprint(held[0]))
    if by_grid:
        keep &= ~torch.isin(fingerprint(rows.y), fingerprint(held[1]))
    if not keep.any():
        raise ValueError(f"data: holding out {num_validation} + {num_test} puzzles leaves none to train on.")
    validation, test = (
        Puzzles(reveal(part.x, part.y, uniform_ints(held_reveal, len(part.x), generator), generator), part.y)
        for part in (validation, test)
    )
    return Split(Puzzles(rows.x[keep], rows.y[keep]), validation, test)
