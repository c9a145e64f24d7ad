"""The exponential moving average of the weights, and the best of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..storage import checkpoint


class Average(AveragedModel):
    """The average of a segment's weights over the updates, ramped up from zero.

    Args:
        segment: model, guide and objective bound.
        decay: of the average.
    """

    module: Any

    def __init__(self, segment: nn.Module, decay: float) -> None:
        super().__init__(segment)
        self.decay = decay
        self.best = -1.0  # accuracy of the best weights so far
        self.best_weights: dict[str, Tensor] = {}

    def weight(self, number: int) -> float:
        """Of the new weights after update ``number``; the first average is a copy."""
        return 1 - min(self.decay, (1 + number) / (10 + number)) if number else 1.0

    def update(self, segment: nn.Module, number: int) -> None:
        """After update ``number``. ``update_parameters`` would wait for the device."""
        self.move(segment, self.weight(number))
        self.n_averaged += 1

    @torch.no_grad()
    def move(self, segment: nn.Module, weight: float | Tensor) -> None:
        """Move the average to the new weights, by a number or by a tensor ``[]``, which a graph can read."""
        averaged: list[Any] = list(self.parameters())
        current: list[Any] = list(segment.parameters())
        if isinstance(weight, Tensor):
            gaps = torch._foreach_sub(current, averaged)
            torch._foreach_mul_(gaps, weight)
            torch._foreach_add_(averaged, gaps)
        else:
            torch._foreach_lerp_(averaged, current, weight)
        for old, new in zip(self.module.buffers(), segment.buffers(), strict=True):
            old.copy_(new)

    def measured(self, accuracy: float) -> None:
        """Remember the weights if they are the best so far."""
        if accuracy >= self.best:
            self.best = accuracy
            self.best_weights = {key: value.detach().clone() for key, value in self.module.state_dict().items()}

    def final(self) -> dict[str, Tensor]:
        """The best weights, or the last ones where nothing was measured."""
        return self.best_weights or self.module.state_dict()

    def state(self) -> dict[str, Tensor]:
        """What is stored."""
        found = {f"average.{key}": value for key, value in self.state_dict().items()}
        return found | {f"best.{key}": value for key, value in self.best_weights.items()}

    def load(self, tensors: dict[str, Tensor], path: Path, device: torch.device) -> None:
        """Take what :meth:`state` gave, found in the file ``path``.

        Raises:
            CheckpointError: weights that don't fit.
        """
        checkpoint.fill(self, checkpoint.part(tensors, "average.", device), path)
        self.best_weights = checkpoint.part(tensors, "best.", device)
        if self.best_weights:
            checkpoint.fits(self.best_weights, self.module.state_dict(), path)
