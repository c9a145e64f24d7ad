"""Pictures in patches: the convolutional encoder and decoder of the paper's MNIST model (section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import torch.nn.functional as F
from torch import Tensor, nn

from ...tasks.base import Spec
from ...tasks.boards import grid_neighbours
from .tokens import Encoder


def _convolutions(width_in: int, channels: int) -> nn.Sequential:
    """Two blocks of convolution 5×5, SiLU and group norm."""
    blocks = [
        layer
        for wide in (width_in, channels)
        for layer in (nn.Conv2d(wide, channels, 5, padding=2), nn.SiLU(), nn.GroupNorm(min(8, channels), channels))
    ]
    return nn.Sequential(*blocks)


class PatchEmbedding(nn.Module):
    """Pixels to patches, ``[B, side²] -> [B, (side / patch)², D]``.

    Pixel tokens 1 and 2 become −1 and 1, all others 0; two convolutional blocks; one linear layer on each patch.
    """

    def __init__(self, side: int, options: Patches, width: int) -> None:
        super().__init__()
        self.side = side
        self.patch = options.patch
        self.convolutions = _convolutions(1, options.channels)
        self.project = nn.Linear(options.channels * options.patch**2, width)
        nn.init.normal_(self.project.weight, std=(self.project.in_features * width) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        pixels = ((x == 2).to(self.project.weight) - (x == 1).to(self.project.weight)).view(-1, 1, self.side, self.side)
        patches = F.pixel_unshuffle(self.convolutions(pixels), self.patch)
        return self.project(patches.flatten(2).transpose(1, 2))


class PatchDecoder(nn.Module):
    """Patches to pixel logits, ``[B, (side / patch)², D] -> [B, side², vocab]``, the way back."""

    def __init__(self, side: int, options: Patches, width: int, vocab: int) -> None:
        super().__init__()
        self.grid = side // options.patch
        self.patch = options.patch
        self.project = nn.Linear(width, options.channels * options.patch**2)
        self.convolutions = _convolutions(options.channels, options.channels)
        self.logits = nn.Conv2d(options.channels, vocab, 1)

    def forward(self, h: Tensor) -> Tensor:
        lead = h.shape[:-2]
        patches = self.project(h.flatten(0, -3)).transpose(1, 2).unflatten(2, (self.grid, self.grid))
        pixels = self.logits(self.convolutions(F.pixel_shuffle(patches, self.patch)))
        return pixels.flatten(2).transpose(1, 2).reshape(*lead, -1, pixels.shape[1])


class PatchEncoder(Encoder):
    """A latent token for each patch of a picture; neighbouring patches are related."""

    def __init__(self, spec: Spec, options: Patches, width: int, registers: int, positions: bool) -> None:
        self.options = options
        self.side = isqrt(spec.len_out)
        grid = self.side // options.patch
        super().__init__(
            PatchEmbedding(self.side, options, width), spec, width, grid**2, 0, registers, positions
        )  # fmt: skip

    def place(self, relations: Tensor | None) -> Tensor:
        """Neighbours above, below, left and right, ``[1, L, L]``; relations of pixels are not used."""
        side = self.side // self.options.patch
        return super().place(grid_neighbours(side, side)[None])  # type: ignore[return-value]

    def target(self, vocab: int | None = None) -> nn.Module:
        """See :class:`Encoder`: the same network as for inputs, with weights of its own; other tokens are grey."""
        return PatchEmbedding(self.side, self.options, self.width)

    def decoder(self) -> nn.Module:
        """See :class:`Encoder`."""
        return PatchDecoder(self.side, self.options, self.width, self.spec.vocab_out)


@dataclass(frozen=True)
class Patches:
    """Square pictures as patches through convolutions (the paper's MNIST model: 2×2 patches of 28×28 pixels).

    Args:
        patch: pixels on a side of a patch.
        channels: of the convolutions.
    """

    patch: int = 2
    channels: int = 32

    def build(self, spec: Spec, width: int, registers: int, positions: bool) -> Encoder:
        """The encoder module of a task of square pictures.

        Raises:
            ValueError: the pictures are not square, or not whole patches.
        """
        side = isqrt(spec.len_out)
        if side**2 != spec.len_out or side % self.patch:
            raise ValueError(f"Patches: {spec.len_out} pixels are no square of {self.patch} x {self.patch} patches")
        return PatchEncoder(spec, self, width, registers, positions)
