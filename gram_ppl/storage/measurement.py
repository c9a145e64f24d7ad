"""How a run is measured: declared once, part of every preset, kept in the run's folder for every later command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from ..inference.halt import Halt, Never
from ..program.poutine import Temperature
from ..tasks.base import Task
from .descriptions import OBJECTS, build, describe
from .folder import RUN_FILE, json_object
from .places import located


def settings_of(folder: Path) -> dict[str, Any]:
    """What ``train`` wrote down of its command line; nothing if there is no such file.

    Args:
        folder: or ``pretrained:NAME``, ``hub:OWNER/NAME``.

    Raises:
        ValueError: the file is no JSON object, or there is no such place.
    """
    return json_object(located(folder) / RUN_FILE)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Test inputs and their trajectories.

    Args:
        samples: trajectories for each input; without inputs, samples in all.
        steps: supervision steps of a trajectory.
        held_out: test inputs, at most.
        halt: when a trajectory stops.
        temperature: factor on its noise, or one for each step.
        retry: supervision steps after which one that has not stopped begins again.
        first_answer: of models that decide: an input's trajectories end with the first answer to it.
        symmetric: of models that decide: every step sees the input under a fresh symmetry of the task.
        views: symmetries under which such an answer has to hold.
    """

    samples: int = 20
    steps: int | None = None
    held_out: int = 500
    halt: Halt = Never()  # noqa: RUF009 (frozen)
    temperature: float | Callable[[int], float] = 1.0
    retry: int | None = None
    first_answer: bool = False
    symmetric: bool = False
    views: int = 1

    @classmethod
    def of(cls, preset: Measurement) -> Measurement:
        """That of a preset, without the rest of it."""
        return Measurement(**{field.name: getattr(preset, field.name) for field in fields(Measurement)})

    @classmethod
    def stored(cls, folder: Path) -> Self:
        """That of a run; what its folder doesn't tell, or leaves open, is the default.

        Raises:
            ValueError: the folder tells nonsense.
        """
        run = settings_of(folder)
        try:
            names = [field.name for field in fields(cls) if run.get(field.name) is not None]
            made = cls(**{name: build(run[name], packages=OBJECTS) for name in names})
            counts = [made.samples, made.held_out, made.views, *(n for n in (made.steps, made.retry) if n is not None)]
            whole = all(type(count) is int and count > 0 for count in counts)
            flags = all(isinstance(flag, bool) for flag in (made.first_answer, made.symmetric))
            if not (whole and flags and isinstance(made.halt.first, int) and callable(made.halt)):
                raise ValueError
            Temperature(made.temperature)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ValueError(f"{folder / RUN_FILE}: the file is damaged: it does not say how to measure") from None
        return made

    def write(self, folder: Path, **others: Any) -> None:
        """Into the folder of a run, for every later command; ``others`` stand beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        document = json.dumps(others | Measurement.of(self).described(), indent=2)
        (folder / RUN_FILE).write_text(document, encoding="utf-8")

    def described(self) -> dict[str, Any]:
        """As JSON, which :meth:`stored` reads."""
        return {field.name: describe(getattr(self, field.name)) for field in fields(self)}

    def options(self, task: Task) -> dict[str, Any]:
        """The arguments of :func:`gram_ppl.rollout` but for the number of trajectories."""
        noise = None if self.temperature == 1.0 else Temperature(self.temperature)
        symmetries = task.symmetries if self.symmetric else None
        found = {"steps": self.steps, "halt": self.halt, "retry": self.retry, "noise": noise}
        return found | {"first_answer": self.first_answer, "symmetries": symmetries, "views": self.views}
