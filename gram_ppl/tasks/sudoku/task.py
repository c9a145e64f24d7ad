"""Sudoku with boxes of any shape: made puzzles with one or several solutions, or puzzles from a file.

A training row is a grid y, the givens of its puzzle and a number of further cells that are revealed, under a random
symmetry. Made puzzles start from no givens: the mask is independent of y and y uniform over all grids, hence y is
uniform among the solutions of x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from itertools import count

import torch
from torch import Tensor

from ...state import Batch, Symmetry
from ..base import Spec, Task, check_pair, check_tokens
from ..holdout import AFRESH, Apart, Solved, split_of
from ..scene import Scene
from ..written import Puzzle, parsed
from .csv import DIGITS, Paths, strings
from .data import Puzzles, loaded, made, reveal, uniform_ints, within
from .exact import ExactSolver, box_of
from .formats import pieces
from .symmetry import random_symmetries
from .text import Writing

MANY = 1000  # how many solutions of a held-out puzzle are listed at most, to draw y from
TRIES = 1000  # rounds of drawing training rows that are not held out
NONE_LEFT = "The held-out puzzles leave none to train on: hold out fewer, or allow more clues."


class Sudoku(Task):
    """Sudoku on boxes of r rows by c columns; the board has side n = r c.

    Tokens are 0 for blank and 1 .. n, row by row, the same in and out. ``spec.relations [3, n², n²]``: same row, same
    column, same box; a cell is related to itself.

    No training row is a held-out puzzle: the check comes after augmentation, and a row that fails is drawn again.

    Args:
        box: r and c, at least 2 each, n at most 16; 3 and 3 if not given, or 2 and 2 with 4 to 8 clues where neither
            clues nor data are given.
        clues: fewest and most givens of made puzzles; their number is uniform, their cells are uniformly random.
        unique: make only puzzles with exactly one solution. Cells are blanked in random order down to a uniform number
            of clues (60 ms for a 9 x 9 puzzle); puzzles that stay above the most are discarded.
        data: CSV file or files of Sudoku-Extreme's format instead of made puzzles, taken to have one solution each.
            ``"hub:sapientinc/sudoku-extreme/train.csv"`` downloads the public set.
        test_data: file or files for the test split alone; without it, test puzzles come from ``data`` too.
        reveal: with ``data`` or ``unique``: fewest and most further cells of the answer shown in a training row.
        mix: with ``data`` or ``unique``: the share of training rows that are made from the answers and a number of
            random givens within ``clues``, so they may have several solutions.
        held_clues: givens of the made validation and test puzzles, if other than ``clues``.
        held_reveal: further cells shown in the validation and test puzzles of ``data``.
        split_by: ``"puzzle"``, or ``"grid"``: no training answer is a held-out puzzle's answer either. On small boards
            the held-out puzzles then share a fifth of all grids.
        num_validation, num_test: how many different puzzles are held out.
        augment: random symmetries of the rows of ``data``; made puzzles always have them.
        pool: beyond n = 6, how many random grids made puzzles are spread from by symmetry, which makes y only nearly
            uniform (up to n = 6 all grids are used); with ``unique``, the number of training puzzles spread likewise.
        seed: of the grids and the split; training rows depend on the generator given to ``batches``.

    Raises:
        ValueError: arguments that contradict each other, too few puzzles, a damaged file, a failed download.
    """

    def __init__(
        self,
        box: tuple[int, int] | None = None,
        clues: tuple[int, int] | None = None,
        *,
        unique: bool = False,
        data: Paths | None = None,
        test_data: Paths | None = None,
        reveal: tuple[int, int] = (0, 0),
        mix: float = 0.0,
        held_clues: tuple[int, int] | None = None,
        held_reveal: tuple[int, int] = (0, 0),
        split_by: str = "puzzle",
        num_validation: int = 200,
        num_test: int = 500,
        augment: bool = True,
        pool: int = 500,
        seed: int = 0,
    ) -> None:
        if box is None:
            box, clues = ((2, 2), (4, 8)) if clues is None and data is None else ((3, 3), clues)
        if len(box) != 2:
            raise ValueError(f"box: expected rows and columns, found {list(box)}.")
        r, c = self.box = box
        if min(box) < 2 or r * c > len(DIGITS):
            raise ValueError(f"box: expected at least 2 rows and 2 columns, and at most 16 cells, found {r} x {c}.")
        self.side = n = r * c
        length = n * n
        self.clues = None if clues is None else within("clues", clues, length)
        self._reveal = within("reveal", reveal, length)
        held_clues = None if held_clues is None else within("held_clues", held_clues, length)
        held_reveal = within("held_reveal", held_reveal, length)
        if self.clues is None and (data is None or mix > 0):
            raise ValueError("clues: made puzzles need a fewest and a most number of givens.")
        if data is None and test_data is not None:
            raise ValueError("test_data goes with data, and none is given.")
        if data is None and not unique and mix > 0:
            raise ValueError("mix goes with data or unique: other made puzzles are made from random givens anyway.")
        if data is not None and unique:
            raise ValueError("unique is for made puzzles, but data is given.")
        if data is None and not unique and any(self._reveal):
            raise ValueError("reveal goes with data or unique; for other made puzzles raise clues.")
        if (data is not None and held_clues is not None) or (data is None and any(held_reveal)):
            raise ValueError("held_clues is for made puzzles, held_reveal for puzzles of data.")
        if not 0 <= mix <= 1:
            raise ValueError(f"mix: expected a share between 0 and 1, found {mix}.")
        if split_by not in ("puzzle", "grid"):
            raise ValueError(f"split_by: expected 'puzzle' or 'grid', found {split_by!r}.")
        if min(num_validation, num_test) < 0 or pool < 1:
            raise ValueError("num_validation and num_test must be at least 0, pool at least 1.")
        self._mix = mix
        self._augment = augment or data is None

        cell = torch.arange(length)
        relations = torch.stack([unit[:, None] == unit for unit in (cell // n, cell % n, box_of(self.box))])
        self._writing = Writing(self.box, relations)
        files, test_files = strings(data), strings(test_data)
        given = {"box": list(box), "clues": clues and list(clues), "data": files, "test_data": test_files}
        leaves = torch.eye(n + 1, dtype=torch.bool)
        leaves[0] = torch.arange(n + 1) > 0
        super().__init__(Spec(length, n + 1, length, n + 1, relations, leaves), given)
        self.title = f"{n}×{n} Sudoku"

        # Sets of digits as bits: one digit each, none for a token that is no digit; how many digits a set has.
        self._bits = torch.tensor([0, *(1 << k for k in range(n)), 0], dtype=torch.int32)
        self._sizes = reduce(lambda sizes, _: torch.cat([sizes, sizes + 1]), range(n), torch.zeros(1, dtype=torch.int8))

        self._solver = ExactSolver(self.box)
        by_grid = split_by == "grid"
        if files is not None:
            split = loaded(self.box, files, test_files, by_grid, held_reveal, num_validation, num_test, seed)
        else:
            assert self.clues is not None
            split = made(
                self.box, self.clues, held_clues or self.clues, unique, by_grid, num_validation, num_test, pool, seed
            )
            if not unique:
                self._reveal = self.clues
        self._rows = split.train
        self._held = {"validation": split.validation, "test": split.test}
        self._draws: dict[str, Callable[[int, torch.Generator], Batch]] = {}
        x, y = torch.cat([split.test.x, split.validation.x]), torch.cat([split.test.y, split.validation.y])
        self._apart = Apart(x, y if by_grid and len(y) else None)
        self._training_rows(1, torch.Generator().manual_seed(seed))  # raises if everything is held out

    # Data

    def inputs(self, split: str) -> Tensor:
        """The puzzles of ``"validation"`` or ``"test"``: ``[num, n * n]`` int64, all different."""
        return self._held_out(split).x.long()

    def answers(self, split: str) -> Tensor:
        """One solution of each of ``inputs(split)``: ``[num, n * n]`` int64."""
        return self._held_out(split).y.long()

    @property
    def blank(self) -> Tensor:
        """The empty board."""
        return torch.zeros(self.spec.len_in, dtype=torch.long)

    def boards(self, num: int, generator: torch.Generator) -> Tensor:
        """Complete grids, ``[num, n * n]`` int64, from the same pool as training rows."""
        chosen = self._rows.y[torch.randint(len(self._rows.y), (num,), generator=generator)].long()
        return random_symmetries(self.box, num, generator)(chosen)

    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Endless batches of ``"train"``, or of random rows of a held-out split, ``[batch_size, n * n]`` int64 each.

        Of a held-out puzzle with more than 1,000 solutions, y stays the one in ``answers``.
        """
        draw = self._training_rows if split == "train" else self._held_out_rows(split)
        return (draw(batch_size, generator) for _ in count())

    def _training_rows(self, num: int, generator: torch.Generator) -> Batch:
        return self._apart.rows(num, lambda: self._any_rows(num, generator), range(TRIES), NONE_LEFT)

    def _any_rows(self, num: int, generator: torch.Generator) -> Batch:
        rows = torch.randint(len(self._rows.x), (num,), generator=generator)
        x, y = self._rows.x[rows].long(), self._rows.y[rows].long()
        if self._augment:
            symmetry = random_symmetries(self.box, num, generator)
            x, y = symmetry(x), symmetry(y)
        further = uniform_ints(self._reveal, num, generator)
        if self._mix > 0:
            assert self.clues is not None
            fresh = torch.rand(num, 1, generator=generator) < self._mix
            x = x.masked_fill(fresh, 0)
            further = torch.where(fresh, uniform_ints(self.clues, num, generator), further)
        return Batch(reveal(x, y, further, generator), y)

    def _held_out_rows(self, split: str) -> Callable[[int, torch.Generator], Batch]:
        if split not in self._draws:
            x, y = self.inputs(split), self.answers(split)
            if not len(x):
                raise ValueError(f"The {split} split is empty.")
            found = [self.solutions(row, limit=MANY + 1) for row in x]
            found = [every if len(every) <= MANY else y[i, None] for i, every in enumerate(found)]
            self._draws[split] = Solved.of(x, found).draw
        return self._draws[split]

    def _held_out(self, split: str) -> Puzzles:
        return split_of(self._held, split, train=AFRESH)

    # Rules

    def solutions(self, x: Tensor, limit: int | None = None) -> Tensor:
        """Every solution of one puzzle, sorted: ``[n * n] -> [S, n * n]`` int64; at most ``limit`` of them if given.

        Without a limit this needs time and memory for all of them: an empty 9 x 9 board has 6.7e21.
        """
        check_tokens("x", x, self.spec.len_in, board=True)
        found = self._solver.solve(x.detach().cpu().long().numpy(), limit)
        return torch.from_numpy(found).to(x.device)

    def completion(self, x: Tensor, candidates: Tensor, seed: int) -> Tensor | None:
        """See :meth:`Task.completion`; the first that is found in a random order, so not quite uniform."""
        return self._solver.complete(x.cpu(), candidates[:, 1:].cpu(), seed)

    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        """How many digits are missing from rows, columns and boxes of y, plus how many givens of x it changes.

        ``[..., n * n], [..., n * n] -> [...]`` int64, integers of any kind and value; leading dimensions broadcast. A
        token outside 1 .. n fills no cell, so that some row, column and box miss a digit; 0 only for solutions of x.

        Raises:
            ValueError: a last dimension other than n * n, a dtype that is no integer, dimensions that don't broadcast.
        """
        check_pair(x, self.spec.len_in, y, self.spec.len_out)
        x, y = x.long(), y.long()
        (r, c), n = self.box, self.side
        bits = self._bits.to(y.device)[y.clamp(0, n + 1)]
        grid, boxes = bits.unflatten(-1, (n, n)), bits.unflatten(-1, (c, r, r, c))
        seen = torch.cat([_union(grid, -1), _union(grid, -2), _union(_union(boxes, -1), -2).flatten(-2)], -1)
        present = self._sizes.to(y.device)[seen].sum(-1)
        changed = (x != 0) & (x != y)
        return 3 * n * n - present + changed.sum(-1)

    def symmetries(self, num: int, generator: torch.Generator) -> Symmetry:
        """Digits renamed; rows, columns, bands and stacks permuted; transposed where boxes are square."""
        return random_symmetries(self.box, num, generator)

    # Text

    def render(self, x: Tensor, y: Tensor | None = None, marks: bool = False) -> str:
        """The board with lines between boxes: ``.`` for blank, ``?`` for a token that is none.

        Args:
            x: the puzzle, ``[n * n]``.
            y: its answer, ``[n * n]``, shown in place of the puzzle.
            marks: set the givens in bold, as rich markup.
        """
        check_tokens("x", x, self.spec.len_in, board=True)
        if y is not None:
            check_tokens("y", y, self.spec.len_in, board=True)
        return self._writing.board(x, y, marks)

    def scene(self, x: Tensor) -> Scene:
        """See :meth:`Task.scene`: digits, with lines between boxes."""
        return self._writing.scene(x)

    def line(self, x: Tensor) -> str:
        """A board ``[n * n]`` as one line of n * n characters, which ``parse`` reads."""
        check_tokens("x", x, self.spec.len_in, board=True)
        return "".join(self._writing.char(token) for token in x.tolist())

    def parse(self, text: str) -> Tensor:
        """The puzzle ``[n * n]`` int64 that n * n characters describe, row by row, in one line or as a printed board.

        ``.``, ``0``, ``_`` and ``*`` are blank, the digits are 1 .. 9 and then A .. G; white space and the lines
        between boxes don't count. In a board of side 16 that has 0 beside other blanks and no G, 0 is a digit: G.

        Raises:
            ValueError: a wrong length, a character that is none of these, givens that clash, or no solution.
        """
        x = self._writing.read(text)
        if not len(self.solutions(x, limit=1)):
            raise ValueError("The puzzle has no solution, although no two of its givens clash.")
        return x

    def read(self, text: str, name: str) -> list[Puzzle]:
        """See :meth:`Task.read`: puzzles in lines, printed boards, ``.sdk``, ``.sdm``, ``.ss``, CSV."""
        return parsed(name, pieces(text, self.box), self.parse)


def _union(bits: Tensor, dim: int) -> Tensor:
    """The union of sets of digits along a dimension, which it removes."""
    return reduce(torch.bitwise_or, bits.unbind(dim))
