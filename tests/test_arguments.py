"""Constructor arguments are captured: the config of an object builds it again."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from gram_ppl.runtime.arguments import Captured


class Base(metaclass=Captured):
    without = ("spec",)

    def __init__(self, spec: str, *, width: int = 4, depth: int = 2) -> None:
        self.config: dict[str, Any] = {}
        self.spec, self.width, self.depth = spec, width, depth


class Fixed(Base):
    fixed = ("depth",)

    def __init__(self, spec: str, *, places: Any = (), **options: Any) -> None:
        super().__init__(spec, depth=7, **options)


class Further(Fixed):
    def __init__(self, spec: str, **options: Any) -> None:
        super().__init__(spec, **options)
        self.config["width"] = self.width + 1


class Alone(Base):
    def __init__(self) -> None:
        super().__init__("x")


class Part:
    def __init__(self, size: int = 3) -> None:
        self.size = size


class Bare(metaclass=Captured):
    def __init__(self) -> None:
        self.config: dict[str, Any] = {}


class Whole(Bare):
    without = ("spec",)
    options = (Part,)

    def __init__(self, spec: str, **options: Any) -> None:
        super().__init__()
        self.part = Part(**options)


def test_given_and_default_arguments() -> None:
    assert Base("s", depth=3).config == {"width": 4, "depth": 3}
    assert Base(spec="s").config == {"width": 4, "depth": 2}


def test_arguments_that_are_handed_on_count_and_fixed_ones_do_not() -> None:
    assert Fixed("s", width=5, places=(1, Path("a"))).config == {"width": 5, "places": [1, "a"]}
    assert Fixed("s").depth == 7
    assert list(inspect.signature(Fixed).parameters) == ["spec", "places", "width"]
    for wrong in ("depth", "height"):
        with pytest.raises(TypeError, match=wrong):
            Fixed("s", **{wrong: 1})


def test_what_a_constructor_wrote_goes_before() -> None:
    assert Further("s", width=5).config == {"width": 6, "places": []}


def test_a_constructor_without_arguments_asks_for_none() -> None:
    assert Alone().config == {}


def test_options_of_a_part() -> None:
    assert Whole("s", size=9).config == {"size": 9}
    assert Whole("s").part.size == 3
