"""Puzzles: one in an argument or a text box, those of a file or of standard input; how many solutions one has."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import Tensor

from ..tasks.base import Puzzle, Task, takes_limit

STDIN = "-"
COUNTED = 10_000  # solutions that are listed in order to count them
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how text begins that some Windows programs write


def read(task: Task, source: str) -> list[Puzzle]:
    """Every puzzle of a source; all are checked before any is answered.

    Args:
        task: reads them, in all formats that it knows.
        source: a puzzle, the name of a file, or ``-`` for standard input.

    Raises:
        ValueError: a puzzle that is none, with line and column; no puzzle at all; no text; a folder.
    """
    if not source.strip():
        raise ValueError("the puzzle is empty")
    if source != STDIN and os.path.isdir(source):
        raise ValueError(f"{source} is a folder: name a file of it")
    if source != STDIN and not os.path.exists(source):
        try:
            return [Puzzle(source, task.parse(source))]
        except ValueError as error:
            short = source if len(source) <= 100 else f"{source[:97]}..."
            raise ValueError(f"{short!r} is neither a file nor a puzzle: {error}") from None
    name = "standard input" if source == STDIN else source
    content = sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()
    try:
        text = content.decode("utf-16" if content.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: not a text file") from None
    puzzles = task.read(text, name)
    if not puzzles:
        raise ValueError(f"{name}: there is no puzzle in it")
    return puzzles


def graph(task: Task, file: Path) -> list[Puzzle]:
    """The graphs of a file.

    Raises:
        ValueError: the task has no graphs, there is no such file, or as :func:`read`.
    """
    if not task.graphs:
        raise ValueError(f"--graph: inputs of {type(task).__name__} are no graphs")
    if not file.exists():
        raise ValueError(f"--graph: there is no file {file}")
    return read(task, str(file))


def pasted(task: Task, text: str) -> Puzzle:
    """The one puzzle of a text in any format of the task; the text never names a file.

    Raises:
        ValueError: none, or several.
    """
    try:
        return Puzzle(text, task.parse(text))
    except ValueError as error:
        try:
            found = task.read(text, "the text")
        except ValueError:
            found = []
        if not found:
            raise error from None
    if len(found) > 1:
        raise ValueError(f"One puzzle at a time, please: there are {len(found)}.")
    return found[0]


def count(task: Task, x: Tensor) -> tuple[int, bool]:
    """How many solutions an input has, and whether that is the exact number or only a lower bound."""
    if type(task).num_solutions is Task.num_solutions and takes_limit(task):
        number = len(task.first_solutions(x, COUNTED + 1))
        return min(number, COUNTED), number <= COUNTED
    return task.num_solutions(x), True


def known(task: Task, x: Tensor) -> tuple[int, bool] | None:
    """How many solutions there are, where that can be counted."""
    if not task.listable:
        return None
    try:
        with torch.no_grad():
            return count(task, x)
    except NotImplementedError:
        return None
