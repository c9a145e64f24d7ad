"""GRAM finds shortest paths through mazes, of which there may be many: each sample is one, checked by flooding.

Without options: made mazes of 8×8 cells, in minutes on a CPU. ``--root`` reads a folder of 30×30 mazes.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import print

import gram_ppl as gp
from gram_ppl import report

CPU = {
    "model": {"noise": gp.models.LearnedNoise(scale=1.0)},
    "fit": {"updates": 1600, "batch_size": 32},
    "beta": gp.LogLinear(10, 1.0, 0.05, 0.4),
}
LARGE = {
    "model": {"width": 512, "hidden": 512, "layers": 2, "low_steps": 4, "transitions": 3, "supervision": 16,
              "registers": 16},
    "fit": {"updates": 50_000, "batch_size": 768, "lr": 1e-4, "weight_decay": 1.0, "ema": 0.9999},
    "beta": gp.LogLinear(0.1, 0.1),
}  # fmt: skip


def main(
    root: Annotated[Path | None, typer.Option(help="Folder with 30×30 mazes; made mazes without it.")] = None,
    side: Annotated[int, typer.Option(help="Side of made mazes.")] = 8,
    relations: Annotated[bool, typer.Option(help="Neighbours, rows, columns as relations in the attention.")] = True,
    updates: Annotated[int | None, typer.Option(min=1, help="Training segments.")] = None,
    held_out: Annotated[int, typer.Option(min=1, help="Unseen mazes of the test.")] = 200,
    samples: Annotated[int, typer.Option(min=1, help="Trajectories for each test maze.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Supervision steps of a test trajectory.")] = 12,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, metrics and pictures.")] = Path("runs/maze"),
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, data and noise.")] = 0,
) -> None:
    """Train, solve unseen mazes, show one with several shortest paths."""
    with report.plain_errors():
        if root is None:
            task = gp.tasks.Maze((side, side), num_test=held_out, num_validation=100, num_paths=(1, 20), seed=seed)
        else:
            task = gp.tasks.Maze((30, 30), root=root, num_test=held_out, num_validation=100, seed=seed)
        cuda = torch.cuda.is_available()
        preset = LARGE if cuda else CPU
        mixer = gp.nn.Attention(8 if cuda else 4, relations=relations)
        model = gp.models.GRAM(task.spec, seed=seed, mixer=mixer, **preset["model"])
        guide = gp.guides.AmortizedGuide(model, seed=seed)
        history = gp.fit(
            model, guide, task, objective=gp.SegmentELBO(preset["beta"]), evaluate_steps=steps, out=out, resume=resume,
            seed=seed, **preset["fit"] | ({"updates": updates} if updates else {}),
        )  # fmt: skip
        metrics = gp.metrics.evaluate(model, task, num_samples=samples, steps=steps, seed=seed)
        report.record(f"{metrics['num_test']} unseen mazes", out, history, metrics)
        shown = min(task.inputs("test")[:50], key=lambda x: abs(task.num_solutions(x) - 4))
        found = gp.rollout(model, shown[None], num_samples=samples, steps=steps).tokens.cpu()
        answers = found[gp.select.distinct(found, task.verify(shown, found))]
        print(f"\n{len(answers)} of {task.num_solutions(shown)} shortest paths in {samples} samples")
        print(report.boards(task, shown, answers[:4]))
        report.pictures(task, shown, answers[:11], out / "mazes.png")
        print(f"\nCheckpoint, metrics.json, training.png and mazes.png are in {out}")


if __name__ == "__main__":
    typer.run(main)
