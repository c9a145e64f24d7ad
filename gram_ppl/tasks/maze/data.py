"""Mazes and their split: made at random, or loaded from files."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..boards import fingerprint
from .paths import BLOCK, GOAL, OPEN, START, WALL, Mazes, Size, distances, num_paths, prepare

PATIENCE = 100  # rounds of drawing in a row that bring nothing new before a request counts as impossible


class Split(NamedTuple):
    """Held-out mazes, all different, and the mazes that training rows are made from, none of them held out."""

    train: Mazes
    validation: Mazes
    test: Mazes
    labels: Tensor | None = None  # the file's path through each test maze, [num_test, L]
    paths: Tensor | None = None  # and through each of ``train``


def made(
    size: Size,
    wall_share: tuple[float, float],
    min_length: int,
    paths: tuple[int, int],
    num_validation: int,
    num_test: int,
    pool: int,
    seed: int,
) -> Split:
    """Random walls, a random start, and a random goal at least ``min_length`` steps away from it.

    Each cell is a wall with a probability that is drawn anew for each maze, uniformly from ``wall_share``. Then the
    start is uniform over the other cells and the goal uniform over those far enough. A board without such a goal, or
    with fewer or more shortest paths than ``paths`` says, is drawn again.
    """
    length = size[0] * size[1]

    def draw(num: int, generator: torch.Generator) -> Mazes:
        share = wall_share[0] + (wall_share[1] - wall_share[0]) * torch.rand(num, 1, generator=generator)
        free = torch.rand(num, length, generator=generator) >= share
        start = _one_of(free, generator)
        goal = _one_of(distances(free, start, size) >= min_length, generator)
        x = torch.where(free, OPEN, WALL).masked_fill(start, START).masked_fill(goal, GOAL)
        mazes = prepare(x, size)
        number = num_paths(mazes)
        return mazes.take((paths[0] <= number) & (number <= paths[1]))

    train, validation, test = (torch.Generator().manual_seed(3 * seed + k) for k in range(3))
    none = torch.zeros(0, dtype=torch.long)
    tests = _collect(num_test, lambda num: draw(num, test), none)
    held = fingerprint(tests.x)
    validations = _collect(num_validation, lambda num: draw(num, validation), held)
    held = torch.cat([held, fingerprint(validations.x)])
    return Split(_collect(pool, lambda num: draw(num, train), held, distinct=False), validations, tests)


def _one_of(cells: Tensor, generator: torch.Generator) -> Tensor:
    """One of the cells of each board, uniformly: ``[B, L] -> [B, L]`` bool, none where there is none."""
    score = torch.rand(cells.shape, generator=generator, dtype=torch.float64).masked_fill_(~cells, -1.0)
    return torch.zeros_like(cells).scatter_(1, score.argmax(1, keepdim=True), True) & cells


def _collect(num: int, draw: Callable[[int], Mazes], taken: Tensor, distinct: bool = True) -> Mazes:
    """``num`` mazes out of repeated draws, ``distinct`` ones if so, none whose fingerprint is taken."""
    found, parts, idle = 0, [draw(1).take(torch.zeros(0, dtype=torch.long))], 0
    while found < num:
        if idle == PATIENCE:
            raise ValueError(f"size, wall_share, min_length, num_paths: found only {found} mazes, {num} are needed.")
        new = draw(BLOCK)
        marks = fingerprint(new.x)
        keep = torch.isin(marks, taken, invert=True)
        if distinct:
            first = torch.zeros_like(keep)
            first[torch.from_numpy(np.unique(marks.numpy(), return_index=True)[1])] = True
            keep &= first
        rows = keep.nonzero()[: num - found, 0]
        if distinct:
            taken = torch.cat([taken, marks[rows]])
        idle = 0 if len(rows) else idle + 1
        found += len(rows)
        parts.append(new.take(rows))
    return Mazes(*(torch.cat(field) for field in zip(*parts, strict=True)))


def loaded(
    root: str | PathLike[str],
    size: Size,
    verify: Callable[[Tensor, Tensor], Tensor],
    num_validation: int,
    num_test: int,
    seed: int,
) -> Split:
    """Mazes of a folder with one file ``*_train.npz`` and one ``*_test.npz``; ``read_npz`` says what is in them.

    Test mazes are random ones of the second, validation mazes of the first; the rest of the first, without test
    mazes, is for training.
    """
    files = (read_npz(_only(Path(root), f"*_{name}.npz"), size, verify) for name in ("train", "test"))
    (rows, paths), (others, labels) = files
    generator = torch.Generator().manual_seed(seed)

    def chosen(source: Tensor, num: int, taken: Tensor) -> Tensor:
        """Which ones: their numbers."""
        marks = fingerprint(source)
        first = torch.from_numpy(np.unique(marks.numpy(), return_index=True)[1])
        first = first[torch.isin(marks[first], taken, invert=True)]
        if len(first) < num:
            raise ValueError(f"{root}: {num} different mazes are to be held out, and there are only {len(first)}.")
        return first[torch.randperm(len(first), generator=generator)[:num]]

    tests = chosen(others, num_test, torch.zeros(0, dtype=torch.long))
    test = others[tests]
    validation = rows[chosen(rows, num_validation, fingerprint(test))]
    apart = torch.isin(fingerprint(rows), fingerprint(torch.cat([test, validation])), invert=True)
    if not apart.any():
        raise ValueError(f"{root}: holding out {num_validation} + {num_test} mazes leaves none to train on.")
    parts = (prepare(rows[apart], size), prepare(validation, size), prepare(test, size))
    return Split(*parts, labels[tests], paths[apart])


def _only(root: Path, pattern: str) -> Path:
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        raise ValueError(f"root: expected a folder with one file {pattern}, found {len(found)} in {root}.")
    return found[0]


def read_npz(
    path: str | PathLike[str], size: Size, verify: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The mazes of a NumPy archive and their labels: ``[N, L]`` uint8 each.

    It holds ``inputs`` and ``labels``, ``[N, L]`` integers each: 0 pad, 1 wall, 2 open, 3 start, 4 goal, and in the
    labels 5 for the cells of a shortest path. Nothing in it is unpickled.

    Raises:
        ValueError: a missing or damaged file, other arrays, or a label that ``verify`` refuses; the message says where.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            x, y = archive["inputs"], archive["labels"]
    except Exception as error:  # NumPy, zipfile and zlib each have their own
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: expected a NumPy archive of inputs and labels, found none ({reason}).") from error
    length = size[0] * size[1]
    for name, array in (("inputs", x), ("labels", y)):
        if array.dtype.kind not in "iu" or array.ndim != 2 or array.shape[1] != length or len(array) != len(x):
            raise ValueError(
                f"{path}: expected {name} to be integers of shape [N, {length}] for {size[0]} x {size[1]} cells, "
                f"as many as inputs, found {array.dtype} of {list(array.shape)}."
            )
    boards, labels = (torch.from_numpy(array.astype(np.int64)) for array in (x, y))
    good = verify(boards, labels)
    if not good.all():
        raise ValueError(
            f"{path}, maze {int(good.int().argmin()) + 1}: expected one start and one goal in the input, "
            "and a shortest path between them as its label."
        )
    return boards.to(torch.uint8), labels.to(torch.uint8)
