"""ARC's score: two attempts at each test input, every cell right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .data import Grid, Puzzle
from .symmetry import Augmentation, vote

CANDIDATES = 2

Predictions = dict[str, list[list[Grid]]]  # task: for each test input, at most two grids


def score(puzzles: Sequence[Puzzle], predictions: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, float]:
    """See ``ARC.score``."""
    unknown = sorted(set(predictions) - {puzzle.name for puzzle in puzzles})
    if unknown:
        raise ValueError(f"predictions: there is no task {unknown[0]!r} to be answered.")
    right: list[list[tuple[bool, bool]]] = []
    for puzzle in puzzles:
        attempts = predictions.get(puzzle.name, [[]] * len(puzzle.test))
        if len(attempts) != len(puzzle.test):
            raise ValueError(
                f"predictions: task {puzzle.name} has {len(puzzle.test)} test inputs, found answers to {len(attempts)}."
            )
        if max(map(len, attempts)) > CANDIDATES:
            raise ValueError(f"predictions: task {puzzle.name} has more than {CANDIDATES} candidates for a test input.")
        known = [(grids, pair.output) for grids, pair in zip(attempts, puzzle.test, strict=True)]
        hits = [[_same(grid, output) for grid in grids] for grids, output in known if output is not None]
        if hits:
            right.append([(any(hit[:1]), any(hit)) for hit in hits])
    if not right:
        raise ValueError("No output of a test input is known, so there is nothing to score against.")
    by_task, by_input = [np.mean(task, axis=0) for task in right], np.concatenate(right)
    return {
        "pass_at_1": float(np.mean(by_task, axis=0)[0]),
        "pass_at_2": float(np.mean(by_task, axis=0)[1]),
        "inputs_pass_at_1": float(by_input.mean(0)[0]),
        "inputs_pass_at_2": float(by_input.mean(0)[1]),
        "tasks": float(len(right)),
        "inputs": float(len(by_input)),
    }


def _same(grid: Any, output: Grid) -> bool:
    try:
        return np.array_equal(np.asarray(grid), output)
    except ValueError:  # rows of different lengths are no grid
        return False


class Question(NamedTuple):
    """What one row of ``inputs`` asks."""

    task: str  # name of the task
    test: int  # which of its test inputs, from 0
    augmentation: Augmentation  # the version in which it is asked


def elected(questions: Sequence[Question], grids: Sequence[Grid | None]) -> Predictions:
    """The two most frequent grids for each test input, from as many answers to each question, side by side."""
    votes: dict[tuple[str, int], list[tuple[Augmentation, Grid | None]]] = {}
    num = len(grids) // max(1, len(questions))
    for k, question in enumerate(questions):
        ballot = votes.setdefault((question.task, question.test), [])
        ballot += [(question.augmentation, grid) for grid in grids[k * num : (k + 1) * num]]
    found: Predictions = {}
    for (name, _), ballot in votes.items():
        found.setdefault(name, []).append(vote(ballot)[:CANDIDATES])
    return found
