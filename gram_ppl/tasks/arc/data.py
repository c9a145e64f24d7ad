"""ARC tasks from JSON: one file a task, or the challenges and solutions of the Kaggle competition.

A task is ``{"train": [{"input": grid, "output": grid}, ...], "test": [...]}``, a grid a list of rows of colours 0 .. 9.
The public sets (https://github.com/fchollet/ARC-AGI, https://github.com/arcprize/ARC-AGI-2) are folders
``data/{training,evaluation}`` of files ``<task>.json``. The competition (https://www.kaggle.com/competitions/
arc-prize-2025) has ``arc-agi_{training,evaluation,test}_challenges.json``, tasks by name whose test outputs are left
out, and ``..._solutions.json``, lists of those outputs by name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Source = str | PathLike[str]
SIDE = 30  # most rows and columns of a grid
COLORS = 10
PUBLISHED = {1: (400, 400), 2: (1000, 120)}  # training and evaluation tasks of the public sets, by version

Grid = np.ndarray  # [rows, columns] uint8, colours


class Pair(NamedTuple):
    """A question and its answer, None where that is hidden."""

    input: Grid
    output: Grid | None


class Puzzle(NamedTuple):
    """One task of ARC: demonstration pairs, and test pairs to be answered."""

    name: str
    train: tuple[Pair, ...]
    test: tuple[Pair, ...]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Demonstration pairs, then test pairs."""
        return self.train + self.test

    @property
    def side(self) -> int:
        """Rows or columns of its largest grid, test outputs among them."""
        answers = [pair.output for pair in self.test if pair.output is not None]
        return max(max(grid.shape) for grid in self.visible + answers)

    @property
    def visible(self) -> list[Grid]:
        """All grids but the test outputs."""
        return [pair.input for pair in self.pairs] + [pair.output for pair in self.train if pair.output is not None]


def as_grid(rows: Any) -> Grid:
    """Lists of colours as a grid.

    Raises:
        ValueError: not 1 to 30 rows of one length from 1 to 30, or a cell that is no colour; without a full stop.
    """
    if isinstance(rows, np.ndarray):
        rows = rows.tolist()
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise ValueError("expected a grid as a list of rows, each a list of colours")
    if not 1 <= len(rows) <= SIDE:
        raise ValueError(f"expected 1 to {SIDE} rows, found {len(rows)}")
    for i, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise ValueError(f"row {i} has {len(row)} cells, row 1 has {len(rows[0])}")
        if not 1 <= len(row) <= SIDE:
            raise ValueError(f"expected 1 to {SIDE} columns, found {len(row)}")
        for j, color in enumerate(row, 1):
            if type(color) is not int or not 0 <= color < COLORS:
                found = repr(color)[:40]
                raise ValueError(f"row {i}, column {j} is {found}: expected a colour from 0 to {COLORS - 1}")
    return np.array(rows, np.uint8)


def find_root(root: Source, version: int | None = None) -> Path:
    """The folder that holds the subsets: ``root``, its ``data``, or one named ``ARC-AGI-1`` or ``ARC-AGI-2`` in it.

    Raises:
        ValueError: there is none.
    """
    root = Path(root)
    names = ["."]
    if version is not None:
        names += [f"ARC-AGI-{version}", f"arc-agi-{version}"] + (["ARC-AGI"] if version == 1 else [])
    folders = [root / name / data for name in names for data in (".", "data")]
    for folder in folders:
        if (folder / "training").is_dir() or (folder / "arc-agi_training_challenges.json").is_file():
            return folder
    raise ValueError(
        f"{root}: expected ARC's folders training and evaluation, or arc-agi_training_challenges.json, "
        "there or in its folder data; found neither."
    )


