"""Sudoku boards as text: for the terminal, in one line, and what somebody has typed."""

from __future__ import annotations

import torch
from torch import Tensor

from ..scene import OPEN, Mark, Scene, grid
from ..written import Misread
from .csv import DIGITS
from .exact import box_of
from .formats import cells

BLANKS = "._0*"


class Writing:
    """How boards with boxes of r rows by c columns are written.

    Args:
        box: r and c.
        relations: which cells share a row, a column, a box, ``[3, n * n, n * n]`` bool.
    """

    def __init__(self, box: tuple[int, int], relations: Tensor) -> None:
        self.box, self.relations, self.side = box, relations, box[0] * box[1]

    def board(self, x: Tensor, y: Tensor | None, marks: bool) -> str:
        """See :meth:`Sudoku.render`."""
        (r, c), n = self.box, self.side
        chars = [self.char(token) for token in (x if y is None else y).tolist()]
        if marks:
            chars = [f"[bold]{char}[/bold]" if given else char for char, given in zip(chars, x.tolist(), strict=True)]
        rule = "+".join(["-" * (2 * c + 1)] * r)[1:-1]
        lines: list[str] = []
        for row in range(n):
            if row and row % r == 0:
                lines.append(rule)
            cells = chars[row * n : (row + 1) * n]
            lines.append(" | ".join(" ".join(cells[k : k + c]) for k in range(0, n, c)))
        return "\n".join(lines)

    def char(self, token: int) -> str:
        """A digit, ``.`` for blank, ``?`` for a token that is none."""
        return ("." + DIGITS[: self.side])[token] if 0 <= token <= self.side else "?"

    def scene(self, x: Tensor) -> Scene:
        """See :meth:`Sudoku.scene`."""
        (r, c), n = self.box, self.side
        digits = [self.char(token) for token in range(n + 1)]
        marks = [Mark("blank"), *(Mark(digit, digit) for digit in digits[1:])]
        given = [token if 1 <= token <= n else OPEN for token in x.tolist()]
        between = [(0.0, y, n, y) for y in range(0, n + 1, r)] + [(x, 0.0, x, n) for x in range(0, n + 1, c)]
        return grid(n, n, marks, given, lines=between)

    def read(self, text: str) -> Tensor:
        """The puzzle ``[n * n]``; whether it has a solution is not seen here. See :meth:`Sudoku.parse`."""
        n, length, found = self.side, self.side**2, cells(text)
        if len(found) != length:
            raise ValueError(f"A {n} x {n} puzzle has {length} characters, found {len(found)}.")
        digits = DIGITS[:n]
        for i, (at, char) in enumerate(found):
            if char.upper() not in [*digits, *BLANKS]:
                raise Misread(
                    f"Character {i + 1} of the puzzle ({self._place(i)}) is {char!r}: "
                    f"expected a digit from {digits[0]} to {digits[-1]}, or one of {' '.join(BLANKS)} for blank.",
                    at,
                )
        chars = [char.upper() for _, char in found]
        if n == len(DIGITS) and "G" not in chars and {"0", *"._*"} & {*chars} > {"0"}:
            chars = ["G" if char == "0" else char for char in chars]  # digits from 0 to F
        x = torch.tensor([digits.find(char) + 1 for char in chars])
        self._check_givens(x, [at for at, _ in found])
        return x

    def _check_givens(self, x: Tensor, index: list[int]) -> None:
        same = (x[:, None] == x) & (x > 0)
        for unit, related in zip(("row", "column", "box"), self.relations, strict=True):
            clash = (same & related).triu(1).nonzero()
            if len(clash):
                a, b = clash[0].tolist()
                number = {"row": a // self.side, "column": a % self.side, "box": int(box_of(self.box)[a])}[unit] + 1
                raise Misread(
                    f"The givens clash: the digit {self.char(int(x[a]))} stands twice in {unit} {number}, "
                    f"at {self._place(a)} and at {self._place(b)}.",
                    index[b],
                )

    def _place(self, cell: int) -> str:
        return f"row {cell // self.side + 1}, column {cell % self.side + 1}"
