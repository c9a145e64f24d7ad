"""The weights that come with the library: trained, measured, and put where the library looks for them, with a card.

    python benchmarks/pretrained.py sudoku4
    python benchmarks/pretrained.py sudoku9 --data sudoku_extreme_1k_train.csv

Trains by ``gram-ppl train`` (a run that is there goes on or is taken as it is) and measures as ``gram-ppl evaluate``
does. Training data stay at home: the task in the file has what answering and measuring need.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from table_text import insert, markdown

import gram_ppl as gp
from gram_ppl import presets
from gram_ppl.cli.measuring import measure
from gram_ppl.storage.card import TEXT_FILE, Card
from gram_ppl.storage.checkpoint import MODEL_FILE, begin_from, read
from gram_ppl.storage.folder import RUN_FILE, STATE_FILE
from gram_ppl.storage.measurement import Measurement
from gram_ppl.storage.places import WEIGHTS, names
from gram_ppl.tasks.base import Task
from gram_ppl.training import flops

LEFT_OUT = ("calls", "seconds")  # figures of a clock or of a budget
FIGURES = ("accuracy", "selected accuracy", "unanswered", "wrong", "coverage", "coverage ceiling")
EXAMPLE = "example.csv"
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results.md"


def _as_it_was(task: Task, folder: Path) -> Task:
    return task


def _held_out_rows(task: Any, folder: Path) -> Task:
    """The test puzzles, and one to train on, without which there is no task."""
    one = next(task.batches("train", 1, torch.Generator().manual_seed(0)))
    for name, x, y in ((EXAMPLE, one.x, one.y), ("held_out.csv", task.inputs("test"), task.answers("test"))):
        rows = ([name, task.line(a), task.line(b), 0] for a, b in zip(x, y, strict=True))
        _write_csv(folder / name, rows)
    files: dict[str, Any] = {"data": str(folder / EXAMPLE), "test_data": str(folder / "held_out.csv")}
    return gp.tasks.Sudoku(**files, num_validation=0, num_test=len(task.inputs("test")))


def _write_csv(path: Path, rows: Iterable[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["source", "question", "answer", "rating"], *rows])


@dataclass(frozen=True)
class Recipe:
    """How one model is made.

    Args:
        task, preset, settings: of ``gram-ppl train``.
        about, data, limits: for its card.
        start: weights that training begins with.
        data_setting: which setting of the task names a file of data, from ``--data``.
        small: the task that is kept, from the one of training and the folder.
        measured: other settings when it is measured and used, of the model those that no weight depends on.
    """

    task: str
    about: str
    data: str
    limits: str
    preset: str = presets.default()
    settings: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    data_setting: str | None = None
    small: Callable[[Any, Path], Task] = _as_it_was
    measured: dict[str, Any] = field(default_factory=dict)


def _few_graphs(task: Any, folder: Path) -> Task:
    """Without the graphs that training draws from; the test graphs are the same."""
    return gp.tasks.GraphColoring(**task.config | {"num_train": 1, "num_validation": 0})


def _drawn_digits(task: Any, folder: Path) -> Task:
    """Pictures of the same size, which are drawn when they are asked for: making some asks for none."""
    return gp.tasks.BinarizedMNIST(size=task.size, num_validation=0, num_test=1)


MADE = "puzzles that the task makes; measured on unseen ones of the same kind"
RECIPES = {
    "sudoku4": Recipe(
        "sudoku", "4×4 Sudoku with 4 to 8 givens, one or many solutions", MADE,
        "puzzles of fewer givens are outside its training", settings={"fit.updates": 1300},
    ),
    "sudoku9": Recipe(
        "sudoku", "hard 9×9 Sudoku",
        "800 rows of Sudoku-Extreme (sapientinc/sudoku-extreme, the usual 1k draw) under symmetries; measured on the "
        "200 other rows, which come with it",
        "of puzzles of 17 clues and of those as hard as Sudoku-Extreme about one in ten has no answer within its "
        "budget; it says so",
        preset="extreme",
        settings={"fit.updates": 8000, "model.width": 128, "fit.compile": True},
        data_setting="task.data", small=_held_out_rows,
        measured={"model.threshold": 0.8},
    ),
    "queens8": Recipe("queens", "8 queens from some that are given: all completions", MADE, "boards of 8 × 8 only"),
    "queens10": Recipe(
        "queens", "10 queens from some that are given: all completions", MADE, "boards of 10 × 10 only",
        settings={"task.n": 10, "model.width": 96, "fit.updates": 24_000, "held_out": 500},
        measured={"steps": 2048, "model.certain": 0.001, "views": 8},
    ),
    "coloring8": Recipe(
        "coloring", "graphs of 8 nodes in 3 colours: all colourings", MADE,
        "8 nodes, 3 colours; trained on graphs with half of the edges", small=_few_graphs,
    ),
    "coloring10": Recipe(
        "coloring", "graphs of 10 nodes in 3 colours: all colourings", MADE,
        "10 nodes, 3 colours; trained on graphs with half of the edges",
        settings={"task.n": 10, "task.num_train": 13_465, "task.num_test": 192, "fit.updates": 8000}, small=_few_graphs,
    ),
    "grids4": Recipe(
        "unconditional", "whole 4×4 Sudoku grids from nothing", "all 288 grids", "a generator: it takes no puzzle",
    ),
    "grids9": Recipe(
        "unconditional", "whole 9×9 Sudoku grids from nothing", "5,000 grids under symmetries; begun with `sudoku9`",
        "a generator: it takes no puzzle; not quite uniform over grids", preset="9x9", start="pretrained:sudoku9",
    ),
    "digits": Recipe(
        "mnist", "binarized digits of 28×28 pixels from nothing", "the 59,000 training pictures of MNIST",
        "accuracy says that every token is a pixel; how good the pictures are (FID, inception score) says table 2 of "
        "the results, which wants MNIST's files",
        settings={"fit.updates": 2761, "fit.lr": 0.004, "model.supervision": 32},
        data_setting="task.root", small=_drawn_digits, measured={"steps": 32, "samples": 1000},
    ),
}  # fmt: skip


def settings(recipe: Recipe, data: str | None) -> dict[str, Any]:
    """What training changes of the preset."""
    return recipe.settings | ({} if recipe.data_setting is None else {recipe.data_setting: data})


def command(recipe: Recipe, data: str | None) -> list[str]:
    """What ``gram-ppl`` is called with."""
    named = [] if recipe.preset == presets.default() else ["--preset", recipe.preset]
    shown = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in settings(recipe, data).items()
    }
    changed = (["--set", f"{name}={value}"] for name, value in shown.items())
    begun = [] if recipe.start is None else ["--start", recipe.start]
    return ["train", recipe.task, *named, *begun, *chain.from_iterable(changed)]


def commit() -> str:
    """Of the code."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "an unknown commit"


