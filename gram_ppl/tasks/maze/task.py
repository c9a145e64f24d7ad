"""Mazes whose answer is a shortest path: made ones, most of them with several answers, or public ones from files.

The encoding is that of HRM (arXiv 2506.21734) and TRM (arXiv 2510.04871).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from os import PathLike
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...state import Batch
from ..base import Spec, Task, check_pair, check_tokens
from ..boards import grid_neighbours, symmetries
from ..holdout import AFRESH, Apart, split_of
from ..scene import OPEN as UNKNOWN
from ..scene import Mark, Scene, grid
from ..written import Misread, marks
from .data import loaded, made
from .paths import GOAL, OPEN, PATH, START, Mazes, count_paths, faults, prepare, shortest, walk

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHARS = "?#.SG*"
MARKS = [Mark("nothing", "?"), Mark("wall", fill="ink"), Mark("open"), Mark("start", "S", "3"), Mark("goal", "G", "2"),
         Mark("path", "•", "1")]  # fmt: skip
STRANGE = "?"
COLOURS = ("#9e9e9e", "#263238", "#fafafa", "#43a047", "#e53935", "#64b5f6", "#ab47bc")  # of the tokens, and of others
TRIES = 1000  # rounds of drawing training rows that are not held out
NONE_LEFT = "The held-out mazes leave none to train on: hold out fewer, or allow more mazes."
LISTED = 1 << 27  # cells of all solutions of a maze that are listed without a limit, 1 GiB
ROUND = 4096  # solutions listed at once


class Maze(Task):
    """Shortest paths from start to goal, by steps up, down, left and right through open cells.

    Tokens, row by row: 0 pad, 1 wall, 2 open, 3 start, 4 goal, 5 path. y is x with the open cells of one shortest path
    marked as path; start and goal stay as they are. Pad is as good as wall. ``spec.relations [3, L, L]``: neighbours,
    same row, same column; a cell is in its own row and column.

    No training row is a held-out maze: the check comes after augmentation, and a row that fails is drawn again.

    Args:
        size: rows and columns, 32,767 cells at most.
        root: a folder with one ``*_train.npz`` and one ``*_test.npz`` instead of made mazes: test mazes are from the
            second, all others from the first. Each holds ``inputs`` and ``labels``, ``[N, L]`` tokens.
        wall_share: least and greatest share of walls in made mazes; 0.2 to 0.4 if not given. It is uniform, and each
            cell is a wall independently with that probability.
        min_length: fewest steps from start to goal in made mazes; if not given, as many as between opposite corners
            of a board without walls. The start is uniform over open cells, the goal over those far enough. Lengths
            that few boards have cost time: about 1 in 500 of 30 x 30 cells has 100.
        num_paths: fewest and most shortest paths of made mazes; 1 to 100 if not given.
        num_validation, num_test: how many different mazes are held out.
        pool: how many made mazes training rows come from; 2,000 if not given.
        seed: of the made mazes and the split; training rows depend on the generator given to ``batches``.
        augment: random rotations and reflections of training rows, those that keep the shape of the board.
        labelled: train on the file's path through each maze, as the published systems do; else on any shortest path,
            drawn anew for each row.

    Raises:
        ValueError: arguments that contradict each other, too few mazes, a damaged file.
    """

    comment = "# "  # the wall of a maze is # as well

    def __init__(
        self,
        size: tuple[int, int] = (10, 10),
        *,
        root: str | PathLike[str] | None = None,
        wall_share: tuple[float, float] | None = None,
        min_length: int | None = None,
        num_paths: tuple[int, int] | None = None,
        num_validation: int = 200,
        num_test: int = 500,
        pool: int | None = None,
        seed: int = 0,
        augment: bool = True,
        labelled: bool = False,
    ) -> None:
        rows, cols = self.size = self.drawn = (size[0], size[1])
        length = rows * cols
        if min(rows, cols) < 1 or not 2 <= length < 1 << 15:
            raise ValueError(f"size: expected rows and columns of 2 to 32767 cells in all, found {rows} x {cols}.")
        if min(num_validation, num_test) < 0:
            raise ValueError("num_validation and num_test must be at least 0.")
        if root is not None and any(option is not None for option in (wall_share, min_length, num_paths, pool)):
            raise ValueError("wall_share, min_length, num_paths and pool are for made mazes, but root is given.")
        if labelled and root is None:
            raise ValueError("labelled: only mazes of files have paths of their own, and root is not given.")
        lo, hi = wall_share or (0.2, 0.4)
        if not 0 <= lo <= hi < 1:
            raise ValueError(f"wall_share: expected 0 <= least <= greatest < 1, found {lo} and {hi}.")
        fewest, most = num_paths or (1, 100)
        if not 1 <= fewest <= most:
            raise ValueError(f"num_paths: expected 1 <= fewest <= most, found {fewest} and {most}.")
        steps = rows + cols - 2 if min_length is None else min_length
        if not 1 <= steps < length:
            raise ValueError(f"min_length: expected 1 to {length - 1} steps, found {steps}.")
        if pool is not None and pool < 1:
            raise ValueError(f"pool: expected at least 1, found {pool}.")

        cell = torch.arange(length)
        relations = torch.stack(
            [grid_neighbours(rows, cols), *(unit[:, None] == unit for unit in (cell // cols, cell % cols))]
        )
        super().__init__(Spec(length, PATH + 1, length, PATH + 1, relations))
        self.title = f"{rows}×{cols} mazes"

        if root is not None:
            split = loaded(root, self.size, self.verify, num_validation, num_test, seed)
        else:
            bounds = (lo, hi), steps, (fewest, most)
            split = made(self.size, *bounds, num_validation, num_test, pool or 2000, seed)
        self._train, self._paths = split.train, split.paths if labelled else None
        self._held, self._labels = {"validation": split.validation, "test": split.test}, split.labels
        self._apart = Apart(torch.cat([split.test.x, split.validation.x]))
        self._symmetries = symmetries(self.size) if augment else cell[None]
        self._training_rows(1, torch.Generator().manual_seed(seed))  # raises if everything is held out

    # Data

    def inputs(self, split: str) -> Tensor:
        """The mazes of ``"validation"`` or ``"test"``: ``[num, L]`` int64, all different."""
        return self._held_out(split).x.long()

    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Endless batches of ``"train"``, or of random rows of a held-out split, ``[batch_size, L]`` int64 each."""
        if split == "train":
            return (self._training_rows(batch_size, generator) for _ in count())
        mazes = self._held_out(split)
        if not len(mazes.x):
            raise ValueError(f"The {split} split is empty.")
        return (self._rows(mazes, batch_size, generator) for _ in count())

    def _training_rows(self, num: int, generator: torch.Generator) -> Batch:
        def draw() -> Batch:
            new = self._rows(self._train, num, generator, self._paths)
            symmetry = self._symmetries[torch.randint(len(self._symmetries), (num,), generator=generator)]
            return Batch(new.x.gather(1, symmetry), new.y.gather(1, symmetry))

        return self._apart.rows(num, draw, range(TRIES), NONE_LEFT)

    def _rows(self, mazes: Mazes, num: int, generator: torch.Generator, paths: Tensor | None = None) -> Batch:
        rows = torch.randint(len(mazes.x), (num,), generator=generator)
        chosen = mazes.take(rows)
        return Batch(chosen.x.long(), walk(chosen, self.size, generator) if paths is None else paths[rows].long())

    def _held_out(self, split: str) -> Mazes:
        return split_of(self._held, split, train=AFRESH)

    # Rules

    def num_solutions(self, x: Tensor) -> int:
        """The exact number of shortest paths of one maze ``[L]``, however large, without listing them."""
        check_tokens("x", x, self.spec.len_in, board=True)
        return 0 if faults(x.long()) else count_paths(x.tolist(), self.size)

    def solutions(self, x: Tensor, limit: int | None = None) -> Tensor:
        """Every solution of one maze: ``[L] -> [S, L]`` int64; at most ``limit`` of them if given.

        They come in the order of their turns: up, left, right, down.

        Raises:
            ValueError: without a limit, more solutions than fit in 1 GiB.
        """
        number = self.num_solutions(x)
        if limit is None and number * self.spec.len_in > LISTED:
            raise ValueError(f"The maze has {number:,} shortest paths, too many to list all: give a limit.")
        maze = prepare(x.detach().cpu().long()[None], self.size)
        number = number if limit is None else min(number, limit)
        parts = [torch.zeros(0, self.spec.len_in, dtype=torch.long)]
        for place in torch.arange(number).split(ROUND) if number else ():
            parts.append(walk(maze.take(torch.zeros_like(place)), self.size, place))
        return torch.cat(parts).to(x.device)

    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        """How far each answer is from a shortest path: ``[..., L], [..., L] -> [...]`` int64, 0 only for solutions.

        The sum of: cells other than open ones that y changes, open cells of x that are neither open nor path in y;
        starts and goals without exactly one neighbour on the path (the path cells, start and goal), path cells without
        exactly two; the difference between the number of steps on the path and the least possible one, or 1 if
        there is no path at all; and tokens of x that no maze has, missing or further starts and goals. Integers of any
        kind and value; leading dimensions broadcast.

        With those numbers of neighbours the cells are a path from start to goal and perhaps loops apart from it, and
        with the least number of cells there is no loop and no detour. No shortest path is refused: a cell of it that
        had a third neighbour on it would allow a shortcut.

        Raises:
            ValueError: a last dimension other than L, a dtype that is no integer, dimensions that don't broadcast.
        """
        check_pair(x, self.spec.len_in, y, self.spec.len_out)
        x, y = x.long(), y.long()
        least = shortest(x, self.size)
        space, ends = x == OPEN, (x == START) | (x == GOAL)
        on = ends | (space & (y == PATH))
        wrong = torch.where(space, (y != OPEN) & (y != PATH), y != x).sum(-1)
        loose = (on & (self._degree(on) != torch.where(ends, 1, 2))).sum(-1)
        surplus = torch.where(least > 0, (on.sum(-1) - 1 - least).abs(), 1)
        return wrong + loose + surplus + faults(x)

    def _degree(self, on: Tensor) -> Tensor:
        """How many of the neighbours of each cell are on the path: ``[..., L] -> [..., L]``."""
        grid = on.unflatten(-1, self.size).to(torch.uint8)
        degree = torch.zeros_like(grid)
        degree[..., 1:, :] += grid[..., :-1, :]
        degree[..., :-1, :] += grid[..., 1:, :]
        degree[..., 1:] += grid[..., :-1]
        degree[..., :-1] += grid[..., 1:]
        return degree.flatten(-2)

    def symmetric(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Rotations and reflections that keep the shape of the board."""
        kept = symmetries(self.size)
        cells = kept[torch.randint(len(kept), (len(x),), generator=generator)].to(x.device)
        return x.gather(1, cells), lambda y: y.gather(1, cells.argsort(1))

    def figures(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """``exact_match``: the share of samples that are the path of the file, for the first test mazes of one.

        The stricter of the two rules in use; accuracy takes any shortest path, of which there may be many.
        """
        if self._labels is None or not x.cpu().equal(self.inputs("test")[: len(x)]):
            return {}
        return {"exact_match": (y.cpu() == self._labels[: len(x), None]).all(-1).double().mean().item()}

    # Text

    def render(self, x: Tensor, y: Tensor | None = None, marks: bool = False) -> str:
        """The board: ``#`` wall, ``.`` open, ``S`` start, ``G`` goal, ``*`` path, ``?`` for any other token.

        Args:
            x: the maze, ``[L]``.
            y: its answer, ``[L]``, shown in place of the maze.
            marks: set path, start and goal in colour, as rich markup.
        """
        check_tokens("x", x, self.spec.len_in, board=True)
        if y is not None:
            check_tokens("y", y, self.spec.len_out, board=True)
        tokens = (x if y is None else y).tolist()
        chars = [CHARS[token] if 0 <= token <= PATH else STRANGE for token in tokens]
        if marks:
            style = {"*": "bold blue", "S": "bold green", "G": "bold red"}
            chars = [f"[{style[char]}]{char}[/]" if char in style else char for char in chars]
        cols = self.size[1]
        return "\n".join("".join(chars[k : k + cols]) for k in range(0, len(chars), cols))

    def scene(self, x: Tensor) -> Scene:
        """See :meth:`Task.scene`: what the maze has in its cells is given, but for open ones."""
        return grid(*self.size, MARKS, [UNKNOWN if token == OPEN else token for token in x.tolist()])

    def parse(self, text: str) -> Tensor:
        """The maze ``[L]`` int64 that L characters ``#``, ``.``, ``S``, ``G`` describe; white space does not count.

        Raises:
            ValueError: a wrong length, a character that is none of these, no single start and goal, or no path.
        """
        rows, cols = self.size
        written, known = marks(text), CHARS[1:PATH]
        chars = "".join(char for _, char in written)
        if len(chars) != self.spec.len_in:
            raise ValueError(f"A {rows} x {cols} maze has {self.spec.len_in} characters, found {len(chars)}.")
        for i, (at, char) in enumerate(written):
            if char not in known:
                raise Misread(
                    f"Character {i + 1} of the maze (row {i // cols + 1}, column {i % cols + 1}) is {char!r}: "
                    f"expected # for wall, . for open, S for start or G for goal.",
                    at,
                )
        for name, char in (("start S", "S"), ("goal G", "G")):
            if chars.count(char) != 1:
                raise ValueError(f"A maze has one {name}, found {chars.count(char)}.")
        x = torch.tensor([CHARS.index(char) for char in chars])
        if shortest(x, self.size) < 0:
            raise ValueError("The maze has no path from start to goal.")
        return x

    def draw(self, axes: Axes, x: Tensor, y: Tensor | None = None) -> None:
        """One maze ``[L]`` and its answer ``[L]``: walls dark, path blue, start green, goal red."""
        from matplotlib.colors import ListedColormap

        check_tokens("x", x, self.spec.len_in, board=True)
        if y is not None:
            check_tokens("y", y, self.spec.len_out, board=True)
        tokens = (x if y is None else y).detach().cpu().long()
        known = torch.where((tokens >= 0) & (tokens <= PATH), tokens, PATH + 1).view(self.size)
        axes.imshow(known.numpy(), cmap=ListedColormap(COLOURS), vmin=0, vmax=PATH + 1)
        axes.set_xticks([])
        axes.set_yticks([])
