"""How a board is laid out on a page: places, what a token looks like in one, and what stands around them.

Whoever draws a scene needs no rules: a task says where its answer's tokens stand and how each of them looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, cos, pi, sin, sqrt
from typing import Any, NamedTuple

OPEN = -1  # of a place that the input leaves open


class Mark(NamedTuple):
    """What one token looks like."""

    word: str  # for whoever can't see it
    text: str = ""  # a character in the place
    fill: str = ""  # "1" to "7" for a colour of the palette, "ink", or "#rrggbb"; nothing for none
    across: float = 0.0  # how far to the right of its place it stands


class Scene(NamedTuple):
    """A board; one place is 1 × 1, y points down."""

    width: float
    height: float
    places: list[tuple[float, float]]  # [L_out] centres
    names: list[str]  # [L_out] such as "row 1, column 2"
    marks: list[Mark]  # [vocab_out]
    given: list[int]  # [L_out] the token that the input puts there, OPEN where it puts none
    squares: Sequence[tuple[float, float, str]] = ()  # centres and fills of what lies behind the places
    lines: Sequence[tuple[float, float, float, float]] = ()  # x, y to x, y
    links: Sequence[tuple[int, int]] = ()  # places joined by a line, which is broken where their tokens are the same
    round: bool = False  # places are discs
    framed: bool = True  # places have a thin border

    def described(self) -> dict[str, Any]:
        """As JSON."""
        return {**self._asdict(), "marks": [mark._asdict() for mark in self.marks]}


def grid(rows: int, columns: int, marks: list[Mark], given: list[int], **more: Any) -> Scene:
    """A board with a place for each cell, row by row."""
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    places = [(column + 0.5, row + 0.5) for row, column in cells]
    names = [f"row {row + 1}, column {column + 1}" for row, column in cells]
    return Scene(columns, rows, places, names, marks, given, **more)


def tokens(length: int, vocabulary: int) -> Scene:
    """So many tokens by their numbers, in a nearly square grid."""
    columns = ceil(sqrt(length))
    whole = grid(-(-length // columns), columns, [Mark(str(v), str(v)) for v in range(vocabulary)], [OPEN] * length)
    return whole._replace(places=whole.places[:length], names=[f"token {i + 1}" for i in range(length)])


def circle(num: int, marks: list[Mark], links: Sequence[tuple[int, int]]) -> Scene:
    """The nodes of a graph on a circle, the first one at the top."""
    radius = max(1.4, 1.45 * num / (2 * pi))
    side = 2 * radius + 2.1  # room for a number beside each node
    turns = [2 * pi * k / num for k in range(num)]
    places = [(side / 2 + radius * sin(turn), side / 2 - radius * cos(turn)) for turn in turns]
    names = [f"node {k}" for k in range(num)]
    return Scene(side, side, places, names, marks, [OPEN] * num, links=links, round=True)
