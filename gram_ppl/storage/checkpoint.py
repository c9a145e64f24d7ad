"""Checkpoints: tensors in safetensors, everything else in its JSON header, written atomically, no pickle.

A file holds named tensors and one JSON document, and a checksum of each, so a flipped bit is an error and not a wrong
weight.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from ..tasks.base import Spec, Task
from .card import Card, digest
from .descriptions import TASKS, beside, build, by_name, computed, describe, modest, weightless
from .places import HUB, located, upload

FORMAT = "gram_ppl-1"
MODEL_FILE = "model.safetensors"


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or not one of this project's; the message names the file."""


def _checksums(tensors: dict[str, Tensor], document: str) -> dict[str, int]:
    sums = {
        key: zlib.crc32(tensor.contiguous().view(-1).view(torch.uint8).numpy().data) for key, tensor in tensors.items()
    }
    return {**sums, "": zlib.crc32(document.encode())}


def write(path: Path, tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
    """Write one checkpoint file; either the old file or the whole new one is there, never a part.

    Raises:
        OSError: it could not be written, and the old file is as it was; the message names the file and the cause.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(document)
    header = {"format": FORMAT, "document": text, "checksums": json.dumps(_checksums(tensors, text))}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(serialize(tensors, metadata=header))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        failed = OSError(f"{path}: the checkpoint could not be written: {error.strerror or error}")
        failed.errno = error.errno
        raise failed from error
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the document of one checkpoint file.

    Raises:
        CheckpointError: no such file, a damaged file, or a file of something else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    with blamed(path, "the checkpoint is damaged"):
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise CheckpointError(f"{path}: not a gram_ppl checkpoint")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if json.loads(header["checksums"]) != _checksums(tensors, header["document"]):
            raise CheckpointError(f"{path}: the checkpoint is damaged (a checksum does not match)")
        document = json.loads(header["document"])
        if not isinstance(document, dict):
            raise CheckpointError(f"{path}: the checkpoint is damaged (it describes nothing)")
    return tensors, document


@contextmanager
def blamed(path: Path, what: str) -> Iterator[None]:
    """Within, whatever goes wrong is a CheckpointError that names the file: a file can hold anything."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        plain = isinstance(error, ValueError | OSError | SafetensorError) and str(error)
        reason = " ".join((plain or f"{type(error).__name__}: {error}").split())
        raise CheckpointError(f"{path}: {what} ({reason[:300]})") from None


def save(folder: str | Path, model: nn.Module, guide: nn.Module, task: Task, *, card: Card | None = None) -> None:
    """Write ``model.safetensors`` into a folder: weights of model and guide, and how to build all three.

    Args:
        folder: a folder, or ``hub:OWNER/NAME``, a repository on the Hugging Face hub, which is made if there is none.
        model, guide, task: what is kept.
        card: what is to be said of them, for ``card.json`` and ``README.md``.

    Raises:
        ValueError: the hub refused them.
        OSError: they could not be written.
    """
    if str(folder).startswith(HUB):
        with TemporaryDirectory() as made:
            here = Path(made) / str(folder).rpartition("/")[2]
            save(here, model, guide, task, card=card)
            upload(str(folder), here)
        return
    modules = {"model": model, "guide": guide}
    tensors = {f"{part}.{key}": value for part, module in modules.items() for key, value in module.state_dict().items()}
    document = {"model": describe(model), "guide": describe(guide), "task": by_name(describe(task), Path(folder))}
    write(Path(folder) / MODEL_FILE, tensors, document)
    if card is not None:
        replace(card, sha256=digest(Path(folder) / MODEL_FILE)).write(Path(folder))


def load(
    folder: str | Path, *, task: Task | None = None, guide: Callable[[Any], nn.Module] | None = None
) -> tuple[Any, Any, Any]:
    """Model, guide and task of a folder that :func:`save` or training wrote, on the CPU.

    Args:
        folder: the run's folder, ``pretrained:NAME`` or ``hub:OWNER/NAME``. A file of data that the task names is
            looked for there too.
        task: the task, if it should not be built again from its description, or is larger than descriptions may be
            (boards of 64 × 64, graphs of 40 nodes, 100,000 puzzles).
        guide: makes the guide from the model, for a guide class of your own.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, foreign, or needs ``guide`` or ``task``.
        ValueError: no such weights in the library or on the hub.
    """
    path = located(folder) / MODEL_FILE
    tensors, document = read(path)
    if not {"model", "guide", "task"} <= document.keys():
        raise CheckpointError(f"{path}: not the model of a run")
    with blamed(path, "model, guide or task cannot be built again"):
        try:
            if task is None:
                modest(document["task"])
                task = build(beside(document["task"], path.parent), packages=TASKS)
            model, made = _modules(document, tensors, task.spec, guide is None, path)
        except KeyError as error:
            needs = str(error)[:200]
            raise CheckpointError(
                f"{path}: needs {needs}, which is not in gram_ppl: give load guide= or task="
            ) from None
    if guide is not None:
        made = guide(model)
    parts = {"model": model, "guide": made}
    fits({name: tensor for name, tensor in tensors.items() if name.split(".")[0] not in parts}, {}, path)
    for part, module in parts.items():
        fill(module, _part(tensors, part), path)
    return model, made, task


def begin_from(folder: str | Path, model: nn.Module, guide: nn.Module) -> None:
    """Put the weights of a folder into a model and a guide that are there, for training to go on from them.

    Args:
        folder: as for :func:`load`.
        model, guide: of the same kind and sizes as those in the folder.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or a weight is missing, left over or of another shape.
        ValueError: no such weights in the library or on the hub.
    """
    path = located(folder) / MODEL_FILE
    tensors, _ = read(path)
    for name, module in {"model": model, "guide": guide}.items():
        fill(module, _part(tensors, name), path)


def _modules(
    document: dict[str, Any], tensors: dict[str, Tensor], spec: Spec, own: bool, path: Path
) -> tuple[nn.Module, Any]:
    """Model and guide, unfilled; None for a guide that is not this project's ``own``.

    Both are built without memory first, and have to fit the tensors.
    """

    def both(spec: Spec) -> tuple[nn.Module, Any]:
        model = build(document["model"], spec)
        return model, build(document["guide"], model) if own else None

    with weightless(tensors):
        model, guide = both(spec.to("meta"))
    fits(_part(tensors, "model"), model.state_dict(), path)
    if own:
        fits(_part(tensors, "guide"), guide.state_dict(), path)
    computed([model], tensors)
    return both(spec)


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def fits(state: dict[str, Tensor], like: dict[str, Tensor], path: Path) -> None:
    """See that tensors have the names, shapes and dtypes of others.

    Raises:
        CheckpointError: they have not; the message names the file and the first that does not fit.
    """
    for name in sorted(state.keys() | like.keys()):
        found, expected = (
            f"{tensor.dtype} of {list(tensor.shape)}" if tensor is not None else "nothing"
            for tensor in (state.get(name), like.get(name))
        )
        if found != expected:
            raise CheckpointError(f"{path}: the weights do not fit: {name[:100]}: expected {expected}, found {found}")


def fill(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load a state dict, or say which file does not fit.

    Raises:
        CheckpointError: other names, shapes or dtypes.
    """
    fits(state, module.state_dict(), path)
    module.load_state_dict(state)


def part(tensors: dict[str, Tensor], prefix: str, device: torch.device) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it, on a device."""
    found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return {key: value.to(device) for key, value in found.items()}
