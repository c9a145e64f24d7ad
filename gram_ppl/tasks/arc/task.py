"""ARC-AGI-1 and 2: from a few pairs of coloured grids to the output of a further input.

The protocol is that of HRM and TRM (arXiv:2506.21734, 2510.04871): one model is trained on the demonstration pairs of
all tasks, the evaluation tasks' too, and on the test pairs of the training tasks. It knows a task by a learned
embedding of the task's number, for every augmented version another. It answers the evaluation tasks' test inputs in
all versions; the answers are mapped back and the two most frequent count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...state import Batch
from ..base import Spec, Task, check_pair, check_tokens
from ..holdout import AFRESH, split_of
from ..scene import Scene
from ..written import Puzzle, parsed
from .canvas import VOCABULARY, cut, decode, encode, grow, relations, write
from .data import SIDE, read_sets, side_for
from .index import Index
from .pairs import Pairs, all_pairs, augmentations
from .picture import canvases, draw_canvases, side_by_side, text_of
from .score import Predictions, Question, elected, score
from .symmetry import Augmentation
from .text import asked_in, question

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Path = str | PathLike[str]


class ARC(Task):
    """The tasks of ARC in a folder, with augmentations.

    An input is the number of the puzzle, 0 .. ``num_puzzles - 1``, and then M = ``canvas``² tokens, row by row: 0
    padding, 1 end, 2 .. 11 colours; M is 900 for the canvas of side 30 that every grid fits. So ``spec.vocab_in``
    counts the tokens of the canvas only, and the model needs ``encoder=PuzzleTokens(task.num_puzzles)``. A puzzle is a
    task under one ``Augmentation``; the first puzzle of each task is the task as it is. The answer is a canvas whose
    grid has the same upper left corner as the input's. ``spec.relations [3, 1 + M, 1 + M]``: canvas cells in the same
    row, in the same column, and next to each other.

    No test output of an evaluation task enters training. Some tasks stand in more than one place: ARC-AGI-2 trains on
    376 tasks that ARC-AGI-1 evaluates on, and ARC-AGI-1 itself has one task in both parts (40853293, 070dd51e).

    Attributes:
        num_puzzles: how many puzzles there are, all versions of all tasks.
        left_out: training tasks of ``root`` that are an evaluation task under another name, and not trained on.

    Args:
        version: 1 or 2.
        root: folder of the public set or of the Kaggle files, or a folder that holds ``ARC-AGI-1`` or ``ARC-AGI-2``.
        evaluation: the subset to be answered; ``"test"`` for the hidden tasks among the Kaggle files.
        extra: roots of further sets whose training tasks are trained on too, unless they are there already.
        num_augmentations: random versions of each task besides the task as it is; fewer where no more differ.
        only, largest: the tasks to keep, of all that were read: their names; most rows or columns of any grid of them.
        num_validation: training tasks whose test pairs are held out for the validation split; their demonstration
            pairs are trained on, as those of evaluation tasks are.
        canvas: side of the canvas, 30 as published; a smaller one that all grids fit costs far less. None: one more
            than the side of the largest grid that is no test output.
        translate: put the grids of training rows anywhere on the canvas; held-out rows are in the upper left corner.
        seed: of augmentations and validation tasks. A task's augmentations depend on no other task.

    Raises:
        ValueError: missing or damaged files, a set of the other version, tasks of ``extra`` that are evaluated on,
            unknown names in ``only``, a grid larger than the canvas, or numbers out of range.
    """

    def __init__(
        self,
        version: int = 1,
        root: Path = "data/arc",
        *,
        evaluation: str = "evaluation",
        extra: Sequence[Path] = (),
        num_augmentations: int = 0,
        only: Sequence[str] | None = None,
        largest: int | None = None,
        num_validation: int = 0,
        canvas: int | None = SIDE,
        translate: bool = True,
        seed: int = 0,
    ) -> None:
        if min(num_augmentations, num_validation) < 0:
            raise ValueError("num_augmentations and num_validation must be at least 0.")
        training, asked, self.left_out = read_sets(version, root, evaluation, extra, only, largest)
        if num_validation > len(training):
            raise ValueError(f"num_validation: there are only {len(training)} training tasks, found {num_validation}.")
        self._sets = training + asked
        side = side_for(self._sets, canvas)
        super().__init__(Spec(1 + side * side, VOCABULARY, side * side, VOCABULARY, relations(side)), {"canvas": side})
        self.title = f"ARC-AGI-{version}"
        self._side, self._translate = side, translate
        order = torch.randperm(len(training), generator=torch.Generator().manual_seed(seed)).tolist()
        held = sorted(order[:num_validation])
        self._asked = {"validation": held, "test": list(range(len(training), len(self._sets)))}
        versions = [augmentations(puzzle, num_augmentations, seed) for puzzle in self._sets]
        self._pairs = all_pairs(self._sets, versions)
        self._on = {torch.device("cpu"): self._pairs}
        self.num_puzzles = len(self._pairs.puzzle_task)
        self._index = Index(self._pairs, self._sets, len(training), held)

    # Data

    def inputs(self, split: str, augmented: bool = False) -> Tensor:
        """The test inputs of evaluation tasks (``"test"``) or held-out training tasks: ``[n, 1 + M]`` int64.

        Args:
            split: ``"validation"`` or ``"test"``.
            augmented: each input in all its versions, not only as it is.
        """
        return self._ask(split, augmented).x

    def answers(self, split: str, augmented: bool = False) -> Tensor:
        """The answers to ``inputs(split, augmented)``, ``[n, M]`` int64; all padding where the answer is hidden."""
        return self._ask(split, augmented).y

    def questions(self, split: str, augmented: bool = False) -> list[Question]:
        """What the rows of ``inputs(split, augmented)`` ask."""
        puzzles, pairs = self._index.asked(split_of(self._asked, split), augmented)
        tasks = self._pairs.task[pairs]
        tests = pairs - self._index.first_pair[tasks] - self._index.num_demos[tasks]
        rows = zip(puzzles.tolist(), tasks.tolist(), tests.tolist(), strict=True)
        return [Question(self._sets[k].name, test, self.augmentation(puzzle)) for puzzle, k, test in rows]

    def augmentation(self, puzzle: int) -> Augmentation:
        """The augmentation by which a puzzle differs from its task."""
        dihedral, *colors = self._pairs.forward[puzzle].tolist()
        return Augmentation(dihedral, tuple(colors))

    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Endless batches: a uniformly random puzzle, then a uniformly random training pair of its task.

        Of a held-out split: random rows of ``inputs`` whose answers are known.
        """
        if split == "train":
            return (self._training_rows(batch_size, generator) for _ in count())
        x, y = self._ask(split, False)
        known = (y > 0).any(1)
        if not known.any():
            raise ValueError(f"The {split} split has no question with a known answer.")
        x, y = x[known], y[known]
        draws = (torch.randint(len(x), (batch_size,), generator=generator) for _ in count())
        return (Batch(x[rows], y[rows]) for rows in draws)

    def _training_rows(self, num: int, generator: torch.Generator) -> Batch:
        puzzles = torch.randint(self.num_puzzles, (num,), generator=generator)
        chance = torch.rand(num, 3, generator=generator, dtype=torch.float64)
        pairs = self._index.training_pair(puzzles, chance[:, 0])
        question, answer = self._pairs.versions(puzzles, pairs)
        room = self._side + 1 - torch.maximum(question.sizes, answer.sizes)
        offsets = (chance[:, 1:] * room).long() if self._translate else torch.zeros_like(room)
        return self._rows_of(puzzles, write(question, offsets), write(answer, offsets))

    def _rows_of(self, puzzles: Tensor, question: Tensor, answer: Tensor) -> Batch:
        return Batch(torch.cat([puzzles[:, None], cut(question, self._side)], 1), cut(answer, self._side))

    def _ask(self, split: str, augmented: bool) -> Batch:
        puzzles, pairs = self._index.asked(split_of(self._asked, split, train=AFRESH), augmented)
        question, answer = self._pairs.versions(puzzles, pairs)
        corner = torch.zeros(len(puzzles), 2, dtype=torch.long)
        hidden = answer.sizes[:, :1] == 0
        return self._rows_of(puzzles, write(question, corner), write(answer, corner).masked_fill(hidden, 0))

    # Rules

    def solutions(self, x: Tensor) -> Tensor:
        """The answer to one input, if the files have it: ``[1 + M] -> [1, M]`` or ``[0, M]`` int64.

        The input may be that of any pair, demonstrations among them, in any version, anywhere on its canvas.
        """
        check_tokens("x", x, self.spec.len_in, board=True)
        answer, known = self._tables(x.device).answers(x[None].long(), self._side)
        return answer[known]

    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        """How many of the M tokens of y differ from the answer: ``[..., 1 + M], [..., M] -> [...]`` int64.

        All M where the answer is not known. Integers of any kind and value; leading dimensions broadcast. End and
        padding tokens count too, while ``decode`` reads a grid without them.

        Raises:
            ValueError: a wrong last dimension, a dtype that is no integer, dimensions that don't broadcast.
        """
        check_pair(x, self.spec.len_in, y, self.spec.len_out)
        answer, known = self._tables(x.device).answers(x.reshape(-1, self.spec.len_in).long(), self._side)
        answer, known = answer.view(*x.shape[:-1], self.spec.len_out), known.view(*x.shape[:-1], 1)
        return ((y.long() != answer) | ~known).sum(-1)

    def _tables(self, device: torch.device) -> Pairs:
        if device not in self._on:
            self._on[device] = self._pairs.to(device)
        return self._on[device]

    def symmetric(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Each question as a random version of its task asks it, in the upper left corner; the identity for tasks
        without augmentations, unknown puzzles and canvases without a grid. Answers without a grid stay as they are."""
        chance = torch.rand(len(x), generator=generator, dtype=torch.float64)
        return self._index.other_versions(self._tables(x.device), x, chance, self._side)

    def predictions(self, split: str, y: Tensor, augmented: bool = False) -> Predictions:
        """The two most frequent grids for each test input, from answers to ``inputs(split, augmented)``.

        Args:
            split: ``"validation"`` or ``"test"``.
            y: answers, ``[n, M]``, or ``[n, N, M]`` with N samples of each; canvases without a grid don't count.
            augmented: whether the inputs were.
        """
        check_tokens("y", y, self.spec.len_out)
        questions = self.questions(split, augmented)
        if y.dim() not in (2, 3) or len(y) != len(questions):
            sizes = f"[{len(questions)}, {y.shape[-1]}] or [{len(questions)}, N, {y.shape[-1]}]"
            raise ValueError(f"y: expected {sizes}, found {list(y.shape)}.")
        return elected(questions, decode(grow(y)))

    def score(self, predictions: Mapping[str, Sequence[Sequence[Any]]], split: str = "test") -> dict[str, float]:
        """ARC's score: a test input counts if one of its candidates, at most two, equals the output in every cell.

        Args:
            predictions: for each task, for each of its test inputs, the candidates: grids as arrays or lists of rows.
                A task that is missing has none right.
            split: ``"validation"`` or ``"test"``.

        Returns:
            ``pass_at_1`` and ``pass_at_2``: shares of right test inputs, averaged over tasks (the public rule), with
            the first candidate or both; ``inputs_pass_at_1`` and ``inputs_pass_at_2``: over all test inputs;
            ``tasks`` and ``inputs``: their numbers. Test inputs without a known output are left out.

        Raises:
            ValueError: an unknown task, another number of test inputs, more than two candidates, or no known output.
        """
        return score([self._sets[k] for k in split_of(self._asked, split)], predictions)

    def own_score(self, x: Tensor, answers: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """:meth:`score` with the votes of all augmentations, where ``x`` is the whole test split."""
        if len(x) != len(self.inputs("test")):
            return {}
        return self.score(self.predictions("test", answers(self.inputs("test", augmented=True)), augmented=True))

    # Text

    def render(self, x: Tensor, y: Tensor | None = None, marks: bool = False) -> str:
        """The input's grid as digits, and the answer's on its right: ``.`` for no cell, ``?`` for a token that is none.

        Args:
            x: the input, ``[1 + M]``.
            y: its answer, ``[M]``.
            marks: set the digits in their colours, as rich markup.
        """
        return side_by_side([text_of(canvas, marks) for canvas in self._canvases(x, y)])

    def draw(self, axes: Axes, x: Tensor, y: Tensor | None = None) -> None:
        """The input and its answer in ARC's colours on matplotlib axes."""
        draw_canvases(axes, self._canvases(x, y))

    def scene(self, x: Tensor) -> Scene:
        """See :meth:`Task.scene`: the input's canvas, and on its right the answer's."""
        return canvases(x[1:].tolist(), self._side)

    def _canvases(self, x: Tensor, y: Tensor | None) -> list[Tensor]:
        check_tokens("x", x, self.spec.len_in, board=True)
        if y is not None:
            check_tokens("y", y, self.spec.len_out, board=True)
        return [grow(canvas) for canvas in ([x[1:]] if y is None else [x[1:], y])]

    def line(self, x: Tensor) -> str:
        """An input ``[1 + M]`` as one line, which ``parse`` reads; the place on the canvas is lost.

        Raises:
            ValueError: no such puzzle, or no grid on the canvas.
        """
        check_tokens("x", x, self.spec.len_in, board=True)
        puzzle, grid = int(x[0]), decode(grow(x[1:]))[0]
        if not 0 <= puzzle < self.num_puzzles or grid is None:
            raise ValueError(f"x: expected a puzzle from 0 to {self.num_puzzles - 1} and a grid on its canvas.")
        k = int(self._pairs.puzzle_task[puzzle])
        name = self._sets[k].name if puzzle == self._index.first_puzzle[k] else puzzle
        return json.dumps({"puzzle": name, "input": grid.tolist()}, separators=(",", ":"))

    def parse(self, text: str) -> Tensor:
        """The input ``[1 + M]`` of ``{"puzzle": name of a task or number of a puzzle, "input": [[...], ...]}``.

        Raises:
            ValueError: no JSON of this form, an unknown puzzle, or a grid that is none.
        """
        names = {task.name: int(first) for task, first in zip(self._sets, self._index.first_puzzle, strict=True)}
        puzzle, grid = question(text, names, self.num_puzzles, self._side)
        return torch.cat([torch.tensor([puzzle]), cut(encode(grid), self._side)])

    def read(self, text: str, name: str) -> list[Puzzle]:
        """See :meth:`Task.read`: lines, or the test inputs of ARC's own files, whose outputs are not looked at."""
        asked = asked_in(text, name, self._sets)
        return super().read(text, name) if asked is None else parsed(name, asked, self.parse)
