"""How the time of an update is split: data, forward, backward, optimiser, and the heads where they are trained."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """What an update tells of itself: its start, then the end of each of its phases, as often as one comes up."""

    def start(self) -> None: ...

    def end(self, phase: str) -> None: ...

    def take(self) -> tuple[int, dict[str, float]]:
        """How many updates were timed since it was last asked, and their seconds by phase; it begins anew."""


class NoClock:
    """Takes no notice."""

    def start(self) -> None:
        pass

    def end(self, phase: str) -> None:
        pass

    def take(self) -> tuple[int, dict[str, float]]:
        return 0, {}


class WallClock:
    """The processor's clock, for work that is done when the call returns."""

    def __init__(self) -> None:
        self.updates = 0
        self.seconds: dict[str, float] = {}
        self.last = 0.0

    def start(self) -> None:
        self.updates += 1
        self.last = time.perf_counter()

    def end(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.last
        self.last = now

    def take(self) -> tuple[int, dict[str, float]]:
        found = self.updates, self.seconds
        self.updates, self.seconds = 0, {}
        return found


class DeviceClock:
    """CUDA's clock: events in the stream, of which nobody reads the time before :meth:`take`, which waits for the last.

    Between two calls of it the first ``most`` updates are timed, so that events don't pile up.

    Args:
        event: makes an event with ``record``, ``synchronize`` and ``elapsed_time`` (ms).
        most: updates to time.
    """

    def __init__(
        self, event: Callable[[], Any] = lambda: torch.cuda.Event(enable_timing=True), *, most: int = 200
    ) -> None:
        self.event = event
        self.most = most
        self.marks: list[list[tuple[str, Any]]] = []  # of each update; the first of them marks its start
        self.full = False

    def start(self) -> None:
        self.full = len(self.marks) == self.most
        if not self.full:
            self.marks.append([])
            self.end("")

    def end(self, phase: str) -> None:
        if not self.full:
            event = self.event()
            event.record()
            self.marks[-1].append((phase, event))

    def take(self) -> tuple[int, dict[str, float]]:
        marks, self.marks = self.marks, []
        seconds: dict[str, float] = {}
        if marks:
            marks[-1][-1][1].synchronize()
        for update in marks:
            for (_, before), (phase, after) in zip(update, update[1:], strict=False):
                seconds[phase] = seconds.get(phase, 0.0) + before.elapsed_time(after) / 1000
        return len(marks), seconds


def clock(device: torch.device) -> Clock:
    """The clock of a device."""
    return DeviceClock() if device.type == "cuda" else WallClock()
