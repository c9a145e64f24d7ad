"""Where the guide departs from the prior: KL(q ‖ p) of every transition."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ...evaluation.bounds import kl
from .style import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, canvas, save, tidy


def divergence(
    model: Any, guide: Any, x: Tensor | None, y: Tensor, *, num_particles: int = 10, steps: int | None = None
) -> Tensor:
    """KL(q ‖ p) of each transition, ``[S, T]`` nats a puzzle; zero where the guide is the prior; without decisions.

    The mean over examples and trajectories of :func:`gram_ppl.bounds.kl`, which see for arguments and errors.
    """
    program: Any = poutine.unwrap(model)
    number = program.supervision if steps is None else steps
    found = torch.zeros(number, program.transitions, dtype=torch.float64)
    sites = kl(model, guide, x, y, num_particles=num_particles, steps=steps)
    for name, value in sites.items():
        if name.startswith("decision"):
            continue
        step, transition = name.split("_")[1:]
        found[int(step), int(transition)] = value.mean()
    return found


def draw_divergence(found: Tensor, path: str | Path) -> None:
    """Bars of KL for each supervision step, its transitions one on top of the other; transitions that cost nothing
    are left out.

    Args:
        found: what :func:`divergence` gave, ``[S, T]`` nats.
        path: the PNG or SVG file to write.
    """
    steps, transitions = found.shape
    figure, (axes,) = canvas(max(4.5, 1.8 + 0.5 * steps), 3.6)
    place = range(1, steps + 1)
    base = torch.zeros(steps, dtype=found.dtype)
    colours = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)
    paid = [t for t in range(transitions) if found[:, t].abs().sum() > 0]
    for colour, t in zip(cycle(colours), paid, strict=False):
        bars = axes.bar(place, found[:, t], 0.7, base, color=colour, label=f"transition {t + 1} of {transitions}")
        base = base + found[:, t]
    if paid:
        axes.bar_label(bars, [f"{value:.2g}" for value in base.tolist()], padding=2, fontsize=8)
        axes.set_ylim(0, 1.12 * max(float(base.max()), 1e-9))
        axes.legend(frameon=False, loc="upper right")
    axes.set(xlabel="supervision step", ylabel="KL(q ‖ p), nats a puzzle")
    axes.set_xticks(place)
    tidy(axes)
    save(figure, path)
