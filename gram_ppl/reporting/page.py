"""One page about a run folder: what it is worth, figures, pictures, settings; as Markdown and as HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..evaluation import bounds
from ..inference.depths import rollouts_by_depth
from ..runtime.arguments import whole
from ..state import Batch, Rollouts
from ..storage import checkpoint
from ..storage.checkpoint import CheckpointError
from ..storage.folder import CURVES_FILE, METRICS_FILE, RUN_FILE, STATE_FILE, json_object
from ..storage.measurement import Measurement
from ..storage.places import HUB, PRETRAINED, located
from ..tasks.base import Task
from ..training.record import History, Record
from . import pictures
from .render import PICTURES, Block, Code, Folded, Heading, Picture, Table, Text, cell, html_page, markdown
from .verdict import verdict

MOST_SOLUTIONS = 50  # that a landscape of one puzzle is drawn for


def page(
    folder: str | Path,
    *,
    puzzles: int = 100,
    samples: int = 20,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
) -> list[Path]:
    """Write ``report.md`` and ``report.html`` into a run's folder, and their pictures into ``report/`` in it.

    The HTML file holds its pictures, so it can be sent alone. What does not apply is left out: coverage where the
    solutions can't be counted, calibration without heads, the figures of ``metrics.json`` and the curves of the
    training state where there are none.

    Args:
        folder: of :func:`gram_ppl.fit`, of an example, or of ``gram-ppl train``.
        puzzles: test inputs, at most, behind the pictures.
        samples: trajectories of each.
        steps: supervision steps; if not given those that the run was measured with, or 4·N_sup.
        seed: of the trajectories.
        out: another folder to write into, which weights of the package or of the hub need.

    Returns:
        The two files.

    Raises:
        CheckpointError: there is no model in the folder, or a checkpoint is damaged or foreign.
        ValueError: a damaged ``metrics.json`` or ``run.json``, or a number below 1.
    """
    whole(puzzles=puzzles, samples=samples, steps=steps)
    if out is None and str(folder).startswith((PRETRAINED, HUB)):
        raise ValueError(f"{folder}: a report stands in the folder of a run; say out=, a folder for this one")
    model, guide, task = checkpoint.load(folder)
    folder = located(folder)
    out = Path(out or folder)
    metrics, settings, history = json_object(folder / METRICS_FILE), json_object(folder / RUN_FILE), _history(folder)
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    draw = _Drawing(out / PICTURES)
    steps = steps or Measurement.stored(folder).steps or 4 * model.supervision
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        measured, drawn = _inference(draw, model, task, puzzles, samples, steps, seed)
        blocks: list[Block] = [Text(verdict(model, task, metrics or measured, history))]
        blocks += drawn
        if metrics:
            blocks += [Heading("Figures"), Table(_metrics(metrics))]
        blocks += _posterior(draw, model, guide, task, seed)
        if history:
            blocks += [Heading("Training"), *_training(draw, history)]
        blocks.append(
            Folded("Settings: the objects of the run and how to build them", [*_settings(folder, model, settings)])
        )
    title = f"{task.title}: {folder.resolve().name}"
    written = [out / "report.md", out / "report.html"]
    for path, text in zip(written, (markdown(title, blocks), html_page(title, blocks)), strict=True):
        path.write_text(text, encoding="utf-8")
    return written


class _Drawing(NamedTuple):
    folder: Path

    def __call__(self, name: str, caption: str, draw: Callable[[Path], None]) -> Picture:
        """Have a picture drawn into the folder."""
        draw(self.folder / name)
        return Picture(self.folder / name, caption)


# What stands on it ----------------------------------------------------------------------------------------------------


def _settings(folder: Path, model: Any, settings: dict[str, Any]) -> Iterator[Block]:
    yield Text(f"In training a trajectory has {model.supervision:,} supervision steps.")
    _, described = checkpoint.read(folder / checkpoint.MODEL_FILE)
    yield Code("\n".join(f"{part} = {_built(description, 0)}" for part, description in described.items()))
    if settings:
        yield Table([["setting of the run", "value"], *([key, cell(value)] for key, value in settings.items())])


def _built(description: Any, depth: int) -> str:
    """A checkpoint's description of an object, as the call that builds it."""
    if isinstance(description, dict) and set(description) == {"class", "arguments"}:
        name = description["class"].split(".")[-1]
        given = [f"{key}={_built(value, depth + 1)}" for key, value in description["arguments"].items()]
        whole = ", ".join(given)
        if depth or len(whole) < 90:
            return f"{name}({whole})"
        return f"{name}(\n    " + ",\n    ".join(given) + ",\n)"
    return repr(description)


