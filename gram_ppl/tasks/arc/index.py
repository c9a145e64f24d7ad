"""Which puzzles and pairs the rows of a split are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .canvas import cut, grow, read, transform, write
from .data import Puzzle
from .pairs import Pairs


class Index:
    """Where the pairs and puzzles of each task stand: in the order of the tasks, training tasks first.

    Args:
        pairs: all of them.
        tasks: the tasks.
        num_training: how many of them are training tasks.
        held: training tasks whose test pairs are held out.
    """

    def __init__(self, pairs: Pairs, tasks: Sequence[Puzzle], num_training: int, held: Sequence[int]) -> None:
        self.puzzle_task = pairs.puzzle_task
        self.num_versions = pairs.puzzle_task.bincount()
        self.first_puzzle = self.num_versions.cumsum(0) - self.num_versions
        owner = pairs.task
        num_pairs = owner.bincount()
        self.first_pair = num_pairs.cumsum(0) - num_pairs
        self.num_demos = torch.tensor([len(puzzle.train) for puzzle in tasks])
        self.num_tests = [len(puzzle.test) for puzzle in tasks]
        demo = torch.arange(len(owner)) - self.first_pair[owner] < self.num_demos[owner]
        solved = (owner < num_training) & (pairs.output_sizes[:, 0] > 0)
        trained = demo | (solved & ~torch.isin(owner, torch.tensor(held, dtype=torch.long)))
        self.trainable = trained.nonzero()[:, 0]
        self.num_trainable = owner[trained].bincount(minlength=len(tasks))

    def asked(self, tasks: Sequence[int], augmented: bool) -> tuple[Tensor, Tensor]:
        """Puzzle and pair of each test input of tasks, ``[n]`` each: by task, by test input, by version."""
        puzzles, pairs = [torch.zeros(0, dtype=torch.long)], [torch.zeros(0, dtype=torch.long)]
        for k in tasks:
            versions = torch.arange(int(self.num_versions[k]) if augmented else 1) + self.first_puzzle[k]
            tests = torch.arange(self.num_tests[k]) + self.first_pair[k] + self.num_demos[k]
            puzzles.append(versions.repeat(len(tests)))
            pairs.append(tests.repeat_interleave(len(versions)))
        return torch.cat(puzzles), torch.cat(pairs)

    def training_pair(self, puzzles: Tensor, chance: Tensor) -> Tensor:
        """A training pair of each puzzle's task, ``[n]``, by a uniform number ``[n]``."""
        task = self.puzzle_task[puzzles]
        before = self.num_trainable.cumsum(0) - self.num_trainable
        return self.trainable[before[task] + (chance * self.num_trainable[task]).long()]

    def other_versions(
        self, pairs: Pairs, x: Tensor, chance: Tensor, side: int
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """See :meth:`ARC.symmetric`; ``pairs`` are on the device of x, ``chance [B]`` is uniform, on the CPU."""
        number = x[:, 0]
        old = torch.where((number >= 0) & (number < len(pairs.puzzle_task)), number, 0)
        task = pairs.puzzle_task[old]
        first, versions = self.first_puzzle.to(x.device)[task], self.num_versions.to(x.device)[task]
        new = first + (chance * versions.cpu()).long().to(x.device)
        _, corner, asked = read(grow(x[:, 1:]))
        asked &= (old == number) & (versions > 1)

        def turned(canvas: Tensor, before: Tensor, after: Tensor, shift: Tensor) -> Tensor:
            grids, offsets, there = read(grow(canvas))
            grids = transform(transform(grids, pairs.backward[before]), pairs.forward[after])
            return torch.where((asked & there)[:, None], cut(write(grids, offsets + shift), side), canvas)

        image = torch.cat([torch.where(asked, new, number)[:, None], turned(x[:, 1:], old, new, -corner)], 1)
        return image, lambda y: turned(y, new, old, corner)
