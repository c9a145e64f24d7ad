"""The arguments that an object was made from, captured once instead of written a second time."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from numbers import Integral
from os import PathLike, fspath
from typing import Any


def plain(value: Any) -> Any:
    """Sequences as lists and paths as strings, as JSON has them."""
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return fspath(value) if isinstance(value, PathLike) else value


class Captured(type):
    """Of classes whose instances have a ``config``: the arguments that build them again, defaults included.

    Where a constructor hands its ``**options`` on, the arguments of the next class count as well, and
    ``inspect.signature`` knows them. What a constructor has written into ``config`` itself goes before.
    """

    without: Collection[str] = ()  # arguments that the config leaves out
    fixed: Collection[str] = ()  # arguments of its bases that a class chooses, so that nobody gives them
    options: tuple[type, ...] = ()  # what takes the options, where it is no base

    @property
    def __signature__(cls) -> inspect.Signature:
        found: dict[str, inspect.Parameter] = {}
        passed = True  # whether arguments are handed on to the next constructor
        for source in (*cls.__mro__, *cls.options):
            if "__init__" not in vars(source) or not (passed or source in cls.options):
                continue
            _, *own = inspect.signature(vars(source)["__init__"]).parameters.values()
            rest = [one for one in own if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
            passed = bool(rest)
            for one in own:
                if one not in rest and (source is cls or one.name not in cls.fixed):
                    found.setdefault(one.name, one)
        return inspect.Signature(sorted(found.values(), key=lambda one: one.kind))

    def __call__(cls, *given: Any, **named: Any) -> Any:
        bound = inspect.signature(cls).bind(*given, **named)
        bound.apply_defaults()
        made = super().__call__(*given, **named)
        found = {key: plain(value) for key, value in bound.arguments.items() if key not in cls.without}
        made.config = found | made.config
        return made


def probability(**numbers: float) -> None:
    """See that numbers are probabilities.

    Raises:
        ValueError: one is none; it says which.
    """
    for name, value in numbers.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be a probability, got {value}")


def whole(least: int = 1, /, **numbers: Any) -> None:
    """See that numbers are whole and not too small; None is none.

    Raises:
        ValueError: another; it says which.
    """
    for name, value in numbers.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{name} must be a whole number, got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
