"""GRAM completes chess boards with some of n queens given: one token a cell, the paper's encoding, or one a row.

Without options: 8 queens in the cell encoding with the lines of the board as relations, in minutes on a CPU.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import print

import gram_ppl as gp
from gram_ppl import report

CPU = {
    "model": {"noise": gp.models.LearnedNoise(scale=1.0), "positions": False},
    "fit": {"updates": 4000, "batch_size": 16, "lr": 2e-3, "decay": 0.6},
    "beta": gp.LogLinear(10, 1.0, 0.05, 0.4),
}
PAPER = {
    "model": {"width": 512, "hidden": 512, "layers": 2, "low_steps": 4, "transitions": 3, "supervision": 16,
              "registers": 16, "shared": False, "mixer": gp.nn.Attention(8, rope=True, relations=False)},
    "fit": {"updates": 48_000, "batch_size": 768, "lr": 1e-4, "weight_decay": 1.0, "ema": 0.9999},
    "beta": gp.LogLinear(0.07, 0.07),
}  # fmt: skip


def main(
    n: Annotated[int, typer.Option(help="Side of the board, 4 to 12.")] = 8,
    removed: Annotated[list[int] | None, typer.Option(help="How many queens may be missing; repeat.")] = None,
    tokens: Annotated[str, typer.Option(help="cells or rows: a token for each cell, or for each row.")] = "cells",
    relations: Annotated[bool, typer.Option(help="Lines of the board as relations in the attention.")] = True,
    updates: Annotated[int | None, typer.Option(min=1, help="Training segments.")] = None,
    held_out: Annotated[int, typer.Option(min=1, help="Unseen inputs of the test, at most.")] = 300,
    samples: Annotated[int, typer.Option(min=1, help="Trajectories for each test input.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Supervision steps of a test trajectory.")] = 16,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, metrics and pictures.")] = Path("runs/queens"),
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, data and noise.")] = 0,
) -> None:
    """Train, complete unseen boards, show one with several completions."""
    with report.plain_errors():
        small = {"num_validation": 20} if n < 7 else {}
        task = gp.tasks.NQueens(n, removed or None, tokens=tokens, seed=seed, **small)
        cuda = torch.cuda.is_available()
        preset = PAPER if cuda else CPU
        settings = preset["model"] if cuda else {"mixer": gp.nn.Attention(relations=relations)} | preset["model"]
        model = gp.models.GRAM(task.spec, seed=seed, **settings)
        guide = gp.guides.AmortizedGuide(model, seed=seed)
        print(f"{n} queens, {len(task.inputs('test')):,} different inputs in the test split")
        history = gp.fit(
            model, guide, task, objective=gp.SegmentELBO(preset["beta"]), evaluate_steps=steps, out=out, resume=resume,
            seed=seed, **preset["fit"] | ({"updates": updates} if updates else {}),
        )  # fmt: skip
        x = task.inputs("test")[:held_out]
        metrics = gp.metrics.evaluate(model, task, x=x, num_samples=samples, steps=steps, seed=seed)
        report.record(f"{len(x)} unseen inputs", out, history, metrics)
        shown = max(x[:100], key=lambda row: min(5, task.num_solutions(row)))
        found = gp.rollout(model, shown[None], num_samples=samples, steps=steps).tokens.cpu()
        answers = found[gp.select.distinct(found, task.verify(shown, found))]
        print(f"\n{len(answers)} of its {task.num_solutions(shown)} completions in {samples} samples")
        print(report.boards(task, shown, answers[:5]))
        report.pictures(task, shown, answers[:11], out / "boards.png")
        print(f"\nCheckpoint, metrics.json, training.png and boards.png are in {out}")


if __name__ == "__main__":
    typer.run(main)
