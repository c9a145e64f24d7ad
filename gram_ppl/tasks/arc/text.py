"""A question of ARC in one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .data import Grid, as_grid


def parsed(text: str, names: Mapping[str, int], num_puzzles: int, side: int) -> tuple[int, Grid]:
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
