"""What tasks with held-out data have in common: a split by its name, training rows that are not held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ..state import Batch
from .boards import fingerprint

T = TypeVar("T")
AFRESH = "The training inputs are made afresh for every batch, so there is no list of them: take batches('train', …)."


def split_of(splits: Mapping[str, T], split: str, *, train: str = "") -> T:
    """The split of a name.

    Args:
        splits: by name.
        split: one of them.
        train: why ``"train"`` is none of them, in a sentence, where somebody may ask for it.

    Raises:
        ValueError: there is no such split.
    """
    if split in splits:
        return splits[split]
    if split == "train" and train:
        raise ValueError(train)
    first, *others = [repr(name) for name in ("train", "validation", "test") if name in splits]
    raise ValueError(f"split: expected {', '.join([first, *others[:-1]])} or {others[-1]}, found {split!r}.")


class Solved(NamedTuple):
    """P inputs and all solutions of each, those of an input side by side."""

    x: Tensor  # [P, L_in]
    y: Tensor  # [S, L_out]
    first: Tensor  # [P] int64: the first solution of each input
    num: Tensor  # [P] int64: how many it has

    @classmethod
    def of(cls, x: Tensor, found: Sequence[Tensor]) -> Solved:
        """Inputs ``[P, L_in]`` and the solutions ``[S_i, L_out]`` of each."""
        num = torch.tensor([len(each) for each in found])
        return cls(x, torch.cat(list(found)), num.cumsum(0) - num, num)

    def draw(self, num: int, generator: torch.Generator) -> Batch:
        """Random inputs and a random solution of each, both uniform: ``[num, L_in], [num, L_out]`` int64."""
        rows = torch.randint(len(self.x), (num,), generator=generator)
        which = torch.rand(num, generator=generator, dtype=torch.float64) * self.num[rows]
        return Batch(self.x[rows].long(), self.y[self.first[rows] + which.long()].long())


class Apart:
    """Training rows that are none of the held-out ones.

    Args:
        x: held-out inputs, ``[n, L_in]``.
        y: answers that no training row may have either, ``[m, L_out]``.
    """

    def __init__(self, x: Tensor, y: Tensor | None = None) -> None:
        self.x, self.y = fingerprint(x), None if y is None else fingerprint(y)

    def rows(self, num: int, draw: Callable[[], Batch], tries: Iterable[int], none: str = "") -> Batch:
        """``num`` of the rows that ``draw()`` gives, in their order.

        Raises:
            ValueError: the draws did not suffice; ``none`` is what it says.
        """
        parts: list[tuple[Tensor, Tensor]] = []
        for _ in tries:
            x, y = draw()
            good = torch.isin(fingerprint(x), self.x, invert=True)
            if self.y is not None:
                good &= torch.isin(fingerprint(y), self.y, invert=True)
            parts.append((x[good], y[good]))
            if sum(len(part) for part, _ in parts) >= num:
                x, y = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
                return Batch(x[:num], y[:num])
        raise ValueError(none)
