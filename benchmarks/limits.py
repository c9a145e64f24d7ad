"""Commands that end after so many minutes and go on when they are called again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NOT_FINISHED = 75  # the exit code that says so


class TimeUp(Exception):
    """The minutes of this command are over."""


@contextmanager
def at_most(minutes: float) -> Iterator[None]:
    """Within: :class:`TimeUp` is raised after so many minutes, between two instructions of Python; never if 0.

    Python drops what is raised in a finalizer or in a callback of the garbage collector: then it is raised once more.
    """

    def stop(*_: Any) -> None:
        raise TimeUp

    def dropped(what: Any) -> None:
        if isinstance(what.exc_value, TimeUp):
            signal.setitimer(signal.ITIMER_REAL, 0.001)
        else:
            hook(what)

    before, hook = signal.signal(signal.SIGALRM, stop), sys.unraisablehook
    sys.unraisablehook = dropped
    signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.unraisablehook = hook
