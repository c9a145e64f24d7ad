"""Whether probabilities hold what they say: the reliability curve and the Brier score."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def calibration(probability: Tensor, outcome: Tensor, bins: int = 10) -> dict[str, Any]:
    """Reliability curve and Brier score of probabilities, numbers that JSON can hold.

    Args:
        probability: what was predicted, in [0, 1], any shape.
        outcome: what happened, 0 or 1, the same shape.
        bins: equal intervals of [0, 1]; one that holds no prediction is left out of the curve.

    Returns:
        ``brier``, the mean squared error; ``brier_constant``, that of always predicting the mean outcome; and for
        each bin ``centers``, ``predicted`` (mean probability), ``observed`` (share of ones), ``counts``.

    Raises:
        ValueError: shapes that differ, no prediction, a number outside [0, 1], or less than one bin.
    """
    p, y = (some.detach().cpu().double().flatten() for some in (probability, outcome))
    if probability.shape != outcome.shape or not len(p):
        raise ValueError(f"as many outcomes as probabilities, got {tuple(outcome.shape)}, {tuple(probability.shape)}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if not ((p >= 0) & (p <= 1) & (y >= 0) & (y <= 1)).all():
        raise ValueError("probabilities and outcomes must lie in [0, 1]")
    place = (p * bins).long().clamp(max=bins - 1)
    counts = torch.bincount(place, minlength=bins)
    held = counts > 0

    def mean(values: Tensor) -> list[float]:
        return (torch.bincount(place, values, minlength=bins)[held] / counts[held]).tolist()

    return {
        "brier": (p - y).square().mean().item(),
        "brier_constant": (y.mean() - y).square().mean().item(),
        "centers": ((torch.arange(bins, dtype=torch.float64)[held] + 0.5) / bins).tolist(),
        "predicted": mean(p),
        "observed": mean(y),
        "counts": counts[held].tolist(),
    }
