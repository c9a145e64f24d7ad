"""Checkpoints: tensors in safetensors, everything else in its JSON header, written atomically, no pickle.

A file holds named tensors and one JSON document, and a checksum of each, so a flipped bit is an error and not a wrong
weight.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from .tasks.base import Task

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
    """Write one checkpoint file; either the old file or the whole new one is there, never a part."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(document)
    header = {"format": FORMAT, "document": text, "checksums": json.dumps(_checksums(tensors, text))}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(serialize(tensors, metadata=header))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the document of one checkpoint file.

    Raises:
        CheckpointError: no such file, a damaged file, or a file of something else.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise CheckpointError(f"{path}: not a gram_ppl checkpoint")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        document = json.loads(header["document"])
        checksums = json.loads(header["checksums"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: the checkpoint is damaged ({error})") from None
    if checksums != _checksums(tensors, header["document"]):
        raise CheckpointError(f"{path}: the checkpoint is damaged (a checksum does not match)")
    return tensors, document


def describe(thing: Any) -> Any:
    """JSON for a model, guide, task or option object: its public class and the arguments that build it again."""
    if isinstance(thing, dict):
        return {key: describe(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [describe(value) for value in thing]
    if thing is None or isinstance(thing, str | int | float | bool):
        return thing
    if dataclasses.is_dataclass(thing):
        arguments = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
    else:
        arguments = thing.config
    package = ".".join(type(thing).__module__.split(".")[:2])
    return {"class": f"{package}.{type(thing).__name__}", "arguments": describe(arguments)}


PACKAGES = ("gram_ppl.guides", "gram_ppl.heads", "gram_ppl.models", "gram_ppl.nn", "gram_ppl.tasks")


def build(description: Any, *leading: Any) -> Any:
    """The object that :func:`describe` described; only this project's own classes are built.

    Raises:
        KeyError: the class is not one of this project's.
    """
    if not (isinstance(description, dict) and set(description) == {"class", "arguments"}):
        return description
    package, _, name = description["class"].rpartition(".")
    if package not in PACKAGES:
        raise KeyError(description["class"])
    found = getattr(importlib.import_module(package), name, None)
    if not isinstance(found, type) or name.startswith("_") or not found.__module__.startswith(package):
        raise KeyError(description["class"])
    return found(*leading, **{key: build(value) for key, value in description["arguments"].items()})


def save(folder: str | Path, model: nn.Module, guide: nn.Module, task: Task) -> None:
    """Write ``model.safetensors`` into a folder: weights of model and guide, and how to build all three."""
    modules = {"model": model, "guide": guide}
    tensors = {f"{part}.{key}": value for part, module in modules.items() for key, value in module.state_dict().items()}
    document = {"model": describe(model), "guide": describe(guide), "task": describe(task)}
    write(Path(folder) / MODEL_FILE, tensors, document)


def load(
    folder: str | Path,
    *,
    task: Task | None = None,
    guide: Callable[[Any], nn.Module] | None = None,
) -> tuple[Any, Any, Any]:
    """Model, guide and task of a folder that :func:`save` or training wrote, on the CPU.

    Args:
        folder: the run's folder.
        task: the task, if it should not be built again from its description.
        guide: makes the guide from the model, for a guide class of your own.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, foreign, or needs ``guide`` or ``task``.
    """
    path = Path(folder) / MODEL_FILE
    tensors, document = read(path)
    try:
        task = build(document["task"]) if task is None else task
        model = build(document["model"], task.spec)
        made = build(document["guide"], model) if guide is None else guide(model)
    except KeyError as error:
        raise CheckpointError(f"{path}: needs {error}, which is not in gram_ppl: give load guide= or task=") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: model, guide or task cannot be built again: {error}") from None
    for part, module in (("model", model), ("guide", made)):
        prefix = f"{part}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        fill(module, state, path)
    return model, made, task


def fill(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load a state dict, or say which file does not fit."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights do not fit: {' '.join(str(error).split())}") from None
