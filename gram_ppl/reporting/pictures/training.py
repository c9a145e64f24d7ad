"""What training looked like: loss, KL, prior accuracy, and the bounds of figure 8 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...training.fit import History
from .style import BLUE, GREEN, ORANGE, PURPLE, RED, canvas, save, tidy


def training_curves(history: History, path: str | Path) -> None:
    """Loss, KL and prior accuracy over updates, as one PNG or SVG file.

    Args:
        history: what :func:`gram_ppl.fit` returned.
        path: the file to write.
    """
    updates = [record.update for record in history]
    measured = [record for record in history if record.prior_accuracy is not None]
    figure, (loss, kl, accuracy) = canvas(12, 3.4, columns=3)
    loss.plot(updates, [record.loss for record in history], color=BLUE)
    loss.set(ylabel="loss, nats a token", yscale="log")
    kl.plot(updates, [record.kl for record in history], color=BLUE, label="all segments")
    kl.plot(updates, [record.kl_first for record in history], color=ORANGE, label="first segment")
    kl.set(ylabel="charged KL, nats a puzzle", yscale="symlog", ylim=(0, None))
    kl.legend(frameon=False)
    values = [record.prior_accuracy for record in measured]
    accuracy.plot([record.update for record in measured], values, color=GREEN, marker=".")  # type: ignore[arg-type]
    accuracy.set(ylabel="prior accuracy, validation", ylim=(0, 1.02))
    for axes in (loss, kl, accuracy):
        axes.set_xlabel("update")
        tidy(axes)
    save(figure, path)


def surrogate_of(history: History) -> list[float]:
    """The surrogate of eq. 14 at each record of a run, nats a puzzle: −(NLL + charged KL), mean over segments."""
    return [-(record.nll + record.kl) for record in history]


def draw_bounds(updates: Sequence[float], bounds: Mapping[str, Sequence[float]], path: str | Path) -> None:
    """Bounds over training, as ELBO and surrogate in figure 8 of the paper.

    Args:
        updates: when they were measured.
        bounds: by name, the values at those updates, in nats a puzzle.
        path: the PNG or SVG file to write.

    Raises:
        ValueError: nothing to draw, or as many values as updates are not there.
    """
    wrong = [f"{name!r} has {len(values)}" for name, values in bounds.items() if len(values) != len(updates)]
    if not bounds or not len(updates) or wrong:
        raise ValueError(f"bounds need a value for each of {len(updates)} updates: {wrong or 'there are none'}")
    figure, (axes,) = canvas(6.4, 3.8)
    colours = (BLUE, ORANGE, GREEN, PURPLE, RED)
    for i, (name, values) in enumerate(bounds.items()):
        mark = "." if len(updates) < 40 else None
        axes.plot(updates, values, label=name, color=colours[i % len(colours)], marker=mark)
    axes.set(xlabel="update", ylabel="nats a puzzle", yscale="symlog")
    axes.axhline(0, color="0.7", linewidth=0.8)
    if len(bounds) > 1:
        axes.legend(frameon=False)
    else:
        axes.set_ylabel(f"{next(iter(bounds))}, nats a puzzle")
    tidy(axes)
    save(figure, path)
