"""Queens on a page."""

from __future__ import annotations

from ..scene import Mark, Scene, grid

QUEEN = "♛"


def layout(side: int, cells: bool, given: list[int]) -> Scene:
    """A chessboard of so many rows, with a place for each cell, or for each row.

    Args:
        side: rows and columns.
        cells: tokens are those of cells, nothing, empty or queen; or else those of rows, nothing or a column from 1 on.
        given: tokens of the input.
    """
    dark = [(j + 0.5, i + 0.5, "dark") for i in range(side) for j in range(side) if (i + j) % 2]
    if cells:
        marks = [Mark("nothing"), Mark("empty"), Mark("queen", QUEEN)]
        return grid(side, side, marks, given, squares=dark)
    columns = [Mark(f"queen in column {j + 1}", QUEEN, across=j) for j in range(side)]
    whole = grid(side, 1, [Mark("nothing"), *columns], given, squares=dark, framed=False)
    return whole._replace(width=side, names=[f"row {i + 1}" for i in range(side)])
