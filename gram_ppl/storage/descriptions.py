"""Models, guides and tasks as JSON, and back again, whoever wrote that JSON.

A description is a public class of this project and the arguments that build an object of it. One from a file is not
trusted: no class from elsewhere is built, no task asks for more than :data:`LIMITS`, and modules are built without
memory (on the meta device) before they are built in earnest, so that they have to agree with the tensors in the file.
"""

from __future__ import annotations

import dataclasses
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os.path import isfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

TASKS = ("gram_ppl.tasks",)
OBJECTS = ("gram_ppl.halt", "gram_ppl.poutine")  # public names of modules whose objects are options
_PUBLIC = {"gram_ppl.inference.halt": OBJECTS[0], "gram_ppl.program.poutine": OBJECTS[1]}
PACKAGES = ("gram_ppl.guides", "gram_ppl.heads", "gram_ppl.models", "gram_ppl.nn", *TASKS)

# The largest numbers in the description of a task, by argument: sides of a board, nodes of a graph, puzzles.
LIMITS = {"box": 16, "size": 64, "n": 40}
LARGEST = 100_000
COMPUTED = 1 << 28  # bytes of buffers that no file holds, such as relations of tokens, and 64 times what it holds


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
    home = type(thing).__module__
    package = _PUBLIC.get(home, ".".join(home.split(".")[:2]))
    return {"class": f"{package}.{type(thing).__name__}", "arguments": describe(arguments)}


def build(description: Any, *leading: Any, packages: tuple[str, ...] = PACKAGES) -> Any:
    """The object that :func:`describe` described; only this project's own classes are built.

    Raises:
        KeyError: the class is none of the packages.
    """
    if not (isinstance(description, dict) and set(description) == {"class", "arguments"}):
        return description
    package, _, name = str(description["class"]).rpartition(".")
    if package not in packages:
        raise KeyError(description["class"])
    found = getattr(importlib.import_module(package), name, None)
    if not isinstance(found, type) or name.startswith("_") or not found.__module__.startswith("gram_ppl."):
        raise KeyError(description["class"])
    arguments = {key: build(value, packages=packages) for key, value in description["arguments"].items()}
    return found(*leading, **arguments)


def difference(stored: Any, own: Any, name: str = "") -> str | None:
    """The first place in which two descriptions differ, in words."""
    if isinstance(stored, dict) and isinstance(own, dict):
        for key in sorted(stored.keys() | own.keys()):
            if other := difference(stored.get(key), own.get(key), f"{name}.{key}" if name else key):
                return other
        return None
    return None if stored == own else f"{name} was {_short(stored)} and is {_short(own)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def modest(description: Any, name: str = "") -> None:
    """See that the description of a task asks for no more than a task of this project needs.

    Raises:
        ValueError: a number beyond the limit of its argument, or a file that is a device.
    """
    if isinstance(description, dict):
        for key, value in description.items():
            modest(value, key)
    elif isinstance(description, list):
        for value in description:
            modest(value, name)
    elif isinstance(description, str):
        path = Path(description)
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError(f"its task asks for {name}={description!r}, which is no file")
    elif isinstance(description, int | float) and name != "seed":
        most = LIMITS.get(name, LARGEST)
        if not abs(description) <= most:
            raise ValueError(f"its task asks for {name}={description}, more than {most}: give load task=")


def with_texts(description: Any, change: Callable[[str], str]) -> Any:
    """A description with every text in it changed, however deep; keys stay."""
    if isinstance(description, dict):
        return {key: with_texts(value, change) for key, value in description.items()}
    if isinstance(description, list):
        return [with_texts(value, change) for value in description]
    return change(description) if isinstance(description, str) else description


def beside(description: Any, folder: Path) -> Any:
    """The description of a task, with the files that it names and that lie in a folder found there."""

    def found(text: str) -> str:
        return str(folder / text) if Path(text).name == text and isfile(folder / text) else text

    return with_texts(description, found)


def by_name(description: Any, folder: Path) -> Any:
    """The description of a task, with the files in a folder by their names, as :func:`beside` finds them elsewhere."""

    def named(text: str) -> str:
        lies_there = isfile(text) and Path(text).resolve().parent == folder.resolve()
        return Path(text).resolve().name if lies_there else text

    return with_texts(description, named)


@contextmanager
def weightless(tensors: dict[str, Tensor]) -> Iterator[None]:
    """Within, modules are built on the meta device, with parameters no larger or more than the tensors of a file.

    Raises:
        ValueError: there are more, or a larger one.
    """
    largest = max((tensor.numel() for tensor in tensors.values()), default=0)
    left, here = 2 * len(tensors) + 64, threading.get_ident()  # a module may replace some of its parameters

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is not None and threading.get_ident() == here:
            left -= 1
            if left < 0 or parameter.numel() > largest:
                raise ValueError("the weights do not fit: the description asks for more or larger ones")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            yield
    finally:
        hook.remove()


def computed(modules: list[nn.Module], tensors: dict[str, Tensor]) -> None:
    """See that the buffers of modules are not out of proportion to the tensors of a file.

    Raises:
        ValueError: they would take more than 256 MiB and 64 times the bytes of the file.
    """
    needed = sum(buffer.nbytes for module in modules for buffer in module.buffers())
    held = sum(tensor.nbytes for tensor in tensors.values())
    if needed > COMPUTED + 64 * held:
        raise ValueError(f"its description asks for buffers of {needed:,} bytes, and the file holds {held:,}")
