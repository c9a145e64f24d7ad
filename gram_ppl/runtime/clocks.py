"""How the time of an update is split: data, forward, backward, optimiser, and the heads where they are trained."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
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
        mark: puts an event into the stream; it has ``synchronize`` and ``elapsed_time`` (ms).
        most: updates to time.
    """

    def __init__(self, mark: Callable[[], Any], *, most: int = 200) -> None:
        self.mark = mark
        self.most = most
        self.updates: list[list[tuple[str, Any]]] = []  # events by the phase that they end; the first is the start
        self.full = False

    def start(self) -> None:
        self.full = len(self.updates) == self.most
        if not self.full:
            self.updates.append([("", self.mark())])

    def end(self, phase: str) -> None:
        if not self.full:
            self.updates[-1].append((phase, self.mark()))

    def take(self) -> tuple[int, dict[str, float]]:
        updates, self.updates = self.updates, []
        seconds: dict[str, float] = {}
        if updates:
            updates[-1][-1][1].synchronize()
        for events in updates:
            for (_, before), (phase, after) in pairwise(events):
                seconds[phase] = seconds.get(phase, 0.0) + before.elapsed_time(after) / 1000
        return len(updates), seconds


def clock(device: torch.device) -> Clock:
    """The clock of a device."""

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    return DeviceClock(mark) if device.type == "cuda" else WallClock()
