"""``gram-ppl generate``, ``evaluate``, ``report`` and ``list``: what trained models make, and what they are worth."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from torch import Tensor, nn

from ..evaluation import metrics
from ..inference.rollout import rollout
from ..inference.select import Selector, distinct
from ..inference.solve import generate as generated
from ..program.poutine import Temperature
from ..reporting.tables import metrics_table, page
from ..runtime.precision import mean
from ..runtime.processes import Shares
from ..storage.card import Card
from ..storage.measurement import Measurement
from ..storage.places import PRETRAINED, located, names
from ..tasks.base import Task
from .folders import answering, depth, opened, selector, side_by_side
from .options import Folder, Json, Mode, Samples, Seed, Select, TestSteps


def generate(
    folder: Folder,
    samples: Annotated[int, typer.Option(min=1, help="Answers to make.")] = 12,
    steps: TestSteps = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Make whole boards or pictures from nothing, each judged by the task's verifier."""
    with answering(as_json) as document:
        model, task = opened(folder)
        steps = steps or depth(folder, model)
        nothing = task.inputs("test")[0]
        if len(nothing):
            raise ValueError(f"{folder}: this model answers inputs: use gram-ppl solve")
        noise = Measurement.stored(folder).options(task)["noise"]
        made = generated(model, num_samples=samples, steps=steps, noise=noise, seed=seed).cpu()
        valid = task.verify(nothing, made)
        different = int(distinct(task.canonical(made)[None], valid[None]).sum())
        texts = [task.render(nothing, y) for y in made]
        rows = zip(made.tolist(), texts, valid.tolist(), strict=True)
        document |= {"folder": str(folder), "task": type(task).__name__, "steps": steps, "samples": samples}
        document |= {"verified": int(valid.sum()), "different_verified": different}
        document["answers"] = [{"tokens": y, "text": text, "verified": ok} for y, text, ok in rows]
        if not as_json:
            console = Console(highlight=False, markup=False)
            console.print(side_by_side(texts))
            console.print(f"{int(valid.sum()):,} of {samples:,} verified, {different:,} of them different")


def evaluate(
    folder: Folder,
    samples: Annotated[int | None, typer.Option(min=1, help="Trajectories for each input; those of the run.")] = None,
    steps: TestSteps = None,
    select: Select = None,
    mode: Mode = None,
    held_out: Annotated[int | None, typer.Option(min=1, help="Test inputs, at most; those of the run.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure a run on its test inputs: accuracy, selected answer, any of N, coverage, and what an ideal reaches."""
    with answering(as_json) as document:
        chosen = selector(select)
        model, task = opened(folder)
        run = Measurement.stored(folder)
        how = Measurement() if mode else replace(run, steps=depth(folder, model))
        how = replace(how, samples=samples or run.samples, steps=steps or how.steps)
        x = task.inputs("test")[: held_out or run.held_out]
        document |= {"folder": str(folder), "task": type(task).__name__}
        document |= measure(model, task, x, how, select=chosen, mode=mode, seed=seed)
        if not as_json:
            Console().print(metrics_table(str(folder), {"": document}))


def report(
    folder: Folder,
    samples: Samples = 20,
    steps: Annotated[int | None, typer.Option(min=1, help="Supervision steps of a trajectory; the run's.")] = None,
    held_out: Annotated[int, typer.Option(min=1, help="Test inputs behind the pictures, at most.")] = 100,
    out: Annotated[Path | None, typer.Option(help="Folder of the page; that of the run if not given.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Write a page with the figures and pictures of a run into its folder, as Markdown and HTML.

    Weights of the package and of the hub need --out.
    """
    with answering(as_json) as document:
        sizes: dict[str, Any] = {"puzzles": held_out, "samples": samples, "steps": steps}
        files = [str(path) for path in page(folder, **sizes, seed=seed, out=out)]
        document |= {"folder": str(folder), "files": files}
        if not as_json:
            print(*files, sep="\n")


def shipped(as_json: Json = False) -> None:
    """The trained weights that come with the library, each a model of its own."""
    with answering(as_json) as document:
        cards = {name: Card.read(located(f"{PRETRAINED}{name}")) for name in names()}
        document |= {name: card and asdict(card) for name, card in cards.items()}
        if not as_json:
            table = Table(
                Column("name", no_wrap=True), "what it is", "parameters", "one sample", "selected", "coverage"
            )
            for name, card in cards.items():
                if card is not None:
                    figures = [card.figures.get(key) for key in ("accuracy", "selected_accuracy", "coverage")]
                    shown = ["" if figure is None else f"{figure:.3f}" for figure in figures]
                    table.add_row(f"{PRETRAINED}{name}", card.about, f"{card.parameters:,}", *shown)
            Console().print(table)


def measure(
    model: nn.Module,
    task: Task,
    x: Tensor,
    how: Measurement,
    *,
    select: Selector | None = None,
    mode: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What a model is worth: :func:`gram_ppl.metrics.evaluate` on inputs, shares of what it makes from nothing.

    Args:
        model: the program.
        task: judges its answers; its own score stands beside.
        x: test inputs, ``[B, L_in]``; ``[B, 0]`` for a model of whole boards or pictures.
        how: trajectories for each input (without inputs, answers in all), their depth, halting and noise; without
            inputs halting and retries say nothing.
        select: behind the selected accuracy; that of the mode, or majority vote, if not given.
        mode: as for :func:`gram_ppl.solve`; it has a noise of its own where ``how`` leaves the temperature at 1.
        seed: of the trajectories.

    Raises:
        ValueError: there are no test inputs, or the temperature is negative.
    """
    if not len(x):
        raise ValueError("the test split is empty: there is nothing to measure on")
    if not x.shape[1]:
        return from_nothing(model, task, x[0], how, seed)[0]
    options = {"num_samples": how.samples, **how.options(task)}
    found = metrics.evaluate(model, task, x=x, **options, select=select, mode=mode, seed=seed)
    return found | task.own_score(x, lambda x: rollout(model, x, **options, seed=seed).tokens.cpu())


def from_nothing(
    model: nn.Module, task: Task, nothing: Tensor, how: Measurement, seed: int
) -> tuple[dict[str, Any], Tensor]:
    """What :func:`measure` says of a model of whole boards or pictures, and those that it made, ``[N, L_out]``."""
    program: Any = model
    shares = Shares(1, next(model.parameters()).device)
    options: dict[str, Any] = {"steps": how.steps, "noise": Temperature(how.temperature), "seed": seed}
    start = perf_counter()
    out = rollout(model, nothing[None], num_samples=how.samples, shares=shares, **options)
    seconds, made = perf_counter() - start, out.tokens[0].cpu()
    valid = task.verify(nothing, made)
    different = int(distinct(task.canonical(made)[None], valid[None]).sum())
    found = {"accuracy": mean(valid), "distinct": different, "num_samples": how.samples, "steps": mean(out.steps)}
    found |= {"seconds": seconds}
    if program.step_calls is not None:
        found["network_calls"] = int(out.steps.sum()) * program.step_calls
    if out.answered is not None and out.restarts is not None:
        answered = out.answered[0].cpu()
        found |= {"unanswered": mean(~answered), "wrong": mean(answered & ~valid), "restarts": mean(out.restarts)}
    if task.listable:
        total = task.num_solutions(nothing)
        found |= {"coverage": different / total, "boards_in_all": total}
    return found, made
