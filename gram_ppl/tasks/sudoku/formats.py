"""Sudoku in the files that other programs write: lines, printed boards, ``.sdk``, ``.sdm``, ``.ss``, CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from ..written import Piece, marks

COLUMNS = ("puzzle", "puzzles", "quiz", "quizzes", "question", "questions")  # the heading of puzzles in a CSV file
DASHES = "-=" + "".join(map(chr, range(0x2500, 0x2580)))  # and the signs that boxes are drawn with
BARS = "|+:" + DASHES[2:]


def cells(text: str) -> list[tuple[int, str]]:
    """The characters that stand for cells, each with its index.

    White space, bars and lines that are drawn between boxes don't count, nor does what follows ``#``.
    """
    found, start = [], 0
    for line in text.splitlines(keepends=True):
        body = line.partition("#")[0]
        drawn = any(char in DASHES for char in body) and all(char in f"{DASHES}{BARS}* \t" for char in body.rstrip())
        found += [(start + k, char) for k, char in marks(body) if char not in BARS and not drawn]
        start += len(line)
    return found


def pieces(text: str, box: tuple[int, int]) -> Iterator[Piece]:
    """The puzzles of a file, each a line or a board of n rows.

    Of a file with sections, such as ``[Puzzle]`` and ``[State]``, those named ``[Puzzle]`` count; of a CSV file, which
    begins with the names of its columns, the column of puzzles.

    Args:
        text: the whole file.
        box: rows and columns of a box.
    """
    lines = text.splitlines()
    first = next((k for k, line in enumerate(lines) if line.partition("#")[0].strip()), 0)
    heading = [field.strip(' "').lower() for field in lines[first].split(",")] if lines else []
    for name in COLUMNS:
        if name in heading:
            yield from _column(lines, first + 1, heading.index(name))
            return
    sections = any(line.strip().lower() == "[puzzle]" for line in lines)
    wanted, rows = not sections, list[int]()
    for number, line in enumerate(lines, 1):
        section = sections and line.strip().startswith("[")
        width = 0 if section or not wanted else len(cells(line))
        gap = bool(line.strip()) or len(rows) % box[0] == 0  # boxes may have a blank line between them
        if rows and (section or (width != box[0] * box[1] if width else not gap)):
            yield _board(lines, rows)
            rows = []
        if section:
            wanted = line.strip().lower() == "[puzzle]"
        elif width == box[0] * box[1]:
            rows.append(number)
            if len(rows) == width:
                yield _board(lines, rows)
                rows = []
        elif width:
            yield Piece.of(line, number)
    if rows:
        yield _board(lines, rows)


def _board(lines: list[str], rows: list[int]) -> Piece:
    return Piece("\n".join(lines[rows[0] - 1 : rows[-1]]), rows[0])


def _column(lines: list[str], first: int, column: int) -> Iterator[Piece]:
    for number, line in enumerate(lines[first:], first + 1):
        if line.strip():
            try:
                fields = next(csv.reader([line]))
            except csv.Error:  # a field of more than 128 KiB
                fields = []
            field = fields[column].strip() if column < len(fields) else ""
            yield Piece(field, number, 1 + max(0, line.find(field)))
