"""Run folders as the commands see them: what is loaded, how deep it thinks, how JSON is printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from rich.columns import Columns
from rich.text import Text

from ..inference import select
from ..inference.halt import Halt, Never
from ..program.poutine import Temperature
from ..reporting import tables as report
from ..runtime.processes import Shares, main_process
from ..storage.checkpoint import load
from ..storage.descriptions import OBJECTS, build, describe
from ..storage.folder import RUN_FILE, json_object
from ..tasks.base import Task


def settings_of(folder: Path) -> dict[str, Any]:
    """What ``train`` wrote down of its command line; nothing if there is no such file.

    Raises:
        ValueError: the file is no JSON object.
    """
    return json_object(folder / RUN_FILE)


@dataclass(frozen=True)
class Measurement:
    """How the trajectories of a run are measured: what ``train`` keeps in the folder for every later command."""

    samples: int = 20
    steps: int | None = None
    held_out: int = 500
    halt: Halt = Never()  # noqa: RUF009 (frozen)
    temperature: float | Callable[[int], float] = 1.0
    retry: int | None = None

    @classmethod
    def of(cls, preset: Any) -> Self:
        """That of a preset."""
        return cls(**{name: getattr(preset, name) for name in cls.__dataclass_fields__})

    @classmethod
    def stored(cls, folder: Path) -> Self:
        """That of a run; what its folder doesn't tell is the default.

        Raises:
            ValueError: the folder tells nonsense.
        """
        run = settings_of(folder)
        try:
            found = {name: build(run[name], packages=OBJECTS) for name in cls.__dataclass_fields__ if name in run}
            made = cls(**found)
            counts = [made.samples, made.held_out, *(n for n in (made.steps, made.retry) if n is not None)]
            whole = all(type(count) is int and count > 0 for count in counts)
            if not (whole and isinstance(made.halt.first, int) and callable(made.halt)):
                raise ValueError
            Temperature(made.temperature)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError(f"{folder / RUN_FILE}: the file is damaged: it does not say how to measure") from None
        return made

    def described(self) -> dict[str, Any]:
        """As JSON, which :meth:`stored` reads."""
        return {name: describe(getattr(self, name)) for name in self.__dataclass_fields__}

    def options(self) -> dict[str, Any]:
        """The arguments of :func:`gram_ppl.rollout` but for the number of trajectories."""
        noise = None if self.temperature == 1.0 else Temperature(self.temperature)
        return {"steps": self.steps, "halt": self.halt, "retry": self.retry, "noise": noise}


def opened(folder: Path) -> tuple[Any, Task]:
    """Model, on CUDA where there is one (each of several processes has its own), and task of a run."""
    model, _, task = load(folder)
    shares = Shares(1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return model.to(shares.device), task


def depth(folder: Path, model: Any) -> int:
    """The supervision steps that a run was measured with, twice N_sup where it does not say."""
    steps = settings_of(folder).get("steps")
    return steps if isinstance(steps, int) else 2 * int(model.supervision)


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