def read_subset(folder: Path, subset: str) -> list[Puzzle]:
    """All tasks of one subset (``"training"``, ``"evaluation"``, ``"test"``), sorted by name.

    Raises:
        ValueError: a missing or damaged file; the message names the file, and the line or the task and pair.
    """
    if (folder / subset).is_dir():
        paths = sorted((folder / subset).glob("*.json"))
        if not paths:
            raise ValueError(f"{folder / subset}: expected files of tasks, <task>.json; found none.")
        return [puzzle_of(_read_json(path), path, path.stem, None) for path in paths]
    challenges = folder / f"arc-agi_{subset}_challenges.json"
    if not challenges.is_file():
        raise ValueError(f"{folder}: expected a folder {subset} or a file {challenges.name}; found neither.")
    content = _read_json(challenges)
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{challenges}: expected tasks by name, an object that is not empty.")
    solutions = folder / f"arc-agi_{subset}_solutions.json"
    if not solutions.is_file():
        return [puzzle_of(content[name], challenges, name, None) for name in sorted(content)]
    outputs = _read_json(solutions)
    if not isinstance(outputs, dict) or outputs.keys() != content.keys():
        raise ValueError(f"{solutions}: expected the outputs of the tasks in {challenges.name}, no other, by name.")
    return [puzzle_of(content[name], challenges, name, (solutions, outputs[name])) for name in sorted(content)]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: expected JSON, found a fault ({error.msg}).") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: expected JSON, found bytes that are no text.") from error
    except (ValueError, RecursionError, OSError) as error:  # an endless number, endless nesting, no permission
        raise ValueError(f"{path}: could not be read ({type(error).__name__}: {str(error)[:100]}).") from error


def puzzle_of(content: Any, path: Path, name: str, solutions: tuple[Path, Any] | None) -> Puzzle:
    """One task as JSON has it; ``solutions``: the file that has its test outputs, and these.

    Raises:
        ValueError: it is none; the message names file, task and pair.
    """
    at = f"{path}, task {name}"
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in ("train", "test")):
        raise ValueError(f"{at}: expected an object with the lists train and test.")
    parts: dict[str, tuple[Pair, ...]] = {}
    for key in ("train", "test"):
        if not content[key]:
            raise ValueError(f"{at}: expected at least one {key} pair, found none.")
        parts[key] = tuple(_pair(pair, f"{at}, {key} pair {k}", key) for k, pair in enumerate(content[key], 1))
    if solutions is not None:
        path, outputs = solutions
        at, num = f"{path}, task {name}", len(parts["test"])
        if not isinstance(outputs, list) or len(outputs) != num:
            raise ValueError(f"{at}: expected a list of as many outputs as the task has test inputs, {num}.")
        parts["test"] = tuple(
            pair._replace(output=_grid(output, f"{at}, test pair {k}"))
            for k, (pair, output) in enumerate(zip(parts["test"], outputs, strict=True), 1)
        )
    puzzle = Puzzle(name, **parts)
    _check_function(puzzle, at)
    return puzzle


def _pair(pair: Any, at: str, key: str) -> Pair:
    if not isinstance(pair, dict) or "input" not in pair or (key == "train" and "output" not in pair):
        raise ValueError(f"{at}: expected an object with " + ("input and output." if key == "train" else "input."))
    output = pair.get("output")
    hidden = output is None and key == "test"
    return Pair(_grid(pair["input"], f"{at}, input"), None if hidden else _grid(output, f"{at}, output"))


def _grid(rows: Any, at: str) -> Grid:
    try:
        return as_grid(rows)
    except ValueError as error:
        raise ValueError(f"{at}: {error}.") from None


def _check_function(puzzle: Puzzle, at: str) -> None:
    """No input has two outputs: then each question has one answer, as ARC's rules have it."""
    seen: dict[tuple[tuple[int, ...], bytes], Grid] = {}
    for k, (question, answer) in enumerate(puzzle.pairs, 1):
        if answer is not None:
            other = seen.setdefault((question.shape, question.tobytes()), answer)
            if not np.array_equal(other, answer):
                raise ValueError(f"{at}, pair {k} in all: its input has another output in an earlier pair.")


