"""Digits drawn with a few strokes, in place of handwritten ones where there are no files."""

from __future__ import annotations

import torch
from torch import Tensor

# Corners of each digit's polyline as "xy" in tenths: x to the right, y downwards, A = 10.
CORNERS = [
    "50 82 88 5A 28 22 50",
    "32 50 5A",
    "12 50 82 84 1A 9A",
    "11 50 82 54 88 5A 19",
    "6A 60 17 97",
    "90 20 24 64 87 5A 19",
    "70 33 17 4A 88 76 26",
    "10 90 4A",
    "55 22 50 82 55 18 5A 98 55",
    "84 45 22 50 82 84 6A",
]
CHUNK = 500  # pictures drawn at once, which bounds the memory
JITTER = 0.03  # standard deviation of a corner's place, in heights of a digit


def _polylines() -> Tensor:
    """Corners around the origin, ``[10, V, 2]``; shorter polylines stay at their last corner."""
    points = [[[int(c, 16) / 10 - 0.5 for c in corner] for corner in digit.split()] for digit in CORNERS]
    longest = max(map(len, points))
    return torch.tensor([line + [line[-1]] * (longest - len(line)) for line in points])


def draw_digits(digits: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Pictures of digits, ``[n] -> [n, size, size]`` bool.

    Random are height, width, slant, place and thickness of a digit, and the place of each corner.
    """
    return torch.cat([_draw(part, size, generator) for part in digits.split(CHUNK)])


def _draw(digits: Tensor, size: int, generator: torch.Generator) -> Tensor:
    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(digits), 1, generator=generator)

    corners = _polylines()[digits]
    x, y = (corners + JITTER * torch.randn(corners.shape, generator=generator)).unbind(-1)
    height = size * uniform(0.6, 0.8)
    x = height * (uniform(0.6, 0.9) * x - uniform(-0.1, 0.3) * y) + size * uniform(0.42, 0.58)
    y = height * y + size * uniform(0.42, 0.58)
    radius = (size * uniform(0.045, 0.075)).clamp(min=0.6)  # thinner strokes have gaps between pixels

    centre = torch.arange(size) + 0.5
    row, column = (grid.reshape(-1, 1) for grid in torch.meshgrid(centre, centre, indexing="ij"))  # [size², 1]
    dx, dy = x.diff()[:, None], y.diff()[:, None]  # the strokes, [n, 1, V - 1]
    right, down = column - x[:, None, :-1], row - y[:, None, :-1]  # from a stroke's start, [n, size², V - 1]
    along = ((right * dx + down * dy) / (dx.square() + dy.square()).clamp(min=1e-9)).clamp(0, 1)
    distance = (right - along * dx).square() + (down - along * dy).square()
    return (distance.amin(-1) < radius.square()).view(-1, size, size)