def _metrics(metrics: dict[str, Any]) -> list[list[str]]:
    """A row for each figure, a column for the model and one for each model measured beside it."""
    others = {key: value for key, value in metrics.items() if isinstance(value, dict)}
    columns = {"GRAM": {key: value for key, value in metrics.items() if key not in others}, **others}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [[name.replace("_", " "), *(cell(column.get(name)) for column in columns.values())] for name in names]
    return [["", *columns], *rows]


def _training(draw: _Drawing, history: History) -> Iterator[Block]:
    yield draw(
        CURVES_FILE,
        "Loss, charged KL, and accuracy of one prior rollout on validation inputs, over the updates. The loss should "
        "fall and the accuracy rise; where both are still on their way at the right edge, more updates help. A KL of "
        "the first segment that keeps rising is the alarm of a private channel from guide to decoder.",
        lambda path: pictures.training_curves(history, path),
    )
    if len(history) > 1:
        series = {"surrogate (eq. 14)": pictures.surrogate_of(history)}
        yield draw(
            "surrogate.png",
            "What training maximizes at β = 1, −(NLL + charged KL), mean over segments: figure 8 of the paper. "
            "Higher is better. It is no bound on log p(y | x).",
            lambda path: pictures.draw_bounds([record.update for record in history], series, path),
        )


def _inference(
    draw: _Drawing, model: Any, task: Task, puzzles: int, samples: int, steps: int, seed: int
) -> tuple[dict[str, Any], list[Block]]:
    """Accuracies of the vote and of one sample at the last step, and the pictures of the trajectories."""
    x = task.inputs("test")[:puzzles]
    if not len(x):
        return {}, []
    asked = x.shape[1] > 0
    if not asked:  # boards from nothing: as many rows, one trajectory each
        x, samples = x[:1].expand(puzzles, 0), 1
    course = rollouts_by_depth(model, x, num_samples=samples, steps=steps, seed=seed)
    blocks: list[Block] = [*_boards(draw, model, task, x, course, seed)]
    blocks.append(Heading("Width and depth" if samples > 1 else "Depth"))
    what = f"{len(x):,} test inputs, {samples:,} samples each" if asked else f"{len(x):,} samples from nothing"
    found = pictures.scaling(task, x, course)
    note = ", the majority vote, and any of N, the oracle" if samples > 1 else ""
    more = "steps" if samples == 1 else "steps or samples"
    caption = (
        f"{what}: accuracy of one sample{note}. Higher is better; a curve that still rises says that more {more} help."
    )
    if samples > 1:
        caption += " Between vote and oracle lies what a better selector could gain."
    if model.block is not None:
        caption += " Trajectories begin again nowhere here, so the figures above may be better than these curves."
    blocks.append(
        draw("scaling.png", caption, lambda path: pictures.draw_scaling(found, path, trained=model.supervision))
    )
    if asked:
        blocks += _solutions(draw, task, x, course[-1].tokens)
    if course[0].halt is not None:
        curves = pictures.reliability(task, x, course)
        caption = (
            "Observed against predicted frequency on all depths; the area of a point is its share of predictions. "
        )
        caption += "On the diagonal a prediction is worth what it says; below it the head is too sure."
        blocks.append(Heading("Calibration of the heads"))
        blocks.append(draw("calibration.png", caption, lambda path: pictures.draw_reliability(curves, path)))
    measured: dict[str, Any] = {"accuracy": float(found.one[-1]), "num_test": len(x), "num_samples": samples}
    return measured | ({"selected_accuracy": float(found.selected[-1, -1])} if samples > 1 else {}), blocks


