"""GRAM draws digits: binarized pictures from nothing, patch by patch, through a convolutional encoder and decoder.

Without options: 12×12 digits that the project draws itself, in minutes on a CPU. ``--root`` reads MNIST's IDX files.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import print

import gram_ppl as gp
from gram_ppl import presets, report
from gram_ppl.cli.options import Out, PresetName, Relations, Resume, Seed, Steps, Updates
from gram_ppl.evaluation import features
from gram_ppl.training import interrupt


def main(
    root: Annotated[Path | None, typer.Option(help="Folder with MNIST's IDX files; drawn digits without it.")] = None,
    relations: Relations = None,
    preset: PresetName = None,
    updates: Updates = None,
    samples: Annotated[int, typer.Option(min=2, help="Pictures to generate.")] = 500,
    steps: Steps = 16,
    out: Out = Path("runs/mnist"),
    resume: Resume = False,
    seed: Seed = 0,
) -> None:
    """Train, generate pictures, measure FID and inception score with a LeNet trained on the same data."""
    with report.plain_errors(), interrupt.resumable(out):
        changes: dict[str, Any] = {"task.root": root, "model.mixer.relations": relations}
        changes |= {"fit.updates": updates, "steps": steps, "samples": samples}
        chosen = presets.get("mnist", preset, changes)

        task, model, guide, objective, fit = presets.build(chosen, seed=seed)
        history = gp.fit(model, guide, task, objective=objective, **fit, out=out, resume=resume, seed=seed)
        chosen.write(out)
        print("\nTrained; making pictures from nothing, and a net that judges them")

        noise = gp.poutine.Temperature(chosen.temperature)
        made = gp.generate(model, num_samples=samples, steps=steps, noise=noise, seed=seed).cpu()
        train, labels = task.pictures(task.answers("train")), task.labels("train")
        net = features.train_features(train, labels, seed=seed, cache=out / "features")
        real = task.pictures(task.answers("test"))
        metrics = {
            "accuracy": task.verify(task.inputs("test")[0], made).double().mean().item(),
            "distinct": len(made.unique(dim=0)),
            **features.picture_quality(net, task.pictures(made), real),
            "classifier_accuracy": features.accuracy(net, real, task.labels("test")),
            "num_samples": samples,
        }
        report.record(f"{samples} pictures from nothing", out, history, metrics)
        report.pictures(task, task.inputs("test")[0], made[:60], out / "pictures.png", columns=10)
        print(f"\nCheckpoint, metrics.json, training.png and pictures.png are in {out}")


if __name__ == "__main__":
    with interrupt.prompt():
        typer.run(main)