class Sets(NamedTuple):
    """What an ARC task is made of."""

    training: list[Puzzle]
    asked: list[Puzzle]
    left_out: tuple[str, ...]  # training tasks that are asked too


def read_sets(
    version: int,
    root: Source,
    evaluation: str,
    extra: Sequence[Source],
    only: Sequence[str] | None = None,
    largest: int | None = None,
) -> Sets:
    """Training tasks, those of further sets among them, and the tasks to be answered.

    Two tasks are the same if they have the same name, or the same inputs; outputs of tests are not looked at, but for
    the size of the largest grid.

    Raises:
        ValueError: missing or damaged files, a set of another version, tasks of ``extra`` among those to be
            answered, an unknown name in ``only``, a single name in place of a list.
    """
    if version not in PUBLISHED:
        raise ValueError(f"version: expected 1 or 2, found {version!r}.")
    if isinstance(extra, (str, PathLike)) or isinstance(only, str):
        raise ValueError("extra and only: expected lists, found a single name.")
    folder = find_root(root, version)
    sources = [read_subset(folder, "training"), read_subset(folder, evaluation)]
    other = 3 - version
    if evaluation == "evaluation" and (len(sources[0]), len(sources[1])) == PUBLISHED[other]:
        raise ValueError(f"{folder}: expected ARC-AGI-{version}, found the numbers of tasks of ARC-AGI-{other}.")
    folders = [find_root(path) for path in extra]
    sources += [read_subset(path, "training") for path in folders]
    if only is not None:
        unknown = sorted(set(only).difference(puzzle.name for source in sources for puzzle in source))
        if unknown:
            raise ValueError(f"only: there is no task {unknown[0]!r} in what was read.")
        sources = [[puzzle for puzzle in source if puzzle.name in only] for source in sources]
    if largest is not None:
        sources = [[puzzle for puzzle in source if puzzle.side <= largest] for source in sources]
    training, asked, *further = sources
    names, contents = {puzzle.name for puzzle in asked}, {_inputs(puzzle) for puzzle in asked}

    def is_asked(puzzle: Puzzle) -> bool:
        return puzzle.name in names or _inputs(puzzle) in contents

    left_out = tuple(puzzle.name for puzzle in training if is_asked(puzzle))
    training = [puzzle for puzzle in training if not is_asked(puzzle)]
    known = {puzzle.name for puzzle in training} | {_inputs(puzzle) for puzzle in training}
    for path, source in zip(folders, further, strict=True):
        clash = [puzzle.name for puzzle in source if is_asked(puzzle)]
        if clash:
            raise ValueError(
                f"extra: {len(clash)} training tasks of {path} are among the tasks to be answered ({clash[0]} is one), "
                "so their answers would be trained on."
            )
        for puzzle in source:
            if puzzle.name not in known and _inputs(puzzle) not in known:
                training.append(puzzle)
                known |= {puzzle.name, _inputs(puzzle)}
    if not training and not asked:
        raise ValueError("only, largest: expected at least one task, found none.")
    return Sets(training, asked, left_out)


def _inputs(puzzle: Puzzle) -> frozenset[tuple[tuple[int, ...], bytes]]:
    return frozenset((pair.input.shape, pair.input.tobytes()) for pair in puzzle.pairs)


def side_for(puzzles: Sequence[Puzzle], side: int | None) -> int:
    """The side of a canvas for all grids of tasks: as given, or one more than that of the largest grid to be seen.

    Raises:
        ValueError: a grid is larger, or there is no such canvas.
    """
    if side is not None and not 1 <= side <= SIDE:
        raise ValueError(f"canvas: expected a side of 1 to {SIDE}, found {side}.")
    largest = max(max(grid.shape) for puzzle in puzzles for grid in puzzle.visible)
    side = min(largest + 1, SIDE) if side is None else side
    for puzzle in puzzles:
        if puzzle.side > side:
            raise ValueError(f"canvas: a grid of task {puzzle.name} is larger than a canvas of side {side}.")
    return side
