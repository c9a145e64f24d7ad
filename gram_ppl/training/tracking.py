"""The course of a training run as named numbers, to TensorBoard or another tracker: records, speed and memory.

=============================  =================================================================================
``train/loss``, ``train/kl``…  each field of the :class:`gram_ppl.training.record.Record`
``validation/accuracy``        of prior rollouts, where it was measured
``time/step``                  seconds of an update since the record before, evaluations and checkpoints left out
``time/data``…                 its parts: data, forward, backward, optimiser; heads, where they are trained; graph
                               in place of forward, backward and optimiser, where it is one
``speed/examples_per_second``  rows ÷ ``time/step``
``speed/flops_utilisation``    products of a segment ÷ ``time/step`` ÷ the device's peak; absent where that isn't known
``memory/peak_gb``             10⁹ bytes: the most that torch held on CUDA, else the process in memory, so far
=============================  =================================================================================

On CUDA the times are those of the device, and nothing is read from it but where a record is due.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch

from ..runtime import clocks
from . import flops

PACKAGES = {"comet_ml": "comet-ml"}  # where the package has another name than the tracker


class Tracker(Protocol):
    """Where the numbers of a run go. Where it has a method ``close()``, that is called in the end, also after errors.

    Accelerate's own trackers fit, once started.
    """

    def log(self, values: dict[str, float], step: int) -> Any:
        """Take numbers by name, as they stand after ``step`` updates.

        A resumed run repeats the steps after its checkpoint.
        """


@dataclass(frozen=True)
class Options:
    """A tracker and what it has to know.

    Args:
        tracker: the name of one of Accelerate's ("tensorboard", "wandb", ...), or an object with a method ``log``.
        peak: TFLOP/s of one device, for utilisation; dense bf16 from a table if not given and the device is in it.
        project: what trackers that keep runs by project file this one under.
    """

    tracker: str | Tracker
    peak: float | None = None
    project: str = "gram_ppl"


class Run(Protocol):
    """What a tracker needs of a run."""

    clock: Any  # :class:`gram_ppl.runtime.clocks.Clock`, put in for as long as somebody tracks
    device: torch.device
    rows: Any  # with ``batch_size``

    def flops(self) -> int:
        """Floating point operations of an update."""


def options(tracker: str | Tracker | Options | None, folder: Path | None) -> Options | None:
    """A tracker with its options, found fit for use; None stays None.

    Raises:
        ValueError: no tracker of that name, its package is not installed, it needs a folder where there is none, the
            object has no method ``log``, or the peak is not positive.
    """
    if tracker is None:
        return None
    found = tracker if isinstance(tracker, Options) else Options(tracker)
    if found.peak is not None and not found.peak > 0:
        raise ValueError(f"peak must be positive TFLOP/s, got {found.peak}")
    if not isinstance(found.tracker, str):
        if not callable(getattr(found.tracker, "log", None)):
            raise ValueError(f"tracker: expected a name or an object with log(values, step), found {found.tracker!r}")
    elif _class(found.tracker).requires_logging_directory and folder is None:
        raise ValueError(f"tracker {found.tracker!r} writes files: it needs out=, the folder to write them to")
    return found


@contextmanager
def tracked(given: Options | None, trainer: Run, folder: Path | None) -> Iterator[Callable[[Any], None]]:
    """Within, the trainer's updates are timed; call what it yields with each record. With None nothing happens.

    Args:
        given: what :func:`options` found.
        trainer: the run.
        folder: of the run; TensorBoard writes to ``tensorboard`` in it.
    """
    if given is None:
        yield lambda record: None
        return
    tracker = _Named(given, folder) if isinstance(given.tracker, str) else given.tracker
    trainer.clock = clocks.clock(trainer.device)
    meter = Meter(trainer, flops.peak(trainer.device) if given.peak is None else given.peak)
    try:
        yield lambda record: tracker.log(named(record) | meter.read(), record.update)
    finally:
        trainer.clock = clocks.NoClock()
        if close := getattr(tracker, "close", None):
            close()


def named(record: Any) -> dict[str, float]:
    """The fields of a :class:`gram_ppl.training.record.Record` that are there, by the names that trackers show."""
    fields = record._asdict()
    del fields["update"]
    accuracy = {"validation/accuracy": fields.pop("prior_accuracy")}
    values = {f"train/{name}": value for name, value in fields.items()} | accuracy
    return {name: value for name, value in values.items() if value is not None}


class Meter:
    """Speed and memory since it was last read.

    Args:
        trainer: the run, with a clock.
        peak: TFLOP/s of its device; None for no utilisation.
    """

    def __init__(self, trainer: Run, peak: float | None) -> None:
        self.trainer = trainer
        self.peak = peak
        self.flops: int | None = None

    def read(self) -> dict[str, float]:
        """Numbers by name, after an update at least."""
        updates, parts = self.trainer.clock.take()
        step = sum(parts.values()) / updates
        values = {"time/step": step} | {f"time/{name}": seconds / updates for name, seconds in parts.items()}
        values["speed/examples_per_second"] = self.trainer.rows.batch_size / step
        values["memory/peak_gb"] = peak_memory(self.trainer.device) / 1e9  # before the count, which takes some
        if self.peak is not None:
            if self.flops is None:
                self.flops = self.trainer.flops()
            values["speed/flops_utilisation"] = self.flops / step / (self.peak * 1e12)
        return values


def peak_memory(device: torch.device) -> int:
    """Bytes at most until now: what torch has held on CUDA, else what the process has had in memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _Named:
    """One of Accelerate's trackers, started."""

    def __init__(self, given: Options, folder: Path | None) -> None:
        make = _class(str(given.tracker))
        if make.requires_logging_directory:
            self.tracker = make(str(given.tracker), str(folder))
        else:
            self.tracker = make(given.project)
        if hasattr(self.tracker, "start"):  # older versions start as they are made
            self.tracker.start()

    def log(self, values: dict[str, float], step: int) -> None:
        self.tracker.log(values, step=step)

    def close(self) -> None:
        self.tracker.finish()


def _class(name: str) -> Any:
    """The class of one of Accelerate's trackers."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers  # takes a second to import
    from accelerate.utils import LoggerType

    found = LOGGER_TYPE_TO_CLASS.get(name)
    if found is None:
        raise ValueError(f"there is no tracker {name!r}: expected one of {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}")
    # Classes that somebody registered with Accelerate are never listed as available.
    if name in map(str, LoggerType) and name not in map(str, get_available_trackers()):
        raise ValueError(f"tracker {name!r} needs its package: pip install {PACKAGES.get(name, name)}")
    return found
