"""Run folders as the commands see them: what is loaded, how deep it thinks, how JSON is printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.text import Text

from ..inference import select
from ..inference.solve import in_mode
from ..reporting import tables as report
from ..runtime.precision import chosen
from ..runtime.processes import Shares, main_process
from ..storage.checkpoint import load
from ..storage.measurement import Measurement, settings_of
from ..tasks.base import Task


def opened(folder: Path) -> tuple[Any, Task]:
    """Model, on CUDA where there is one (each of several processes has its own), and task of a run."""
    model, _, task = load(folder)
    shares = Shares(1, chosen(None))
    return model.to(shares.device), task


def depth(folder: Path, model: Any) -> int:
    """The supervision steps that a run was measured with, twice N_sup where it does not say."""
    steps = settings_of(folder).get("steps")
    return steps if isinstance(steps, int) else 2 * int(model.supervision)


def thinking(
    folder: Path, model: Any, task: Task, *, mode: str, steps: int | None = None, every: bool = False
) -> dict[str, Any]:
    """The options of a rollout: as the run was measured where its model decides or asks for no input, else a mode's.

    Args:
        folder: the run.
        model: its model.
        task: its task.
        mode: depth and noise where neither ``steps`` nor the run says.
        steps: supervision steps, before what the run or the mode says.
        every: all answers are wanted, and verified: no trajectory ends because another has an answer, and none is sent
            back by a second reading, which costs coverage.
    """
    options: dict[str, Any] = {"steps": steps}
    if model.block is not None or not task.inputs("test").shape[-1]:
        run = Measurement.stored(folder).options(task)
        options = run | {"steps": steps or run["steps"]} | ({"first_answer": False, "views": 1} if every else {})
    return in_mode(model, mode, options)


def selector(name: str | None) -> select.Selector | None:
    """The selector of a name.

    Raises:
        ValueError: there is none of that name.
    """
    if name is None:
        return None
    if name not in select.SELECTORS:
        raise ValueError(f"--select: expected one of {', '.join(select.SELECTORS)}, found {name!r}")
    return select.SELECTORS[name]


def side_by_side(boards: list[str]) -> Columns:
    """Boards as the terminal's width allows, a blank line between two rows of them."""
    return Columns([Text(board) for board in boards], padding=(1, 4))


@contextmanager
def answering(as_json: bool) -> Iterator[dict[str, Any]]:
    """Errors are one sentence. With JSON, all that is printed goes to standard error but the document, at the end.

    Of several processes the main one speaks.
    """
    document: dict[str, Any] = {}
    with report.plain_errors(), _silence():
        try:
            if as_json and main_process():
                with redirect_stdout(sys.stderr):
                    yield document
                sys.stdout.write(json.dumps(document) + "\n")
            else:
                yield document
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)


@contextmanager
def _silence() -> Iterator[None]:
    """Within, nothing is printed by processes beside the main one."""
    if main_process():
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield
