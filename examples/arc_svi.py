"""GRAM on ARC: from a few pairs of coloured grids to the output of a further input, voted over augmented versions.

On a CPU, one task: its pairs under random symmetries are learned, its test input is answered and scored as ARC does.
``--copy`` trains nothing: it answers every evaluation task with its input, which shows what the scorer makes of that.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich import print

import gram_ppl as gp
from gram_ppl import presets, report
from gram_ppl.cli.options import Out, PresetName, Relations, Resume, Samples, Seed, Steps, Updates
from gram_ppl.training import interrupt


def copied(task: gp.tasks.ARC, out: Path) -> None:
    """Score the inputs as answers."""
    metrics = task.score(task.predictions("test", task.inputs("test")[:, 1:]))
    print(report.metrics_table("inputs as answers", {"copy": metrics}))
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")


def main(
    root: Annotated[Path, typer.Argument(help="Folder of the public set or of the Kaggle files.")],
    version: Annotated[int, typer.Option(help="1 or 2.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Names of tasks to keep; repeat. One on a CPU.")] = None,
    augmentations: Annotated[int | None, typer.Option(min=0, help="Random versions of each task.")] = None,
    copy: Annotated[bool, typer.Option(help="Score the inputs as answers; no training.")] = False,
    relations: Relations = None,
    preset: PresetName = None,
    updates: Updates = None,
    samples: Samples = 4,
    steps: Steps = 8,
    out: Out = Path("runs/arc"),
    resume: Resume = False,
    seed: Seed = 0,
) -> None:
    """Train, answer the evaluation tasks' test inputs in all versions, vote, score."""
    with report.plain_errors(), interrupt.resumable(out):
        if copy:
            copied(gp.tasks.ARC(version, root, only=only or None), out)
            return
        if not (only or preset):
            raise ValueError("--only: name one task; a whole set takes --preset paper and a GPU")
        changes: dict[str, Any] = {"task.root": root, "task.version": version, "task.only": only or None}
        changes |= {"task.num_augmentations": augmentations, "model.mixer.relations": relations}
        changes |= {"fit.updates": updates, "steps": steps, "samples": samples}
        made = presets.get("arc", preset, changes)

        task, model, guide, objective, fit = presets.build(made, seed=seed)
        history = gp.fit(model, guide, task, objective=objective, **fit, out=out, resume=resume, seed=seed)
        made.write(out)
        print("\nTrained; answering unseen puzzles")

        torch.manual_seed(seed)
        shown = next(task.batches("train", 16, torch.Generator().manual_seed(seed)))
        fitted = gp.rollout(model, shown.x, num_samples=1, steps=steps).tokens.cpu()[:, 0]
        metrics = {"accuracy": (fitted == shown.y).all(-1).double().mean().item(), "num_samples": samples}
        x = task.inputs("test", augmented=True)
        if len(x):
            answers = gp.rollout(model, x, num_samples=samples, steps=steps).tokens.cpu()
            metrics |= task.score(task.predictions("test", answers, augmented=True))
        report.record("pairs of training (accuracy) and test inputs (pass at 1 and 2)", out, history, metrics)
        report.pictures(task, shown.x, fitted, out / "grids.png", columns=4)
        print(f"\nCheckpoint, metrics.json, training.png and grids.png are in {out}")


if __name__ == "__main__":
    with interrupt.prompt():
        typer.run(main)
