"""GRAM draws digits: binarized pictures from nothing, patch by patch, through a convolutional encoder and decoder.

Without options: 12×12 digits that the project draws itself, in minutes on a CPU. ``--root`` reads MNIST's IDX files.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import print

import gram_ppl as gp
from gram_ppl import features, report

CPU = {
    "model": {"noise": gp.models.LearnedNoise(scale=1.0), "encoder": gp.models.Patches(channels=16)},
    "fit": {"updates": 1200, "batch_size": 32, "evaluations": 0},
    "beta": gp.LogLinear(1.0, 0.3, 0.1, 0.5),
}
PAPER = {
    "model": {"width": 512, "hidden": 512, "layers": 2, "low_steps": 4, "transitions": 3, "supervision": 16,
              "registers": 16, "shared": False, "encoder": gp.models.Patches(channels=64)},
    "fit": {"updates": 50_000, "batch_size": 768, "lr": 1e-4, "weight_decay": 1.0, "ema": 0.9999, "evaluations": 0},
    "beta": gp.LogLinear(0.07, 0.07),
}  # fmt: skip


def main(
    root: Annotated[Path | None, typer.Option(help="Folder with MNIST's IDX files; drawn digits without it.")] = None,
    relations: Annotated[bool, typer.Option(help="Neighbouring patches as a relation in the attention.")] = True,
    updates: Annotated[int | None, typer.Option(min=1, help="Training segments.")] = None,
    samples: Annotated[int, typer.Option(min=2, help="Pictures to generate.")] = 500,
    steps: Annotated[int, typer.Option(min=1, help="Supervision steps of a trajectory.")] = 16,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, metrics and pictures.")] = Path("runs/mnist"),
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, data and noise.")] = 0,
) -> None:
    """Train, generate pictures, measure FID and inception score with a LeNet trained on the same data."""
    with report.plain_errors():
        task = gp.tasks.BinarizedMNIST(root, seed=seed)
        cuda = torch.cuda.is_available()
        preset = PAPER if cuda else CPU
        mixer = gp.nn.Attention(8 if cuda else 4, relations=relations)
        model = gp.models.GRAM(task.spec, seed=seed, mixer=mixer, **preset["model"])
        guide = gp.guides.AmortizedGuide(model, seed=seed)
        history = gp.fit(
            model, guide, task, objective=gp.SegmentELBO(preset["beta"]), out=out, resume=resume, seed=seed,
            **preset["fit"] | ({"updates": updates} if updates else {}),
        )  # fmt: skip
        torch.manual_seed(seed)
        made = gp.generate(model, num_samples=samples, steps=steps).cpu()
        net = features.train_features(
            task.pictures(task.answers("train")), task.labels("train"), seed=seed, cache=out / "features"
        )
        real = task.pictures(task.answers("test"))
        metrics = {
            "accuracy": task.verify(torch.zeros(samples, 0, dtype=torch.long), made).double().mean().item(),
            "distinct": len(made.unique(dim=0)),
            **features.picture_quality(net, task.pictures(made), real),
            "classifier_accuracy": features.accuracy(net, real, task.labels("test")),
            "num_samples": samples,
        }
        report.record(f"{samples} pictures from nothing", out, history, metrics)
        report.pictures(task, task.inputs("test")[0], made[:60], out / "pictures.png", columns=10)
        print(f"\nCheckpoint, metrics.json, training.png and pictures.png are in {out}")


if __name__ == "__main__":
    typer.run(main)
