"""N queens with several completions: the paper's protocol over all solutions of a board (arXiv 2605.19376).

An input is a solution with k queens removed. Different solutions may leave the same input; its completions are exactly
these solutions. 85 % of the different inputs are for training and validation, the others for the test.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import count
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...state import Batch, Symmetry
from ..base import Spec, Task, check_pair, check_tokens
from ..boards import symmetries
from ..holdout import split_of
from ..scene import OPEN, Scene
from ..written import Misread, marks
from .scene import layout
from .solutions import all_solutions, unique_inputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EMPTY, QUEEN = 1, 2  # tokens of a cell; 0 is padding, as in the paper's vocabulary
EMPTY_CHARS, QUEEN_CHARS = "._0", "QX1"
MIN_SIDE, MAX_SIDE = 4, 12


class NQueens(Task):
    """Place n queens on an n x n board, some of them given, so that no two share a row, column or diagonal.

    ``tokens`` says how boards are written, the same in and out:

    - ``"cells"``, the paper's: n² tokens, row by row, 1 for empty and 2 for queen (0 is padding). An input shows
      every cell without a given queen as empty. ``spec.relations [4, n², n²]``: same row, same column, same diagonal,
      same anti-diagonal; a cell is related to itself.
    - ``"rows"``: n tokens, the column of each row's queen from 1 on, 0 where it is unknown.
      ``spec.relations [n - 1, n, n]``: rows at distance 1, 2, .. n - 1, since the columns of two rows must differ by
      neither 0 nor the distance of the rows. Every two rows are related by exactly one of them.

    Test inputs never occur in training, nor do validation inputs; full boards do, as in the paper.

    Args:
        n: side of the board, 4 to 12.
        removed: how many queens may be removed; by default n - 3, n - 2 and n - 1, which is the paper's choice.
        tokens: ``"cells"`` or ``"rows"``.
        train_share: share of the different inputs for training and validation; the others are test inputs.
        num_validation: how many different inputs of the training share are set aside; by default 200, or an eighth of
            the share where that is fewer, as it is below n = 7.
        num_test: only the first so many test inputs; None for all.
        seed: of the split; training rows depend on the generator given to ``batches``.

    Raises:
        ValueError: arguments out of range, or more held-out inputs than there are.
    """

    def __init__(
        self,
        n: int = 8,
        removed: Collection[int] | None = None,
        *,
        tokens: str = "cells",
        train_share: float = 0.85,
        num_validation: int | None = None,
        num_test: int | None = None,
        seed: int = 0,
    ) -> None:
        if not MIN_SIDE <= n <= MAX_SIDE:
            raise ValueError(f"n: expected a board of side {MIN_SIDE} to {MAX_SIDE}, found {n}.")
        removed = (n - 3, n - 2, n - 1) if removed is None else tuple(sorted(set(removed)))
        if not removed or not 1 <= removed[0] <= removed[-1] <= n:
            raise ValueError(f"removed: expected numbers of queens from 1 to {n}, found {list(removed)}.")
        if tokens not in ("cells", "rows"):
            raise ValueError(f"tokens: expected 'cells' or 'rows', found {tokens!r}.")
        if not 0 < train_share <= 1:
            raise ValueError(f"train_share: expected a share above 0 and at most 1, found {train_share}.")
        self.side, self.drawn, self.tokens = n, (n, n), tokens
        self._cells = tokens == "cells"
        length, vocab, self._unknown = (n * n, 3, EMPTY) if self._cells else (n, n + 1, 0)
        cell, row = torch.arange(n * n), torch.arange(n)
        i, j = cell // n, cell % n
        if self._cells:
            relations = torch.stack([line[:, None] == line for line in (i, j, i - j, i + j)])
        else:
            relations = (row[:, None] - row).abs() == torch.arange(1, n)[:, None, None]
        leaves = torch.eye(vocab, dtype=torch.bool)
        leaves[: self._unknown + 1] = torch.arange(vocab) > 0
        super().__init__(Spec(length, vocab, length, vocab, relations, leaves), {"removed": list(removed)})
        self.title = f"{n} queens"

        # [n², 6n - 2]: which lines a cell lies on: n rows, n columns, 2n - 1 diagonals, 2n - 1 anti-diagonals
        lines = (i, j + n, i - j + 3 * n - 1, i + j + 4 * n - 1)
        self._lines = torch.zeros(n * n, 6 * n - 2).scatter_(1, torch.stack(lines, 1), 1.0)
        solutions = all_solutions(n)
        self._boards = self._encode(solutions + 1)  # [S, L_out] int8

        self._inputs = unique_inputs(solutions, removed)
        total = len(self._inputs.key)
        num_train = round(train_share * total)
        num_validation = min(200, num_train // 8) if num_validation is None else num_validation
        if not 0 <= num_validation < num_train:
            raise ValueError(
                f"num_validation: expected 0 to {num_train - 1} of the {num_train} training inputs, "
                f"found {num_validation}."
            )
        if num_test is not None and not 0 <= num_test <= total - num_train:
            raise ValueError(f"num_test: expected 0 to {total - num_train}, or None for all, found {num_test}.")
        order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
        validation, train, test = order.tensor_split([num_validation, num_train])
        self._split = {"train": train, "validation": validation, "test": test[:num_test]}

    # Data

    def inputs(self, split: str) -> Tensor:
        """The inputs of ``"train"``, ``"validation"`` or ``"test"``: ``[num, L_in]`` int64, all different."""
        return self._input(split_of(self._split, split))

    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Endless batches of ``"train"`` or of a held-out split, ``[batch_size, L_in]`` int64 each.

        x is uniform among the different inputs of the split, y uniform among the completions of x.
        """
        members = split_of(self._split, split)
        if not len(members):
            raise ValueError(f"The {split} split is empty.")

        def draw() -> Batch:
            chosen = members[torch.randint(len(members), (batch_size,), generator=generator)]
            one = torch.rand(batch_size, generator=generator, dtype=torch.float64) * self._inputs.num[chosen]
            solution = self._inputs.solution[self._inputs.first[chosen] + one.long()]
            return Batch(self._input(chosen), self._boards[solution.long()].long())

        return (draw() for _ in count())

    @property
    def blank(self) -> Tensor:
        """The input with no queen given: ``[L_in]`` int64."""
        return torch.full((self.spec.len_in,), self._unknown)

    def boards(self, num: int, generator: torch.Generator) -> Tensor:
        """Complete boards, uniform among all solutions and independent: ``[num, L_out]`` int64."""
        return self._boards[torch.randint(len(self._boards), (num,), generator=generator)].long()

    def _input(self, chosen: Tensor) -> Tensor:
        base = self.side + 1
        return self._encode(self._inputs.key[chosen, None] // base ** torch.arange(self.side) % base).long()

    def _encode(self, columns: Tensor) -> Tensor:
        """Columns from 1 on, 0 for no queen, as tokens: ``[..., n] -> [..., L_in]``."""
        if not self._cells:
            return columns
        here = columns[..., None] == torch.arange(1, self.side + 1)
        return (here.flatten(-2) + EMPTY).to(columns.dtype)

    def _queens(self, tokens: Tensor) -> Tensor:
        """The cells with a queen, ``[..., L_in] -> [..., n²]`` bool; tokens of no meaning put none."""
        if self._cells:
            return tokens == QUEEN
        return (tokens[..., None] == torch.arange(1, self.side + 1, device=tokens.device)).flatten(-2)

    # Rules

    def solutions(self, x: Tensor) -> Tensor:
        """Every solution of one input, sorted by rows: ``[L_in] -> [S, L_out]`` int64, whichever queens are given."""
        check_tokens("x", x, self.spec.len_in, board=True)
        boards, x = self._boards.to(x.device), x.long()
        return boards[((x == self._unknown) | (x == boards)).all(-1)].long()

    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        """How many queens y has too many or too few, plus its tokens of no meaning and the givens of x it changes.

        Each row and column counts the difference of its number of queens from one, each diagonal and anti-diagonal
        its queens beyond the first. In ``"cells"`` a token other than 1 and 2 counts one more; in ``"rows"`` a token
        outside 1 .. n leaves its row without a queen, and so some column too. A given is a token of x other than the
        one for unknown; so a token of no meaning in x leaves no solution.

        ``[..., L_in], [..., L_out] -> [...]`` int64, integers of any kind and value; leading dimensions broadcast.
        0 only for solutions of x.

        Raises:
            ValueError: a wrong last dimension, a dtype that is no integer, dimensions that don't broadcast.
        """
        check_pair(x, self.spec.len_in, y, self.spec.len_out)
        x, y = x.long(), y.long()
        queens = self._queens(y)
        surplus = queens.float() @ self._lines.to(y.device) - 1  # small whole numbers: exact in any precision
        straight, slanted = surplus.tensor_split([2 * self.side], -1)
        attacks = straight.abs_().sum(-1) + slanted.clamp_(min=0).sum(-1)
        changed = ((x != self._unknown) & (x != y)).sum(-1)
        if self._cells:
            changed = changed + (~queens & (y != EMPTY)).sum(-1)
        return attacks.long() + changed

    def symmetries(self, num: int, generator: torch.Generator) -> Symmetry:
        """The 8 rotations and reflections; in ``"rows"`` the 4 under which rows stay rows.

        There any tokens have an image. A quarter turn makes columns of rows, and a wrong answer may have two queens in
        a column.
        """
        n, names = self.side, torch.arange(self.spec.vocab_out).expand(num, -1)
        if self._cells:
            kept = symmetries((n, n))
            return Symmetry(kept[torch.randint(len(kept), (num,), generator=generator)], names)
        upside, mirrored = torch.randint(2, (2, num, 1), generator=generator).bool()
        row = torch.arange(n)
        return Symmetry(
            torch.where(upside, row.flip(0), row), torch.where(mirrored & (names > 0), n + 1 - names, names)
        )

    # Text and pictures

    def render(self, x: Tensor, y: Tensor | None = None) -> str:
        """The board of y, or of x without it: ``Q`` for a queen, ``.`` for none, ``?`` for a token of no meaning."""
        return "\n".join(" ".join(row) for row in self._chars(x, y)[0])

    def _chars(self, x: Tensor, y: Tensor | None) -> tuple[list[list[str]], list[list[bool]]]:
        """The n x n characters that show x, or y if there is one, and which cells have a given queen."""
        n = self.side
        check_tokens("x", x, self.spec.len_in, board=True)
        if y is not None:
            check_tokens("y", y, self.spec.len_out, board=True)
        tokens = (x if y is None else y).long()
        unclear = (tokens < self._unknown) | (tokens >= self.spec.vocab_out)
        kind = self._queens(tokens).view(n, n) + 2 * unclear.view(n, -1)
        return [[".Q?"[k] for k in row] for row in kind.tolist()], self._queens(x.long()).view(n, n).tolist()

    def scene(self, x: Tensor) -> Scene:
        """See :meth:`Task.scene`: a chessboard; with a token a row, the tokens of a row stand beside each other."""
        return layout(self.side, self._cells, [OPEN if token <= self._unknown else token for token in x.tolist()])

    def parse(self, text: str) -> Tensor:
        """The input ``[L_in]`` int64 of n * n characters, ``. 0 _`` or, given queens, ``Q x 1``; spaces don't count.

        Raises:
            ValueError: a wrong length, a character that is none of these, queens that attack each other, no solution.
        """
        n, written = self.side, marks(text)
        if len(written) != n * n:
            raise ValueError(f"A board of {n} x {n} has {n * n} characters, found {len(written)}.")
        for k, (at, char) in enumerate(written):
            if char.upper() not in EMPTY_CHARS + QUEEN_CHARS:
                raise Misread(
                    f"Character {k + 1} of the board ({self._place(k)}) is {char!r}: expected one of "
                    f"{' '.join(QUEEN_CHARS)} for a queen, or one of {' '.join(EMPTY_CHARS)} for none.",
                    at,
                )
        queens = torch.tensor([char.upper() in QUEEN_CHARS for _, char in written])
        self._check_givens(queens.nonzero().flatten())
        x = self._encode((queens.view(n, n) * torch.arange(1, n + 1)).sum(1))
        if not len(self.solutions(x)):
            raise ValueError("The board has no solution, although no two of its queens attack each other.")
        return x

    def _check_givens(self, cells: Tensor) -> None:
        n = self.side
        by_kind = self._lines[cells].bool().tensor_split([n, 2 * n], 1)
        for kind, lines in zip(("row", "column", "diagonal"), by_kind, strict=True):
            clash = (lines[:, None] & lines).any(-1).triu(1).nonzero()
            if len(clash):
                a, b = (self._place(int(cells[k])) for k in clash[0])
                raise ValueError(f"The given queens at {a} and at {b} attack each other: they share a {kind}.")

    def _place(self, cell: int) -> str:
        return f"row {cell // self.side + 1}, column {cell % self.side + 1}"

    def draw(self, axes: Axes, x: Tensor, y: Tensor | None = None) -> None:
        """A chessboard: given queens black, those of the answer blue, ``?`` for a token of no meaning.

        A given queen that the answer leaves out is drawn as an outline.
        """
        from matplotlib.colors import ListedColormap
        from matplotlib.font_manager import FontProperties
        from matplotlib.patches import PathPatch
        from matplotlib.textpath import TextPath
        from matplotlib.transforms import Affine2D

        shown, given = self._chars(x, y)
        n, square = self.side, torch.arange(self.side)
        axes.imshow(((square[:, None] + square) % 2).numpy(), cmap=ListedColormap(["#f5efe4", "#dccdb4"]))
        font = FontProperties(family="DejaVu Sans")
        glyphs = {char: TextPath((0, 0), sign, size=1, prop=font) for char, sign in (("Q", "♛"), ("?", "?"))}
        for cell in range(n * n):
            row, column = divmod(cell, n)
            char, was = shown[row][column], given[row][column]
            dropped = was and char == "."
            if char == "." and not was:
                continue
            path = glyphs["Q" if dropped else char]
            box = path.get_extents()
            place = Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2)
            place = place.scale(0.7 / box.height, -0.7 / box.height).translate(column, row)
            colour = "#1a1a1a" if was else "#1b6ca8"
            axes.add_patch(PathPatch(place.transform_path(path), fill=not dropped, color=colour, linewidth=0.8))
        axes.set(xticks=[], yticks=[])
