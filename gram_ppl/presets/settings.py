"""Single settings of nested dictionaries and frozen dataclasses, changed by dotted name: ``model.noise.scale``."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from os import PathLike
from typing import Any, TypeVar

T = TypeVar("T")
NUMBERS_TOO = ("objective.window",)  # that are true, false or a number


def changed(
    thing: T, settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None, hidden: Collection[str] = ()
) -> T:
    """A copy with other values; those that are None stay as they are.

    Args:
        thing: a frozen dataclass, or a dictionary, of such and of plain values.
        settings: new values by dotted name.
        defaults: for each dictionary, by its name, what it may hold beside what it holds: names and usual values.
        hidden: names at the top that can't be changed.

    Raises:
        ValueError: no such setting, or a value of another kind than the one before.
    """
    for name, value in settings.items():
        if value is not None:
            thing = _changed(thing, name.split("."), value, defaults or {}, hidden, name)
    return thing


def parsed(changes: Sequence[str]) -> dict[str, Any]:
    """``name=value`` pairs of a command line's ``--set``; a value that is no JSON is text.

    Raises:
        ValueError: no such pair.
    """
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not (name and equals and text):
            raise ValueError(f"--set: expected NAME=VALUE, found {change!r}")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


def _changed(
    thing: Any, path: list[str], value: Any, defaults: Mapping[str, Any], hidden: Collection[str], name: str
) -> Any:
    key, *rest = path
    options: dict[str, Any] = {}
    if isinstance(thing, dict):
        options = {**defaults, **thing}
    elif is_dataclass(thing):
        own = sorted(fields(thing), key=lambda field: bool(field.kw_only))
        options = {field.name: getattr(thing, field.name) for field in own if field.name not in hidden}
    if key not in options:
        known = f": expected one of {', '.join(options)} in place of {key!r}" if options else ""
        raise ValueError(f"there is no setting {name!r}{known}")
    old = options[key]
    if rest:
        inner = defaults.get(key)
        value = _changed(old, rest, value, inner if isinstance(inner, dict) else {}, (), name)
    elif not (_alike(old, value) or (name in NUMBERS_TOO and type(value) is int)):
        raise ValueError(f"{name}: expected a value like {old!r}, found {value!r}")
    return thing | {key: value} if isinstance(thing, dict) else replace(thing, **{key: value})


def _alike(old: Any, new: Any) -> bool:
    """Whether a value is of the kind of the one that it replaces; anything may replace None or a missing value."""
    if old is None or isinstance(old, type):
        return True
    if isinstance(old, bool) or isinstance(new, bool):
        return isinstance(old, bool) and isinstance(new, bool)
    if is_dataclass(old):
        return is_dataclass(new)
    if isinstance(old, float):
        return isinstance(new, (int, float))
    if isinstance(old, (list, tuple)):
        return isinstance(new, (list, tuple))
    return isinstance(new, type(old)) or (isinstance(old, str) and isinstance(new, PathLike))