def pack(recipe: Recipe, run: Path, data: str | None, out: Path) -> str:
    """Measure a finished run; write its weights, its card and how it is measured. Returns the card's text."""
    document = read(run / STATE_FILE)[1]
    preset = presets.get(recipe.task, recipe.preset, settings(recipe, data) | recipe.measured)
    parts = _with_weights(preset, run)
    batch = next(parts.task.batches("train", parts.fit["batch_size"], torch.Generator().manual_seed(0)))
    x, y = batch
    z, age = parts.model.begin(x, len(x)), torch.zeros(len(x), dtype=torch.long)
    each = flops.count(parts.objective(parts.model, parts.guide), x, y, z, age)
    out.mkdir(parents=True, exist_ok=True)
    task = recipe.small(parts.task, out)
    figures = _measured(recipe, preset, parts.model, task, out)
    shown = f"gram-ppl {shlex.join(command(recipe, data and Path(data).name))}"
    card = Card(
        about=recipe.about, data=recipe.data, command=shown, version=commit(),
        device=f"{torch.get_num_threads()} thread of a {platform.machine()} CPU, shared", seed=0,
        updates=document["update"], flops=float(each * document["update"]), seconds=document["seconds"],
        parameters=sum(weights.numel() for weights in parts.model.parameters()), figures=figures, limits=recipe.limits,
        sha256="",
    )  # fmt: skip
    gp.save(out, parts.model, parts.guide, task, card=card)
    return (out / TEXT_FILE).read_text(encoding="utf-8")


