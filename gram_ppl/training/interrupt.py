"""Ctrl-C and SIGTERM: training stops, its state is written, and a sentence says how to go on, all within ten seconds.

An update in flight is finished, unless the state before it is in the folder already: then training stops at once, be
it in a compiler, in an evaluation or in an update of a minute, and going on repeats that update. A command line that
was stopped doesn't wait for compilers at its end (:func:`prompt`).
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from ..storage.folder import STATE_FILE

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE = 8.0  # seconds that :func:`prompt` leaves a process


class Stopped(KeyboardInterrupt):
    """A signal stopped the process; ``signum`` is its number, the message says what to do to go on."""

    def __init__(self, signum: int, where: str = "", advice: str = "") -> None:
        name = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
        self.signum = signum
        self.reason = f"stopped by {name}{where}"
        super().__init__(f"{self.reason}; {advice}" if advice else self.reason)


class Request:
    """Whether somebody asked to stop: ``signum`` is None, or the number of the signal.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.signum: int | None = None
        self.stopped: Stopped | None = None  # what was raised
        self.where: str | None = ""  # how far the run is, where nothing is lost by stopping at once; None elsewhere

    def check(self, update: int, updates: int) -> None:
        """Stop between two updates, now that the state is in the folder.

        Raises:
            Stopped: a signal came.
        """
        if self.signum is not None:
            self.stop(f" after update {update} of {updates}")

    @contextmanager
    def at_once(self, update: int, updates: int, safe: bool = True) -> Iterator[None]:
        """Within, a signal stops right there where it is safe: the state in the folder is that of ``update``."""
        self.where = f" after update {update} of {updates}" if safe else None
        try:
            if self.where is not None and self.signum is not None:
                self.stop(self.where)
            yield
        finally:
            self.where = None

    def stop(self, where: str) -> None:
        """Raise what a signal asked for."""
        assert self.signum is not None
        there = self.folder is not None and (self.folder / STATE_FILE).exists()
        advice = f"the state is in {self.folder}, and gp.fit with out={str(self.folder)!r}, resume=True goes on"
        self.stopped = Stopped(self.signum, where, advice if there else "")
        raise self.stopped


@contextmanager
def _kept(request: Request) -> Iterator[None]:
    """Where what was raised to stop comes out of a library as another error, raise it again."""
    try:
        yield
    except Exception as error:
        if request.stopped is None:
            raise
        raise request.stopped from error


@contextmanager
def deferred(folder: Path | None) -> Iterator[Request]:
    """Within, Ctrl-C and SIGTERM stop where nothing is lost, and elsewhere leave a request.

    A second Ctrl-C acts as it did before. Signals act as ever where there is no folder to write to, outside the main
    thread, and where they are ignored. A request that nobody took is delivered at the end.
    """
    request = Request(folder)

    def ask(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        if request.where is not None:
            request.stop(request.where)
        if signum == signal.SIGINT and signum in before:
            signal.signal(signum, before[signum])

    before: dict[int, Any] = {}
    try:
        if folder is not None:
            before = _handle(ask)
        with _kept(request):
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

    request = Request()

    def stop(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        request.stop("")

    before = _handle(stop, (signal.SIGTERM,))
    try:
        with _kept(request):
            yield
    except KeyboardInterrupt as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        advice = f"; this goes on: {command}" if (Path(folder) / STATE_FILE).exists() else ""
        sys.stderr.write(f"{stopped.reason}{advice}\n")
        sys.exit(128 + stopped.signum)
    finally:
        _restore(before)


@contextmanager
def prompt(grace: float = GRACE) -> Iterator[None]:
    """Around a whole command line: the process ends ``grace`` seconds after a signal, whatever it is doing.

    It doesn't wait for threads and processes of compilers once it has said how to go on. Where Python doesn't come to
    its turn, in a long call of a library, it is ended as it is: the last checkpoint is whole.
    """
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    threading.Thread(target=_end, args=(ear, grace), daemon=True).start()
    try:
        yield
    except SystemExit as stop:
        if stop.code in [128 + signum for signum in SIGNALS]:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(stop.code))
        raise
    finally:
        signal.set_wakeup_fd(before)
        os.close(mouth)


def _end(ear: int, grace: float) -> None:
    """Wait for the number of a signal that asks to stop, or for the end of the pipe."""
    with open(ear, "rb", buffering=0) as numbers:
        while number := numbers.read(1):
            if number[0] in SIGNALS:
                time.sleep(grace)
                name = signal.Signals(number[0]).name
                os.write(2, f"ended {grace:.0f} s after {name}; the last checkpoint is whole\n".encode())
                os._exit(128 + number[0])


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
