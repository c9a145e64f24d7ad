"""Puzzles from the command line: one in an argument, or those of a file or of standard input."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..tasks.base import Puzzle, Task

STDIN = "-"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how text begins that some Windows programs write


def read(task: Task, source: str) -> list[Puzzle]:
    """Every puzzle of a source; all are checked before any is answered.

    Args:
        task: reads them, in all formats that it knows.
        source: a puzzle, the name of a file, or ``-`` for standard input.

    Raises:
        ValueError: a puzzle that is none, with line and column; no puzzle at all; no text.
    """
    if source != STDIN and not os.path.isfile(source):
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
    if not file.is_file():
        raise ValueError(f"--graph: there is no file {file}")
    return read(task, str(file))