def again(name: str, out: Path) -> str:
    """Measure weights that are there as the recipe says now; what else their card says stays."""
    recipe, card, task = RECIPES[name], Card.read(out), gp.load(out)[2]
    assert card is not None
    preset = presets.get(recipe.task, recipe.preset, settings(recipe, str(out)) | recipe.measured)
    parts = _with_weights(preset, out, task)
    figures = _measured(recipe, preset, parts.model, task, out)
    gp.save(out, parts.model, parts.guide, task, card=replace(card, figures=figures, limits=recipe.limits))
    return (out / TEXT_FILE).read_text(encoding="utf-8")


def _with_weights(preset: presets.Preset, folder: Path, task: Task | None = None) -> Any:
    """What the preset builds, on its task or another, with the weights of a folder."""
    parts = presets.build(preset, task=task)
    begin_from(folder, parts.model, parts.guide)
    return parts


def _measured(recipe: Recipe, preset: presets.Preset, model: Any, task: Task, out: Path) -> dict[str, Any]:
    """Figures, and how they were measured beside the weights."""
    how = Measurement.of(preset)
    asked = {"task": recipe.task, "preset": recipe.preset}
    (out / RUN_FILE).write_text(json.dumps(asked | how.described(), indent=1) + "\n", encoding="utf-8")
    found = measure(model, task, task.inputs("test")[: how.held_out], how)
    return {key: value for key, value in found.items() if not any(word in key for word in LEFT_OUT)}


def table() -> str:
    """All cards, as a table."""
    header = ("weights", "parameters", "operations", "inputs", "samples each", *FIGURES)
    rows = []
    for name in names():
        card, asked = Card.read(WEIGHTS / name), Measurement.stored(WEIGHTS / name)
        assert card is not None
        figures = [card.figures.get(key.replace(" ", "_")) for key in FIGURES]
        number = card.figures.get("num_test", 1)
        shown = ["" if figure is None else f"{figure:.3f}" for figure in figures]
        rows.append([name, f"{card.parameters:,}", f"{card.flops:.1e}", f"{number:,}", f"{asked.samples:,}", *shown])
    return f"\n{markdown(header, rows)}\n"


def main(arguments: list[str] | None = None) -> None:
    """Train what is not trained, and pack it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--data", help="file or folder of training data, for those that need one")
    parser.add_argument("--run", type=Path, help="folder of the run; runs/pretrained/NAME if not given")
    parser.add_argument("--out", type=Path, help="where the weights go; into the library if not given")
    parser.add_argument("--again", action="store_true", help="measure the weights that are there, train nothing")
    given = parser.parse_args(arguments)
    out = given.out or WEIGHTS / given.name
    if given.again:
        print(again(given.name, out))
        publish(given.out)
        return
    recipe, run = RECIPES[given.name], given.run or Path("runs/pretrained") / given.name
    if not (run / MODEL_FILE).exists():
        words = [*command(recipe, given.data), "--out", str(run)]
        words += ["--resume"] if (run / STATE_FILE).exists() else []
        subprocess.run([sys.executable, "-m", "gram_ppl.cli", *words], check=True)
    print(pack(recipe, run, given.data, out))
    publish(given.out)


def publish(out: Path | None) -> None:
    """The table of all weights into the results, unless they were written elsewhere."""
    if out is None:
        RESULTS.write_text(insert(RESULTS.read_text(encoding="utf-8"), "weights", table()), encoding="utf-8")


if __name__ == "__main__":
    main()
