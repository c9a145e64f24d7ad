"""Pictures, tables and the page of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.columns import Columns
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from ..runtime.processes import main_process
from ..storage.folder import CURVES_FILE, METRICS_FILE
from ..tasks.base import Task
from ..training.errors import NonFiniteLoss
from ..training.record import History
from .page import page as page
from .pictures import training_curves as training_curves


def boards(task: Task, x: Tensor, answers: Tensor) -> Columns:
    """A puzzle ``[L_in]`` and answers to it ``[S, L_out]``, side by side for the terminal."""
    shown = [task.render(x), *(task.render(x, y) for y in answers)]
    return Columns([Text(board) for board in shown], padding=(0, 4))


def pictures(task: Task, x: Tensor, answers: Tensor, path: str | Path, columns: int = 6) -> None:
    """Inputs and answers as one PNG or SVG file.

    Args:
        task: draws them.
        x: one input ``[L_in]``, drawn first if it has tokens, or an input for each answer, ``[S, L_in]``.
        answers: ``[S, L_out]``.
        path: the file to write.
        columns: boards in a row.
    """
    from matplotlib.figure import Figure  # slow to import

    boards: list[tuple[Tensor, Tensor | None]] = [(x, None)] if x.dim() == 1 and len(x) else []
    boards += list(zip(x.expand(len(answers), -1), answers, strict=True))
    columns = max(1, min(columns, len(boards)))
    rows = max(1, -(-len(boards) // columns))
    figure = Figure(figsize=(2 * columns, 2 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    for axes, (given, answer) in zip(panels, boards, strict=False):
        task.draw(axes, given, answer)
    figure.savefig(path, dpi=120)


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


def record(title: str, out: Path, history: History, metrics: dict[str, Any]) -> None:
    """Print the metrics of a run; leave them in ``metrics.json`` and the curves in ``training.png``.

    Of processes that train together the main one does.

    Args:
        title: of the table.
        out: the run's folder.
        history: what :func:`gram_ppl.fit` returned.
        metrics: what :func:`gram_ppl.metrics.evaluate` returned, or the like.
    """
    if not main_process():
        return
    metrics = metrics | {"train_seconds": history[-1].seconds, "updates": history[-1].update}
    Console().print(metrics_table(title, {"GRAM": metrics}))
    out.mkdir(parents=True, exist_ok=True)
    (out / METRICS_FILE).write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    training_curves(history, out / CURVES_FILE)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Bad input and stopped runs: one sentence on standard error and exit code 2 instead of a traceback."""
    try:
        yield
    except (ValueError, OSError, NonFiniteLoss, torch.OutOfMemoryError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
