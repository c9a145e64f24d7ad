"""More answers and more thinking: accuracy against width N and depth, coverage against the number of solutions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...evaluation.metrics import coverage
from ...inference.select import MajorityVote, Selector, oracle
from ...runtime.precision import mean
from ...state import Rollouts
from ...tasks.base import Task
from .style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, canvas, counted, save, tidy


class Scaling(NamedTuple):
    """Accuracy at S depths and W widths."""

    depths: list[int]  #: supervision steps
    widths: list[int]  #: trajectories N
    one: Tensor  #: [S] accuracy of one sample
    selected: Tensor  #: [S, W] accuracy of the selected answer
    oracle: Tensor  #: [S, W] any of N, pass@N


def doubling(last: int) -> list[int]:
    """1, 2, 4, ... and the last, without the power of two just below it."""
    return sorted({1 << k for k in range(last.bit_length()) if 1 << k <= 0.7 * last} | {last})


def scaling(
    task: Task,
    x: Tensor,
    course: Sequence[Rollouts],
    *,
    select: Selector = MajorityVote(),  # noqa: B008 (frozen)
    depths: Sequence[int] | None = None,
    widths: Sequence[int] | None = None,
) -> Scaling:
    """Accuracy against width and depth, from one set of trajectories.

    The N trajectories of an input are cut into N // w groups of w, and the mean is over groups and inputs.

    Args:
        task: its verifier judges.
        x: inputs, ``[B, L_in]``.
        course: what :func:`gram_ppl.inference.depths.rollouts_by_depth` gave.
        select: chooses among w answers.
        depths: supervision steps; 1, 2, 4, ... and the last if not given.
        widths: values of w; 1, 2, 4, ... and N if not given.

    Raises:
        ValueError: a depth or width that the trajectories don't have.
    """
    deepest, num = len(course), course[0].tokens.shape[1]
    depths, widths = list(depths or doubling(deepest)), list(widths or doubling(num))
    for name, values, most in (("depths", depths, deepest), ("widths", widths, num)):
        if not all(1 <= value <= most for value in values):
            raise ValueError(f"{name} must lie between 1 and {most}, got {values}")
    x = x.to(course[0].tokens.device)
    one, chosen, best = [], torch.zeros(len(depths), len(widths)), torch.zeros(len(depths), len(widths))
    for i, depth in enumerate(depths):
        out = course[depth - 1]
        one.append(mean(task.verify(x[:, None], out.tokens)))
        for j, width in enumerate(widths):
            rows = x.repeat_interleave(num // width, dim=0)
            some = Rollouts(*(None if field is None else _grouped(field, width) for field in out))  # type: ignore[arg-type]
            index, _ = select(task, rows, some)
            answers = some.tokens[torch.arange(len(rows), device=rows.device), index]
            chosen[i, j] = mean(task.verify(rows, answers))
            best[i, j] = mean(oracle(task, rows, some))
    return Scaling(depths, widths, torch.tensor(one, dtype=torch.float64), chosen, best)


def _grouped(field: Tensor, width: int) -> Tensor:
    """``[B, N, ...] -> [B · (N // w), w, ...]``."""
    groups = field.shape[1] // width
    return field[:, : groups * width].unflatten(1, (groups, width)).flatten(0, 1)


def draw_scaling(found: Scaling, path: str | Path, *, trained: int | None = None, selector: str = "vote") -> None:
    """Accuracy against depth at the largest width, and against width at four of the depths.

    Args:
        found: what :func:`scaling` gave.
        path: the PNG or SVG file to write.
        trained: N_sup of training, marked on the axis of depths.
        selector: what the selector is called.
    """
    wide = found.widths[-1] > 1
    figure, panels = canvas(10 if wide else 5, 3.7, columns=2 if wide else 1, sharey=True)
    depth = panels[0]
    lines = [("one sample", found.one, BLUE)]
    if wide:
        n = found.widths[-1]
        lines += [(f"{selector} of {n}", found.selected[:, -1], ORANGE), (f"any of {n}", found.oracle[:, -1], GREEN)]
    for name, values, colour in lines:
        depth.plot(found.depths, values, color=colour, marker="o", markersize=4, label=name)
    if trained is not None and trained <= found.depths[-1]:
        depth.axvline(trained, color=GREY, linestyle=":", linewidth=1.2, label="depth in training", zorder=0)
    counted(depth, found.depths)
    depth.set(xlabel="supervision steps", ylabel="accuracy")
    depth.legend(frameon=False, loc="best")
    if wide:
        width = panels[1]
        rows = sorted({round(k * (len(found.depths) - 1) / 3) for k in range(4)})
        for shade, row in zip((SKY, PURPLE, BLUE, INK)[-len(rows) :], rows, strict=True):
            steps = f"{found.depths[row]} step" + "s" * (found.depths[row] > 1)
            width.plot(found.widths, found.selected[row], color=shade, marker="o", markersize=4, label=steps)
            width.plot(found.widths, found.oracle[row], color=shade, linestyle="--", linewidth=1)
        width.plot([], [], color=GREY, linestyle="--", linewidth=1, label="any of N")
        counted(width, found.widths)
        width.set(xlabel=f"samples N (solid: {selector} of N)")
        width.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for axes in panels:
        axes.set_ylim(top=1.01)
        tidy(axes)
    save(figure, path)


class Coverage(NamedTuple):
    """Coverage of the inputs in each class of numbers of solutions: 1, 2, 3–4, 5–8, 9–16, ..."""

    classes: list[tuple[int, int]]  #: fewest and most solutions
    covered: Tensor  #: [C] distinct valid answers ÷ solutions, mean
    error: Tensor  #: [C] standard error of that mean, 0 for a single input
    ceiling: Tensor  #: [C] what N draws of an ideal uniform sampler would cover in expectation, mean
    counts: Tensor  #: [C] int64, inputs
    num_samples: int


def coverage_by_solutions(task: Task, x: Tensor, tokens: Tensor) -> Coverage:
    """Coverage against the number of solutions: ``[B, L_in], [B, N, L_out]``; inputs without a solution don't count.

    Raises:
        ValueError: no input has a solution.
    """
    distinct, total = (value.double() for value in coverage(task, x.to(tokens.device), tokens))
    held = total >= 1
    if not held.any():
        raise ValueError("none of the inputs has a solution")
    total, share, num = total[held], (distinct / total.clamp(min=1))[held], tokens.shape[1]
    ideal = 1 - (1 - 1 / total) ** num
    doublings = [math.ceil(math.log2(value)) for value in total.tolist()]
    place = torch.tensor(doublings)
    rows = [place == k for k in sorted(set(doublings))]
    classes = [((1 << (k - 1)) + 1 if k else 1, 1 << k) for k in sorted(set(doublings))]
    return Coverage(
        classes,
        torch.stack([share[row].mean() for row in rows]),
        torch.stack([share[row].std(correction=0) / max(1, int(row.sum()) - 1) ** 0.5 for row in rows]),
        torch.stack([ideal[row].mean() for row in rows]),
        torch.stack([row.sum() for row in rows]),
        num,
    )


def draw_coverage(found: Coverage, path: str | Path) -> None:
    """Bars of coverage with standard errors, and above each the ceiling of an ideal uniform sampler."""
    figure, (axes,) = canvas(max(4.2, 1.6 + 0.75 * len(found.classes)), 3.8)
    place = range(len(found.classes))
    covered, error, ceiling = found.covered.tolist(), found.error.tolist(), found.ceiling.tolist()
    bars = axes.bar(place, covered, 0.62, color=BLUE, label=f"{found.num_samples} samples of the model")
    axes.errorbar(place, covered, error, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
    left, right = [k - 0.4 for k in place], [k + 0.4 for k in place]
    ideal = f"ideal uniform sampler, {found.num_samples} draws"
    axes.hlines(ceiling, left, right, colors=ORANGE, linewidth=2.5, label=ideal)
    axes.bar_label(bars, [f"{value:.2f}" for value in covered], label_type="center", color="white", fontsize=8)
    names = [f"{first}" if first == last else f"{first}–{last}" for first, last in found.classes]
    axes.set_xticks(place, [f"{name}\n({count:,})" for name, count in zip(names, found.counts, strict=True)])
    axes.set(xlabel="number of solutions (inputs)", ylabel="share of the solutions found", ylim=(0, 1.05))
    figure.legend(frameon=False, loc="outside upper center", fontsize=9)
    tidy(axes)
    save(figure, path)
