"""Ctrl-C and SIGTERM: training stops between two updates, its state is written, and a sentence says how to go on."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ..storage.folder import STATE_FILE

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal stopped the process; ``signum`` is its number, the message says what to do to go on."""

    def __init__(self, signum: int, where: str = "", advice: str = "") -> None:
        name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
        self.signum = signum
        self.reason = f"stopped by {name}{where}"
        super().__init__(f"{self.reason}; {advice}" if advice else self.reason)


class Request:
    """Whether somebody asked to stop: ``signum`` is None, or the number of the signal."""

    signum: int | None = None

    def check(self, folder: Path | None, update: int, updates: int) -> None:
        """Stop between two updates, now that the state is in the folder.

        Raises:
            Stopped: a signal came.
        """
        if self.signum is not None:
            signum, self.signum = self.signum, None
            advice = f"the state is in {folder}, and gp.fit with out={str(folder)!r}, resume=True goes on"
            raise Stopped(signum, f" after update {update} of {updates}", advice)


@contextmanager
def deferred(folder: Path | None) -> Iterator[Request]:
    """Within, the first Ctrl-C and every SIGTERM only leave a request; a second Ctrl-C acts as it did before.

    Signals act as ever where there is no folder to write to, outside the main thread, and where they are ignored. A
    request that nobody took is delivered at the end.
    """
    request = Request()

    def ask(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        if signum == signal.SIGINT and signum in before:
            signal.signal(signum, before[signum])

    before: dict[int, Any] = {}
    try:
        if folder is not None:
            before = _handle(ask)
        yield request
    finally:
        _restore(before)
    if request.signum is not None:
        signal.raise_signal(request.signum)


@contextmanager
def resumable(folder: str | Path, command: str | None = None) -> Iterator[None]:
    """For command lines: Ctrl-C and SIGTERM end the process with exit code 130 or 143 and one sentence.

    Args:
        folder: of the run; where it holds a state, the sentence names the command that goes on.
        command: that command; the present one and ``--resume`` if not given.
    """
    if command is None:
        given = [os.path.basename(sys.executable), *sys.argv]
        command = shlex.join(given if "--resume" in given else [*given, "--resume"])

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Stopped(signum)

    before = _handle(stop, (signal.SIGTERM,))
    try:
        yield
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        advice = f"; this goes on: {command}" if (Path(folder) / STATE_FILE).exists() else ""
        sys.stderr.write(f"{stopped.reason}{advice}\n")
        sys.exit(128 + stopped.signum)
    finally:
        _restore(before)


def _handle(
    handler: Callable[[int, FrameType | None], None], signals: tuple[signal.Signals, ...] = SIGNALS
) -> dict[int, Any]:
    """Set a handler where that can be undone; the handlers before, by signal."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    kept = (None, signal.SIG_IGN)  # not Python's own, or ignored on purpose
    found = [signum for signum in signals if signal.getsignal(signum) not in kept]
    return {int(signum): signal.signal(signum, handler) for signum in found}


def _restore(before: dict[int, Any]) -> None:
    for signum, handler in before.items():
        signal.signal(signum, handler)
