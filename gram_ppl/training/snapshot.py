"""The whole state of a run in one file: the tensors of each part, and the numbers beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..storage import checkpoint
from ..storage.descriptions import difference
from ..storage.folder import STATE_FILE
from . import optimizer
from .record import Record

if TYPE_CHECKING:
    from .trainer import Trainer


def store(trainer: Trainer, folder: Path) -> None:
    """Write it, atomically; all processes call, and one writes, with the rows of all."""
    rows = trainer.rows.state()
    window = {"window": trainer.shares.mean(torch.stack(trainer.window))} if trainer.window else {}
    if not trainer.shares.main:
        return
    tensors = {f"weights.{key}": value for key, value in trainer.segment.state_dict().items()}
    tensors |= trainer.average.state() | optimizer.state("optimizer", trainer.optimizer)
    if trainer.heads is not None:
        tensors |= optimizer.state("heads", trainer.heads.optimizer)
    tensors |= rows | window | {"random.cpu": torch.get_rng_state()}
    if trainer.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(trainer.device)
    document = {
        "run": _identity(trainer),
        "update": trainer.update,
        "seconds": trainer.seconds,
        "best": trainer.average.best,
        "history": [list(record) for record in trainer.history],
    }
    checkpoint.write(folder / STATE_FILE, tensors, document)


def restore(trainer: Trainer, folder: Path) -> None:
    """Continue from what :func:`store` wrote.

    Raises:
        CheckpointError: no state there, a damaged one, or one of other settings (the message names them).
    """
    path = folder / STATE_FILE
    tensors, document = checkpoint.read(path)
    if "run" not in document:
        raise checkpoint.CheckpointError(f"{path}: not the state of a training run")
    with checkpoint.blamed(path, "not the whole state of this run"):
        if other := difference(document["run"], _identity(trainer)):
            raise checkpoint.CheckpointError(f"{path}: belongs to a run with other settings: {other}")
        _take(trainer, tensors, document, path)


def last_good(folder: Path | None) -> str:
    """Where the last good state is, in words."""
    if folder is None or not (folder / STATE_FILE).exists():
        return "there is no checkpoint"
    _, document = checkpoint.read(folder / STATE_FILE)
    return f"the last good checkpoint is {folder / STATE_FILE}, update {document['update']}"


def _identity(trainer: Trainer) -> dict[str, Any]:
    parts = {"model": trainer.segment.model, "guide": trainer.segment.guide, "task": trainer.task}
    return checkpoint.describe({"settings": trainer.settings, **parts})


def _take(trainer: Trainer, tensors: dict[str, Tensor], document: dict[str, Any], path: Path) -> None:
    device = trainer.device
    trainer.rows.load(tensors, path)
    checkpoint.fill(trainer.segment, checkpoint.part(tensors, "weights.", device), path)
    trainer.average.load(tensors, path, device)
    optimizer.load(trainer.optimizer, checkpoint.part(tensors, "optimizer.", device), path)
    if trainer.heads is not None:
        optimizer.load(trainer.heads.optimizer, checkpoint.part(tensors, "heads.", device), path)
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)
    window = checkpoint.part(tensors, "window", device)
    checkpoint.fits(window, {name: torch.empty(len(window[name]), 5) for name in window if not name}, path)
    trainer.window = list(window.get("", ()))
    trainer.update, trainer.seconds, best = (document[key] for key in ("update", "seconds", "best"))
    trainer.average.best = best
    trainer.history = [Record(*values) for values in document["history"]]
    numbers = [trainer.update, trainer.seconds, best]
    numbers += [value or 0 for record in trainer.history for value in record]
    if not all(isinstance(number, int | float) for number in numbers):
        raise ValueError("update, seconds, best accuracy or history are no numbers")
    if trainer.update not in range(1, trainer.settings["updates"] + 1):
        raise ValueError(f"there is no update {trainer.update}")