def _solutions(draw: _Drawing, task: Task, x: Tensor, tokens: Tensor) -> Iterator[Block]:
    try:
        found = pictures.coverage_by_solutions(task, x, tokens)
    except (NotImplementedError, ValueError):  # a task that can't list them, or inputs without any
        return
    caption = "Different valid answers ÷ solutions, with the standard error of the mean. "
    caption += "Above, in orange, what as many draws of an ideal uniform sampler would cover in expectation: "
    caption += "bars that reach it say that the model prefers none of the solutions."
    yield Heading("Coverage")
    yield draw("coverage.png", caption, lambda path: pictures.draw_coverage(found, path))


def _boards(draw: _Drawing, model: Any, task: Task, x: Tensor, course: list[Rollouts], seed: int) -> Iterator[Block]:
    if x.shape[1]:
        found = pictures.convergence(task, x, course)
    else:  # all rows are the same input
        joined = [Rollouts(*(None if field is None else field.transpose(0, 1) for field in out)) for out in course]  # type: ignore[arg-type]
        found = pictures.convergence(task, x[:1], joined)
    strip = "Trajectories of one input, step by step, those that end at different valid answers first; "
    strip += "below each board, how many constraints it breaks. On boards of text orange has just changed."
    yield Heading("Boards that settle")
    yield draw("boards.png", strip, lambda path: pictures.draw_convergence(task, found, path))
    yield draw(
        "boards.gif",
        "The same, in motion. On a page of its own, for any puzzle: gram-ppl watch.",
        lambda path: pictures.animate(task, found, path),
    )
    if not x.shape[1]:
        return
    try:
        answers = task.solutions(found.x)
    except NotImplementedError:
        return
    if not 1 <= len(answers) <= MOST_SOLUTIONS:
        return
    plane = pictures.landscape(model, task, found.x, answers, steps=len(course), seed=seed)
    caption = f"Trajectories of the same input, with {len(answers):,} solution{'s' * (len(answers) > 1)}, on the plane "
    caption += "of the first two principal components of h, over the decoder's loss on that plane. Paths that end in "
    caption += "different valleys are different answers."
    yield Heading("Trajectories in the loss landscape")
    yield draw("landscape.png", caption, lambda path: pictures.draw_landscape(plane, path))


def _posterior(draw: _Drawing, model: Any, guide: Any, task: Task, seed: int, examples: int = 32) -> Iterator[Block]:
    try:
        batch: Batch = next(task.batches("validation", examples, torch.Generator().manual_seed(seed)))
    except ValueError:  # an empty split
        return
    x, y = batch
    found = pictures.divergence(model, guide, x, y)
    yield Heading("Guide and bounds")
    if found.any():
        caption = f"KL of guide and prior in each transition, {examples} validation inputs with one solution each: "
        caption += "how much of the answer the guide tells, and when."
        yield draw("divergence.png", caption, lambda path: pictures.draw_divergence(found, path))
    weights = bounds.log_weights(model, guide, x, y, num_particles=100)
    rows = [
        ("surrogate (eq. 14), no bound", bounds.surrogate(model, guide, x, y)),
        ("ELBO (eq. 13)", bounds.from_weights(weights, 1)),
        ("IWAE, 10 particles", bounds.from_weights(weights, 10)),
        ("IWAE, 100 particles", bounds.from_weights(weights, 100)),
    ]
    yield Table([["mean, nats a puzzle", ""], *([name, f"{value.mean():.2f}"] for name, value in rows)])
    yield Text(
        "Bounds on log p(y | x): higher is better, and more particles make them tighter. A wide gap between the first "
        "and the last says that the guide is far from the posterior of the whole trajectory."
    )


# Files ----------------------------------------------------------------------------------------------------------------


def _history(folder: Path) -> History:
    """The records of the training state; none where there is no such file."""
    path = folder / STATE_FILE
    if not path.is_file():
        return []
    _, stored = checkpoint.read(path)
    try:
        return [Record(*values) for values in stored["history"]]
    except (KeyError, TypeError):
        raise CheckpointError(f"{path}: not the state of a training run") from None
