"""Every pair of every ARC task in every version, and the way from a canvas back to the pair it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import torch
from torch import Tensor

from .canvas import LENGTH, Grids, cut, grow, read, stack, transform, write
from .data import SIDE, Puzzle
from .symmetry import random_augmentations


class Pairs(NamedTuple):
    """N pairs of tasks numbered 0, 1, ..., and P puzzles: a puzzle is a task under an augmentation."""

    input_cells: Tensor  # [N, 30, 30] uint8
    input_sizes: Tensor  # [N, 2] int64
    output_cells: Tensor  # [N, 30, 30] uint8
    output_sizes: Tensor  # [N, 2] int64, 0 where the output is hidden
    task: Tensor  # [N] int64, the task of each pair
    puzzle_task: Tensor  # [P] int64, the task of each puzzle
    forward: Tensor  # [P, 1 + 10] uint8, dihedral element and colours, from the task to the puzzle
    backward: Tensor  # [P, 1 + 10] uint8, and from the puzzle to the task
    keys: Tensor  # [1 + 900] int64, random, of the fingerprints
    marks: Tensor  # [K] int64, sorted fingerprints of the questions with known outputs
    marked: Tensor  # [K] int64, their pairs

    def to(self, device: torch.device) -> Pairs:
        """The same on a device."""
        return Pairs(*(tensor.to(device) for tensor in self))

    def versions(self, puzzles: Tensor, pairs: Tensor) -> tuple[Grids, Grids]:
        """Input and output of ``pairs [B]`` as ``puzzles [B]`` have them."""
        rows = self.forward[puzzles]
        inputs = Grids(self.input_cells[pairs], self.input_sizes[pairs])
        outputs = Grids(self.output_cells[pairs], self.output_sizes[pairs])
        return transform(inputs, rows), transform(outputs, rows)

    def answers(self, x: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """The answer canvases ``[B, side²]`` to any ``x [B, 1 + side²]``, and whether they are known, ``[B]`` bool.

        Known is the answer to an input of the files, in one of its puzzles, anywhere on the canvas where the output
        has room too.
        """
        number, canvas = x[:, 0].long(), x[:, 1:]
        puzzles = torch.where((number >= 0) & (number < len(self.puzzle_task)), number, 0)
        shown, offsets, _ = read(grow(canvas))
        mark = _fingerprints(self.puzzle_task[puzzles], transform(shown, self.backward[puzzles]), self.keys)
        pairs = self.marked[torch.searchsorted(self.marks, mark).clamp(max=len(self.marks) - 1)]
        question, answer = self.versions(puzzles, pairs)
        # the fingerprint proposes, the comparison decides
        same = (cut(write(question, offsets), side) == canvas).all(1) & (self.task[pairs] == self.puzzle_task[puzzles])
        fits = (offsets + answer.sizes <= side).all(1)
        return cut(write(answer, offsets), side), same & fits & (puzzles == number)


def all_pairs(tasks: Sequence[Puzzle], augmentations: Sequence[Tensor]) -> Pairs:
    """The pairs of some tasks, and the puzzles that the augmentations ``[n, 1 + 10]`` of each task make of it."""
    pairs = [(k, pair) for k, task in enumerate(tasks) for pair in task.pairs]
    inputs, outputs = stack([pair.input for _, pair in pairs]), stack([pair.output for _, pair in pairs])
    task = torch.tensor([k for k, _ in pairs])
    keys = torch.randint(-(2**63), 2**63 - 1, (1 + LENGTH,), generator=torch.Generator().manual_seed(0))
    known = (outputs.sizes[:, 0] > 0).nonzero()[:, 0]
    visible = Grids(inputs.cells[known], inputs.sizes[known])
    marks, order = _fingerprints(task[known], visible, keys).sort()
    puzzle_task = torch.arange(len(tasks)).repeat_interleave(torch.tensor([len(rows) for rows in augmentations]))
    forward = torch.cat(list(augmentations))
    return Pairs(*inputs, *outputs, task, puzzle_task, forward, _inverse(forward), keys, marks, known[order])


def _inverse(augmentations: Tensor) -> Tensor:
    element, colors = augmentations[:, :1], augmentations[:, 1:]
    swapped = (element & 4) | ((element & 2) >> 1) | ((element & 1) << 1)
    return torch.cat([torch.where(element >= 4, swapped, element), colors.argsort(1).to(torch.uint8)], 1)


def _fingerprints(task: Tensor, grids: Grids, keys: Tensor) -> Tensor:
    """``[B]`` int64: equal for equal tasks and grids, different for different ones but for about 2^-60."""
    rows, columns = grids.sizes[:, :1, None], grids.sizes[:, 1:, None]
    place = torch.arange(SIDE, device=keys.device)
    inside = (place[:, None] < rows) & (place < columns)
    cells = torch.where(inside, grids.cells.long() + 1, 0).flatten(1)
    return (torch.cat([task[:, None], cells], 1) * keys).sum(1)


def augmentations(puzzle: Puzzle, num: int, seed: int) -> Tensor:
    """Versions of a task, ``[1 + num, 1 + 10]``, chosen by the colours to be seen; test outputs have no influence."""
    used = {color for grid in puzzle.visible for color in grid.tobytes()}
    generator = torch.Generator().manual_seed(crc32(f"{seed} {puzzle.name}".encode()))
    return random_augmentations(num, sorted(used), generator)
