"""GRAM on ARC: from a few pairs of coloured grids to the output of a further input, voted over augmented versions.

On a CPU, one task: its pairs under random symmetries are learned, its test input is answered and scored as ARC does.
``--copy`` trains nothing: it answers every evaluation task with its input, which shows what the scorer makes of that.
"""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import print

import gram_ppl as gp
from gram_ppl import report

CPU = {
    "model": {"mixer": gp.nn.TokenMixing(128), "noise": gp.models.LearnedNoise(scale=0.1)},
    "fit": {"updates": 400, "batch_size": 16, "evaluations": 0},
    "beta": gp.LogLinear(1.0, 1.0),
}
PAPER = {
    "model": {"width": 512, "hidden": 512, "layers": 2, "low_steps": 4, "transitions": 3, "supervision": 16,
              "registers": 16, "mixer": gp.nn.Attention(8, rope=True, relations=False)},
    "fit": {"updates": 500_000, "batch_size": 768, "lr": 1e-4, "weight_decay": 1.0, "ema": 0.9999, "evaluations": 0},
    "beta": gp.LogLinear(0.04, 0.04),
}  # fmt: skip


def main(
    root: Annotated[Path, typer.Argument(help="Folder of the public set or of the Kaggle files.")],
    version: Annotated[int, typer.Option(help="1 or 2.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Names of tasks to keep; repeat. One on a CPU.")] = None,
    augmentations: Annotated[int, typer.Option(min=0, help="Random versions of each task.")] = 7,
    copy: Annotated[bool, typer.Option(help="Score the inputs as answers; no training.")] = False,
    relations: Annotated[bool, typer.Option(help="Attention with neighbours, rows, columns as relations.")] = False,
    updates: Annotated[int | None, typer.Option(min=1, help="Training segments.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Trajectories for each version of a test input.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Supervision steps of a test trajectory.")] = 8,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, metrics and pictures.")] = Path("runs/arc"),
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, data and noise.")] = 0,
) -> None:
    """Train, answer the evaluation tasks' test inputs in all versions, vote, score."""
    with report.plain_errors():
        cuda = torch.cuda.is_available()
        if copy:
            task = gp.tasks.ARC(version, root, only=only or None)
            metrics = task.score(task.predictions("test", task.inputs("test")[:, 1:]))
            print(report.metrics_table("inputs as answers", {"copy": metrics}))
            out.mkdir(parents=True, exist_ok=True)
            (out / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
            return
        if not (only or cuda):
            raise ValueError("--only: name one task; a whole set takes a GPU")
        task = gp.tasks.ARC(version, root, only=only or None, num_augmentations=augmentations, seed=seed)
        preset = PAPER if cuda else CPU
        settings = preset["model"] | ({"mixer": gp.nn.Attention(8 if cuda else 4)} if relations else {})
        model = gp.models.GRAM(task.spec, encoder=gp.models.PuzzleTokens(task.num_puzzles), seed=seed, **settings)
        guide = gp.guides.AmortizedGuide(model, seed=seed)
        history = gp.fit(
            model, guide, task, objective=gp.SegmentELBO(preset["beta"]), out=out, resume=resume, seed=seed,
            **preset["fit"] | ({"updates": updates} if updates else {}),
        )  # fmt: skip
        torch.manual_seed(seed)
        shown = next(task.batches("train", 16, torch.Generator().manual_seed(seed)))
        fitted = gp.rollout(model, shown.x, num_samples=1, steps=steps).tokens.cpu()[:, 0]
        metrics = {
            "accuracy": (fitted == shown.y).all(-1).double().mean().item(),
            "num_samples": samples,
        }
        x = task.inputs("test", augmented=True)
        if len(x):
            answers = gp.rollout(model, x, num_samples=samples, steps=steps).tokens.cpu()
            metrics |= task.score(task.predictions("test", answers, augmented=True))
        report.record("pairs of training (accuracy) and test inputs (pass at 1 and 2)", out, history, metrics)
        report.pictures(task, shown.x, fitted, out / "grids.png", columns=4)
        print(f"\nCheckpoint, metrics.json, training.png and grids.png are in {out}")


if __name__ == "__main__":
    typer.run(main)
