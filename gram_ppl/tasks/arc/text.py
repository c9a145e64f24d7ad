"""Questions of ARC as text: one in a line of JSON, or those of a file of the public set or of the competition."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..written import Piece
from .data import Grid, Puzzle, as_grid, puzzle_of


def question(text: str, names: Mapping[str, int], num_puzzles: int, side: int) -> tuple[int, Grid]:
    """Puzzle and grid of ``{"puzzle": name of a task or number of a puzzle, "input": [[...], ...]}``.

    Args:
        text: the line.
        names: the first puzzle of each task.
        num_puzzles: puzzles there are.
        side: of the canvas.

    Raises:
        ValueError: no JSON of this form, an unknown puzzle, or a grid that is none.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.keys() != {"puzzle", "input"}:
        raise ValueError('Expected {"puzzle": name of a task or number of a puzzle, "input": [[...], ...]} as JSON.')
    puzzle = content["puzzle"]
    if isinstance(puzzle, str):
        if puzzle not in names:
            raise ValueError(f"There is no task {puzzle[:40]!r} among the {len(names)} tasks.")
        puzzle = names[puzzle]
    if type(puzzle) is not int or not 0 <= puzzle < num_puzzles:
        raise ValueError(f"Expected the name of a task or a puzzle from 0 to {num_puzzles - 1}.")
    try:
        grid = as_grid(content["input"])
    except ValueError as error:
        raise ValueError(f"The input is no grid: {error}.") from None
    if max(grid.shape) > side:
        raise ValueError(f"The input is a grid of {list(grid.shape)}, and the canvas has side {side}.")
    return puzzle, grid


def asked_in(text: str, name: str, tasks: Sequence[Puzzle]) -> list[Piece] | None:
    """A line for each test input of one task ``{"train": [...], "test": [...]}``, or of several by name.

    A file with one task has its name; a task of another name is found by its demonstrations.

    Args:
        text: the whole file.
        name: of the file.
        tasks: those that the model knows.

    Returns:
        None if the file has lines of questions.

    Raises:
        ValueError: neither of these; the message names file and line, or task and pair.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not isinstance(error, json.JSONDecodeError) or _has_lines(text):
            return None
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{name}, {place}: expected JSON, found a fault ({error.msg}).") from None
    if not isinstance(content, dict) or "puzzle" in content:
        return None
    path, pieces = Path(name), []
    for key, task in ({path.stem: content} if "train" in content else content).items():
        asked = puzzle_of(task, path, key, None)
        known = [one.name for one in tasks if one.name == key or _shown(one) == _shown(asked)]
        if not known:
            raise ValueError(f"{name}: task {key[:40]!r} is none of the {len(tasks)} tasks that the model knows.")
        for pair in asked.test:
            line = {"puzzle": key if key in known else known[0], "input": pair.input.tolist()}
            pieces.append(Piece(json.dumps(line, separators=(",", ":")), None))
    return pieces


def _shown(task: Puzzle) -> list[tuple[object, object]]:
    return [(pair.input.tolist(), None if pair.output is None else pair.output.tolist()) for pair in task.train]


def _has_lines(text: str) -> bool:
    """Whether the first line that is no comment is JSON of its own, or none begins an object."""
    bare = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    try:
        return not bare or bool(json.loads(bare[0])) or len(bare) == 1
    except (ValueError, RecursionError):
        return not text.lstrip().startswith("{")
