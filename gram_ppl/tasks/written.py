"""Puzzles as they stand in files: the pieces of a file, and where in it a fault lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor


class Puzzle(NamedTuple):
    """A puzzle as it was written, and as the task reads it."""

    text: str
    x: Tensor  # [L_in] int64


class Misread(ValueError):
    """What is wrong with a text, in one sentence.

    Args:
        sentence: that.
        at: index of the character where the fault lies, where there is one.
    """

    def __init__(self, sentence: str, at: int | None = None) -> None:
        super().__init__(sentence)
        self.at = at


class Piece(NamedTuple):
    """The part of a file that is one puzzle."""

    text: str
    line: int | None  # of its first character, from 1; None where the whole file is one puzzle
    column: int = 1  # of its first character

    @classmethod
    def of(cls, line: str, number: int) -> Piece:
        """A line as a puzzle."""
        return cls(line.strip(), number, 1 + len(line) - len(line.lstrip()))

    def place(self, error: ValueError) -> str:
        """Where in the file a fault lies: its line, and its column where that is known."""
        if not isinstance(error, Misread) or error.at is None:
            return "" if self.line is None else f", line {self.line}"
        before = self.text[: error.at]
        line, start = before.count("\n"), before.rfind("\n") + 1
        column = error.at - start + (1 if line else self.column)
        return f", line {(self.line or 1) + line}, column {column}"


def lines(text: str) -> list[Piece]:
    """A piece for each line that is not blank."""
    return [Piece.of(line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def boards(text: str, rows: int, columns: int) -> list[Piece]:
    """As :func:`lines`, but ``rows`` lines after each other with ``columns`` characters each are one piece.

    White space does not count as a character, and lines are blank or not by the same rule.
    """
    written, found, at = text.splitlines(), list[Piece](), 0
    widths = [len(marks(line)) for line in written]
    while at < len(written):
        drawn = rows > 1 and widths[at : at + rows] == [columns] * rows
        if drawn:
            found.append(Piece("\n".join(written[at : at + rows]), at + 1))
        elif widths[at]:
            found.append(Piece.of(written[at], at + 1))
        at += rows if drawn else 1
    return found


def marks(text: str) -> list[tuple[int, str]]:
    """All characters but white space, each with its index."""
    return [(k, char) for k, char in enumerate(text) if not char.isspace()]


def parsed(name: str, pieces: Iterable[Piece], parse: Callable[[str], Tensor], comment: str = "") -> list[Puzzle]:
    """The puzzles of a file; all are read before any fault is told.

    Args:
        name: of the file, for messages.
        pieces: of the file.
        parse: reads one.
        comment: what a piece may start with that is no puzzle.

    Raises:
        ValueError: a piece that is no puzzle, with file, line and column.
    """
    puzzles, wrong = [], []
    for piece in pieces:
        try:
            puzzles.append(Puzzle(piece.text, parse(piece.text)))
        except ValueError as error:
            if not (comment and f"{piece.text} ".startswith(comment)):
                wrong.append(f"{name}{piece.place(error)}: {error}")
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{wrong[0]}{more}")
    return puzzles
