"""One question to a model as the local page asks it: a puzzle as text, within limits; always an answer in words."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..inference.course import Moment, course
from ..reporting.board import board
from ..reporting.watch import summary, watch_page, watched
from ..storage.card import Card
from ..storage.measurement import Measurement
from ..storage.places import located
from ..tasks.base import Task
from ..training.errors import NonFiniteLoss
from .folders import opened, thinking
from .puzzles import known, pasted

TEXT, SAMPLES, SECONDS = 20_000, 50, 300  # characters of a puzzle, trajectories and seconds, at most
LASTS = 60  # seconds, if not said otherwise
MOMENTS = 500  # decisions, or supervision steps, that a page shows at most
SHOWN = 24  # answers that are drawn
SENTENCE = 300  # characters of what is wrong


class Offer(NamedTuple):
    """A model that can be asked."""

    name: str
    model: Any
    task: Task
    about: str  # in a sentence
    samples: int  # trajectories, as it was measured
    asks: bool  # whether it takes a puzzle


class Answer(NamedTuple):
    """What came of a question."""

    sentence: str  # that, or why there is no answer
    found: int = 0  # different verified answers
    solutions: int | None = None  # that exist; None if nobody knows
    exact: bool = False  # whether that is their number, or a lower bound
    boards: tuple[str, ...] = ()  # the answers as SVG, the first ones of many
    facts: tuple[str, ...] = ()  # cost, in words
    page: str = ""  # to watch the trajectories on, HTML


@cache
def offered(name: str) -> Offer:
    """The model of a folder, ``pretrained:NAME`` or ``hub:OWNER/NAME``.

    Raises:
        ValueError, OSError: there is none.
    """
    model, task = opened(Path(name))
    card, run = Card.read(located(name)), Measurement.stored(Path(name))
    about = card.about if card else f"{model.title} on {task.title}"
    return Offer(name, model, task, about, min(run.samples, 20), task.inputs("test").shape[-1] > 0)


def example(offer: Offer, number: int = 0) -> Tensor:
    """An input of the test, ``[L_in]``; the blank one where there is no test.

    Raises:
        ValueError: there is neither.
    """
    tests = offer.task.inputs("test")
    return tests[number % len(tests)] if len(tests) else offer.task.blank


def read(offer: Offer, text: str) -> Tensor:
    """The input ``[L_in]`` that a text describes.

    Raises:
        ValueError: it is too long, or none.
    """
    if not offer.asks:
        return example(offer)
    if len(text) > TEXT:
        raise ValueError(f"A puzzle has at most {TEXT:,} characters here, and this text has {len(text):,}.")
    return pasted(offer.task, text).x


def fault(error: Exception) -> str:
    """One line of what is wrong."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= SENTENCE else f"{words[: SENTENCE - 3]}..."


def ask(name: str, text: str, samples: int | None = None, seed: int = 0, seconds: float = LASTS) -> Answer:
    """Different verified answers to one puzzle, and a page to watch how they came about.

    The trajectories are those of ``gram-ppl watch`` under the same seed, but for the end of the time. Where a puzzle
    has one solution, trajectories end with the first answer if the model was measured so.

    Args:
        name: of the model.
        text: the puzzle; of no meaning for models that make boards from nothing.
        samples: trajectories; as the model was measured if not given.
        seed: of their noise.
        seconds: after which trajectories are cut off, without an answer.
    """
    try:
        offer = offered(name)
        samples = offer.samples if samples is None else samples
        for what, value, most in (("trajectories", samples, SAMPLES), ("seconds", seconds, SECONDS)):
            if not 1 <= value <= most:
                raise ValueError(f"Between 1 and {most} {what}, please.")
        if samples != int(samples) or not 0 <= seed < 2**32 or seed != int(seed):
            raise ValueError("Trajectories and seed are whole numbers, the seed from 0 to 4,294,967,295.")
        return _answer(offer, read(offer, text), int(samples), int(seed), seconds)
    except (ValueError, OSError, NotImplementedError, NonFiniteLoss, torch.OutOfMemoryError) as error:
        return Answer(fault(error))


def _answer(offer: Offer, x: Tensor, samples: int, seed: int, seconds: float) -> Answer:
    model, task = offer.model, offer.task
    solutions = known(task, x)
    options = thinking(Path(offer.name), model, task, mode="coverage", every=solutions != (1, True))
    begun, moments, limit = perf_counter(), list[Moment](), ""
    for moment in course(model, x, num_samples=samples, seed=seed, **options):
        moments.append(moment)
        if not moment.running.any():
            break
        if perf_counter() - begun > seconds:
            limit = f"{seconds:g} seconds"
            break
        if len(moments) == MOMENTS:
            limit = f"{moment.number:,} supervision steps"
            break
    took = perf_counter() - begun
    data = watched(task, x, moments, solutions)
    sentence = summary(data) + (f" Cut off after {limit}." if limit else "")
    if not any(data["answered"][-1]):
        limit = limit or f"{moments[-1].number:,} supervision steps"
        sentence = f"Unanswered: none of {samples} trajectories came to an answer within {limit}."
    scene = task.scene(x)
    boards = [board(scene, one["tokens"], label=f"Answer {k}") for k, one in enumerate(data["answers"][:SHOWN], 1)]
    title = f"{task.title}: {samples} trajectories" if samples > 1 else f"{task.title}: a trajectory"
    made = f"gram-ppl app, {offer.name}, seed {seed}\n{task.line(x) if offer.asks else 'from nothing'}"
    return Answer(
        sentence,
        len(data["answers"]),
        solutions=solutions and solutions[0],
        exact=solutions is not None and solutions[1],
        boards=tuple(boards),
        facts=_facts(model, moments, data, took),
        page=watch_page(title, made, data),
    )


def _facts(model: Any, moments: list[Moment], data: dict[str, Any], took: float) -> tuple[str, ...]:
    """What it cost."""
    numbers, running = data["steps"], data["running"]
    ends = [
        next((number for number, on in zip(numbers, running, strict=True) if not on[k]), numbers[-1])
        for k in range(data["trajectories"])
    ]
    facts = [f"{took:.1f} seconds", f"{sum(ends):,} supervision steps"]
    if model.step_calls is not None:
        facts.append(f"{sum(ends) * model.step_calls:,} network calls")
    return (*facts, f"{sum(data['restarts'][-1]):,} restarts")
