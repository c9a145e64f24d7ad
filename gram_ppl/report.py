"""Pictures and tables of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.table import Table
from rich.text import Text
from torch import Tensor

from .tasks.base import Task
from .train import History


def training_curves(history: History, path: str | Path) -> None:
    """Loss, KL and prior accuracy over updates, as one PNG or SVG file.

    Args:
        history: what :func:`gram_ppl.fit` returned.
        path: the file to write.
    """
    from matplotlib.figure import Figure  # slow to import

    updates = [record.update for record in history]
    measured = [record for record in history if record.prior_accuracy is not None]
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    loss, kl, accuracy = figure.subplots(1, 3)
    loss.plot(updates, [record.loss for record in history])
    loss.set(ylabel="loss, nats a token", yscale="log")
    kl.plot(updates, [record.kl for record in history], label="all segments")
    kl.plot(updates, [record.kl_first for record in history], label="first segment")
    kl.set(ylabel="charged KL, nats a puzzle", yscale="symlog", ylim=(0, None))
    kl.legend(frameon=False)
    accuracy.plot([record.update for record in measured], [record.prior_accuracy for record in measured], marker=".")
    accuracy.set(ylabel="prior accuracy, validation", ylim=(0, 1.02))
    for axes in (loss, kl, accuracy):
        axes.set_xlabel("update")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def boards(task: Task, x: Tensor, answers: Tensor) -> Columns:
    """A puzzle ``[L_in]`` and answers to it ``[S, L_out]``, side by side for the terminal."""
    shown = [task.render(x), *(task.render(x, y) for y in answers)]
    return Columns([Text(board) for board in shown], padding=(0, 4))


def metrics_table(title: str, columns: dict[str, dict[str, Any]]) -> Table:
    """A terminal table of metrics: one column for each named model, one row for each metric that one has."""
    table = Table("", *columns, title=title)
    rows = list(dict.fromkeys(key for metrics in columns.values() for key in metrics))
    for row in rows:
        cells = [metrics.get(row, "") for metrics in columns.values()]
        if not any(isinstance(cell, dict) for cell in cells):
            texts = [f"{cell:,.3f}" if isinstance(cell, float) else f"{cell}" for cell in cells]
            table.add_row(row.replace("_", " "), *texts)
    return table
