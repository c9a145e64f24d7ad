"""Whether samples are uniform over the solutions of each input: the distribution of p values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, canvas, save, tidy


def draw_uniformity(found: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Share of inputs below each p value, a curve a system; an ideal sampler's is the diagonal.

    Args:
        found: by name of the system, what :func:`gram_ppl.uniformity` gave.
        path: the PNG or SVG file to write.

    Raises:
        ValueError: no system.
    """
    if not found:
        raise ValueError("there is no uniformity to draw")
    figure, (axes,) = canvas(5, 4.4)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="uniform")
    for colour, (name, result) in zip(
        (BLUE, ORANGE, GREEN, RED, PURPLE, SKY) * len(found), found.items(), strict=False
    ):
        values = sorted(result["p_values"])
        shares = [(place + 1) / len(values) for place in range(len(values))]
        label = f"{name}: {result['rejected']:.1%} rejected"
        axes.step([0, *values, 1], [0, *shares, 1], where="post", color=colour, label=label)
    axes.set(xlabel="p value of uniformity, one for each input", ylabel="share of inputs at or below", ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=9)
    tidy(axes, grid="both")
    save(figure, path)
