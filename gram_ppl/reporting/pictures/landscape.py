"""Trajectories on the plane in which they vary most, over what the decoder thinks of each point of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...inference.rollout import trajectories
from ...tasks.base import Task
from .style import GREEN, INK, RED, canvas, save


class Landscape(NamedTuple):
    """The plane of the first two principal components of h, all tokens and dimensions in one vector."""

    points: Tensor  #: [S, N, 2] where the trajectories stand after each supervision step
    right: Tensor  #: [N] bool: their last answers hold
    across: Tensor  #: [G] coordinates of the grid, first component
    up: Tensor  #: [G] second component
    nll: Tensor  #: [G, G] nats: −log Σ_y p(y | h) over the answers, [i, j] at (across[j], up[i])
    explained: Tensor  #: [2] share of the variance of h along each component


@torch.no_grad()
def landscape(
    model: nn.Module,
    task: Task,
    x: Tensor,
    answers: Tensor,
    *,
    num_samples: int = 30,
    steps: int | None = None,
    grid: int = 80,
    seed: int = 0,
) -> Landscape:
    """PCA of the h of N prior trajectories of one input, and the loss of the decoder on the plane.

    The plane runs through the mean of all states; what a state has outside of it is dropped.

    Args:
        model: the program.
        task: its verifier judges the last answers.
        x: one input, ``[L_in]``.
        answers: its solutions ``[A, L_out]``; the loss is that of any of them.
        num_samples: N.
        steps: S, supervision steps; the model's N_sup if not given.
        grid: G, points in a row.
        seed: of the noise.

    Raises:
        ValueError: shapes that don't fit, a grid of less than 2 points, or less than 3 states.
    """
    if x.dim() != 1 or answers.dim() != 2 or not len(answers):
        raise ValueError(f"expected x [L_in] and answers [A, L_out], got {list(x.shape)} and {list(answers.shape)}")
    if grid < 2:
        raise ValueError(f"grid must be at least 2, got {grid}")
    program: Any = model
    course = list(trajectories(model, x[None], num_samples=num_samples, steps=steps, seed=seed))
    states = torch.stack([step.latent.h for step in course])
    flat = states.flatten(2).flatten(0, 1).cpu().double()
    if len(flat) < 3:
        raise ValueError(f"a plane needs at least 3 states, got {len(flat)}: more samples or steps")
    mean = flat.mean(dim=0)
    _, size, axes = torch.linalg.svd(flat - mean, full_matrices=False)
    points = (flat - mean) @ axes[:2].T
    low, high = points.amin(dim=0), points.amax(dim=0)
    low, high = low - 0.12 * (high - low), high + 0.12 * (high - low)
    ends = zip(low.tolist(), high.tolist(), strict=True)
    across, up = (torch.linspace(*end, grid, dtype=torch.float64) for end in ends)
    plane = torch.stack(torch.meshgrid(across, up, indexing="xy"), dim=-1).flatten(0, 1)
    h = (mean + part @ axes[:2] for part in plane.split(512))
    losses = [loss(program, part.to(states).unflatten(1, states.shape[2:]), answers.to(x.device)) for part in h]
    return Landscape(
        points.view(len(states), num_samples, 2).cpu(),
        task.verify(x.to(states.device), course[-1].tokens[0]).cpu(),
        across.cpu(),
        up.cpu(),
        torch.cat(losses).view(grid, grid).cpu(),
        (size[:2].square() / size.square().sum()).cpu(),
    )


def loss(model: Any, h: Tensor, answers: Tensor) -> Tensor:
    """−log Σ_y p(y | h), ``[P, L, D], [A, L_out] -> [P]`` nats: that the decoder gives none of the answers."""
    logits = model.answer(h).base_dist.logits
    found = [logits.gather(2, y.to(h.device).expand(len(h), -1)[..., None])[..., 0].sum(dim=1) for y in answers]
    return -torch.stack(found).logsumexp(dim=0)


def draw_landscape(found: Landscape, path: str | Path, *, shown: int = 30) -> None:
    """Trajectories from their first supervision step (ring) to their last (dot) over the loss of the plane.

    Args:
        found: what :func:`landscape` gave.
        path: the PNG or SVG file to write.
        shown: trajectories, at most.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.patheffects import Normal, Stroke

    figure, (axes,) = canvas(6.6, 5)
    nll = found.nll.clamp(min=1e-3)
    bounds = max(float(nll.min()), 1e-3), max(float(nll.max()), 2e-3)
    levels = torch.logspace(math.log10(bounds[0]), math.log10(bounds[1]), 25).tolist()
    filled = axes.contourf(found.across, found.up, nll, levels, cmap="Blues", norm=LogNorm(*bounds), extend="both")
    bar = figure.colorbar(filled, ax=axes, ticks=list(_decades(*bounds)))
    bar.ax.set_yticklabels([f"{tick:g}" for tick in _decades(*bounds)])
    bar.ax.minorticks_off()
    bar.set_label("−log p(any solution | h), nats, on this plane")
    halo = [Stroke(linewidth=2.2, foreground="white"), Normal()]
    for right, colour in ((True, GREEN), (False, RED)):
        chosen = (found.right == right).nonzero()[:shown, 0]
        for k, row in enumerate(chosen.tolist()):
            path_x, path_y = found.points[:, row].T
            axes.plot(path_x, path_y, color=colour, linewidth=0.9, alpha=0.8, path_effects=halo, zorder=2)
            axes.plot(path_x[:1], path_y[:1], "o", color=colour, markerfacecolor="white", markersize=4, zorder=3)
            name = f"{'right' if right else 'wrong'} in the end ({len(chosen)})"
            label = "_" if k else name
            axes.plot(path_x[-1:], path_y[-1:], "o", color=colour, markersize=5, zorder=4, label=label)
    axes.set_xlabel(f"first principal component of h ({100 * found.explained[0]:.0f} % of the variance)")
    axes.set_ylabel(f"second ({100 * found.explained[1]:.0f} %)")
    axes.tick_params(colors=INK)
    figure.legend(frameon=False, loc="outside upper center", ncols=2, title="○ after the first step, ● after the last")
    save(figure, path)


def _decades(low: float, high: float) -> Iterator[float]:
    """The powers of ten in between."""
    return (10.0**k for k in range(-3, 7) if low <= 10.0**k <= high)
