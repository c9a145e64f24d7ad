"""``gram-ppl train``: a preset, trained and measured; its command line stays in the folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import presets
from ..inference.rollout import rollout
from ..inference.solve import generate
from ..presets.settings import parsed
from ..reporting import tables as report
from ..runtime.processes import main_process, restarted
from ..storage.checkpoint import begin_from
from ..storage.folder import METRICS_FILE, STATE_FILE, locked
from ..storage.measurement import Measurement, settings_of
from ..training import tracking
from ..training.fit import fit
from ..training.interrupt import resumable
from .folders import answering
from .measuring import measure
from .options import Json, PresetName, Resume, Updates

SHOWN = 12  # test inputs in the picture


def _tasks() -> list[str]:
    return list(presets.PRESETS)


def train(
    task: Annotated[str, typer.Argument(metavar="TASK", help=f"One of {', '.join(_tasks())}.", autocompletion=_tasks)],
    preset: PresetName = None,
    updates: Updates = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/TASK if not given.")] = None,
    resume: Resume = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Of weights, data and noise; 0 if not given.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another value for a setting of the preset; repeat."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A run's folder or pretrained:NAME, of the same sizes, to begin with."),
    ] = None,
    tracker: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where the course of the run goes: tensorboard, wandb, ...")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a model by its preset and measure it on unseen inputs.

    The folder gets model.safetensors, metrics.json, training.png, examples.png and run.json. --resume goes on with the
    run in the folder, with the settings that it was started with. --set takes settings of the task, the model and the
    training by dotted name, for example task.n, model.width, model.noise.scale, fit.lr, beta.last, samples, steps;
    the value is JSON or plain text. --start takes the weights of another run, on other data or for longer.
    """
    folder = out or Path("runs") / task
    again = f"gram-ppl train {shlex.join([task, '--out', str(folder)])} --resume"
    with answering(as_json) as document, resumable(folder, again):
        resume = resume or (restarted() and (folder / STATE_FILE).exists())
        asked: dict[str, Any] = {"task": task, "preset": preset, "updates": updates, "seed": seed}
        asked |= {"set": parsed(change or [])} | ({"tracker": tracker} if tracker else {})
        asked |= {"start": start} if start else {}
        asked = _started(folder, asked) if resume else _fresh(folder, asked)
        changes = asked["set"] | ({"fit.updates": asked["updates"]} if asked["updates"] else {})
        made = presets.get(task, asked["preset"], changes)
        tracking.options(asked.get("tracker"), folder)
        seed = asked["seed"] or 0
        parts = presets.build(made, seed=seed)
        resume = resume and (folder / STATE_FILE).exists()
        if asked.get("start") and not resume:
            begin_from(asked["start"], parts.model, parts.guide)
        how = Measurement.of(made)
        with locked(folder):
            if not resume:
                _fresh(folder, asked)  # again: another process may have been here in between
                if main_process():
                    made.write(folder, **asked)
            history = fit(
                parts.model, parts.guide, parts.task, objective=parts.objective, **parts.fit, out=folder,
                resume=resume, seed=seed, progress=not as_json,
                tracker=asked.get("tracker"),
            )  # fmt: skip
            if resume and main_process():
                made.write(folder, **asked)  # how it is measured may have been changed
        x = parts.task.inputs("test")[: made.held_out]
        metrics = measure(parts.model, parts.task, x, how, seed=seed)
        size = sum(weights.numel() for weights in parts.model.parameters())
        report.record(f"{task}, preset {asked['preset']}, {size:,} parameters", folder, history, metrics)
        _draw(parts, how, folder / "examples.png")
        if main_process():
            document |= {"folder": str(folder)} | json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))


def _fresh(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    if (folder / STATE_FILE).exists():
        raise ValueError(f"{folder} holds a run: --resume goes on with it, --out names another folder")
    return asked | {"preset": asked["preset"] or presets.default()}


def _started(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """What the folder's run was started with; what the command line says beside --resume wins."""
    before = settings_of(folder)
    if "preset" not in before:
        raise ValueError(f"{folder}: there is no run of gram-ppl train to go on with")
    if before.get("task") != asked["task"]:
        raise ValueError(f"{folder}: holds a run of {before.get('task')}, not of {asked['task']}")
    if "first_answer" not in before and before["preset"] == "cpu" and "gram" in presets.PRESETS[asked["task"]]:
        before = before | {"preset": "gram"}  # as it was called in version 0.1
    given = {key: value for key, value in asked.items() if value is not None}
    return before | given | {"set": before.get("set", {}) | asked["set"]}


def _draw(parts: presets.Parts, how: Measurement, path: Path) -> None:
    x, options = parts.task.inputs("test")[:SHOWN], how.options(parts.task)
    if x.shape[1]:
        y = rollout(parts.model, x, num_samples=1, **options).tokens.cpu()[:, 0]
    else:
        y = generate(parts.model, num_samples=SHOWN, steps=how.steps, noise=options["noise"]).cpu()
    if main_process():
        report.pictures(parts.task, x if x.shape[1] else x[0], y, path)
