"""A run's folder: one process at a time trains in it, any number of others read it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..runtime.locks import NO_LOCKS as NO_LOCKS  # a name of 0.1
from ..runtime.locks import lock
from ..runtime.processes import main_process

# What is in it, beside ``checkpoint.MODEL_FILE``.
STATE_FILE = "state.safetensors"  # to go on with
RUN_FILE = "run.json"  # what was asked for, and how the run is measured
METRICS_FILE = "metrics.json"
CURVES_FILE = "training.png"
LOCK_FILE = ".lock"

_held: dict[Path, int] = {}  # folders that this process has locked, and the thread that did


class FolderInUse(OSError):
    """Another process, or another thread, trains in the folder, which the message names."""


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file, or nothing where there is no such file.

    Raises:
        ValueError: the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: the file is damaged")
    return found


@contextmanager
def locked(folder: str | Path | None) -> Iterator[None]:
    """Within, no other process trains in the folder; None locks nothing.

    The lock is the operating system's, on a file that stays in the folder, and ends with the process however that
    ends. A thread that holds it may ask again. Of processes that train together the main one holds it for all. What
    killed processes left half written is removed.

    Raises:
        FolderInUse: somebody else holds the lock.
    """
    key = None if folder is None or not main_process() else Path(folder).resolve()
    if key is None or _held.get(key) == threading.get_ident():
        yield
        return
    key.mkdir(parents=True, exist_ok=True)
    file = os.open(key / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(file, folder)
        _held[key] = threading.get_ident()
        for left in key.glob(".*.safetensors.*.tmp"):
            left.unlink(missing_ok=True)
        yield
    finally:
        if _held.get(key) == threading.get_ident():
            del _held[key]
        os.close(file)


def _lock(file: int, folder: object) -> None:
    if not lock(file):
        os.lseek(file, 0, os.SEEK_SET)
        owner = os.read(file, 20).decode(errors="replace").strip()
        by = f" (process {owner})" if owner else ""
        raise FolderInUse(f"{folder}: another run{by} is training in this folder; name another one")
    with suppress(OSError):  # a full disk; the number only serves the message
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        os.write(file, f"{os.getpid()}\n".encode())
