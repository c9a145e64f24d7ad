"""Puzzles from the command line: one in an argument, or one a line in a file or on standard input."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ..tasks.base import Task

STDIN = "-"


class Puzzle(NamedTuple):
    """A puzzle as it was written, and as the task reads it."""

    text: str
    x: Tensor  # [L_in] int64


def read(task: Task, source: str) -> list[Puzzle]:
    """Every puzzle of a source; all are checked before any is answered.

    Args:
        task: reads them.
        source: a puzzle, the name of a file, or ``-`` for standard input. Blank lines and comments, which start with
            the task's ``comment`` mark, don't count.

    Raises:
        ValueError: a puzzle that is none, with the line that it stands in; no puzzle at all; no text.
    """
    if source != STDIN and not os.path.isfile(source):
        try:
            return [Puzzle(source, task.parse(source))]
        except ValueError as error:
            short = source if len(source) <= 100 else f"{source[:97]}..."
            raise ValueError(f"{short!r} is neither a file nor a puzzle: {error}") from None
    name = "standard input" if source == STDIN else source
    try:
        text = sys.stdin.read() if source == STDIN else Path(source).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{name}: not a text file") from None
    puzzles, wrong = [], []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line:
            try:
                puzzles.append(Puzzle(line, task.parse(line)))
            except ValueError as error:
                if not f"{line} ".startswith(task.comment):
                    wrong.append(f"line {number}: {error}")
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{name}, {wrong[0]}{more}")
    if not puzzles:
        raise ValueError(f"{name}: there is no puzzle in it")
    return puzzles
