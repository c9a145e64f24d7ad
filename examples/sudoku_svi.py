"""GRAM learns Sudoku by stochastic variational inference, then gives several answers to one puzzle.

Without options: 4×4 puzzles, one or many solutions each, in minutes on a CPU; the paper's 9×9 model on CUDA.
"""

import json
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich import print

import gram_ppl as gp
from gram_ppl import presets, report
from gram_ppl.cli.options import Out, Samples, Seed, Updates
from gram_ppl.storage.folder import locked
from gram_ppl.training import interrupt


def settings(run: dict[str, Any]) -> presets.Preset:
    """The preset for a size of board; boards of another size get as large a share of givens."""
    side = run["box"][0] * run["box"][1]
    name = "cpu" if side < 9 else "paper" if run["cuda"] else "9x9"
    task = presets.get("sudoku", name).task
    scale = side**2 / (task["box"][0] * task["box"][1]) ** 2
    task = task | {key: tuple(round(n * scale) for n in task[key]) for key in ("clues", "held_clues")}
    num = run["held_out"] or task["num_test"]
    if run["data"] is not None:
        task = {"clues": task["clues"], "data": run["data"], "reveal": (0, side**2 // 2), "mix": 0.3}
    task |= {"box": tuple(run["box"]), "num_test": num, "num_validation": max(1, num // 2)}
    changes = {"task": task, "fit.updates": run["updates"], "samples": run["samples"], "steps": run["steps"]}
    return presets.get("sudoku", name, changes)


def train(
    preset: presets.Preset, parts: presets.Parts, out: Path, *, resume: bool, seed: int, deterministic: bool = False
) -> Any:
    """Train one model, draw its curves, measure it on the test puzzles."""
    model: Any
    guide: Any
    task, model, guide, objective, fit = parts
    if deterministic:
        model, guide = (twin := model.deterministic()), gp.guides.Empty(twin)
    parameters = sum(weights.numel() for weights in model.parameters())
    print(f"\n[bold]{'Deterministic' if deterministic else 'GRAM'}[/], {parameters:,} parameters")
    resume = resume and (out / gp.STATE_FILE).exists()
    history = gp.fit(model, guide, task, objective=objective, **fit, out=out, resume=resume, seed=seed)
    report.training_curves(history, out / "training.png")
    samples = 1 if deterministic else preset.samples  # all answers of a deterministic model are the same
    metrics = gp.metrics.evaluate(model, task, num_samples=samples, steps=preset.steps, seed=seed)
    trained = {"train_seconds": history[-1].seconds, "updates": history[-1].update, "parameters": parameters}
    return model, {"coverage": metrics["coverage_all"]} | metrics | trained


def main(
    box: Annotated[tuple[int, int] | None, typer.Option(help="Rows and columns of a box.")] = None,
    data: Annotated[str | None, typer.Option(help="CSV of the Sudoku-Extreme format.")] = None,
    held_out: Annotated[int | None, typer.Option(min=1, help="Unseen puzzles of the test.")] = None,
    updates: Updates = None,
    samples: Samples = 20,
    steps: Annotated[int | None, typer.Option(min=1, help="Supervision steps of a test trajectory.")] = None,
    puzzle: Annotated[str | None, typer.Option(help="A puzzle of your own, row by row, . for blank.")] = None,
    out: Out = Path("runs/sudoku"),
    resume: Annotated[Path | None, typer.Option(help="Folder of an interrupted run to go on with.")] = None,
    compare: Annotated[bool, typer.Option(help="Train a deterministic model of the same size as well.")] = False,
    seed: Seed = 0,
) -> None:
    """Train, solve held-out puzzles, show one with several answers, leave checkpoint, metrics.json and a picture."""
    again = f"python {sys.argv[0]} --resume {shlex.quote(str(resume or out))}"
    with report.plain_errors(), interrupt.resumable(resume or out, again):
        cuda = torch.cuda.is_available()
        run: dict[str, Any] = {"box": box or ((3, 3) if cuda or data else (2, 2)), "data": data, "held_out": held_out}
        run |= {"updates": updates, "samples": samples, "steps": steps, "compare": compare, "seed": seed, "cuda": cuda}
        if resume is not None:  # the folder knows what the command line asked for
            run, out = run | json.loads((resume / "run.json").read_text()), resume
        preset = settings(run)
        parts = presets.build(preset, seed=run["seed"])
        trained = partial(train, preset, parts, resume=resume is not None, seed=run["seed"])
        task = parts.task
        own = None if puzzle is None else task.parse(puzzle)
        with locked(out):
            (out / "run.json").write_text(json.dumps(run, indent=2))
            model, metrics = trained(out)
        columns = {"GRAM": metrics}
        if run["compare"]:
            _, metrics = trained(out / "deterministic", deterministic=True)
            columns["deterministic"] = metrics
        print("\n", report.metrics_table(f"{metrics['num_test']} unseen puzzles", columns))
        (out / "metrics.json").write_text(json.dumps(columns.pop("GRAM") | columns, indent=2))
        several = [x for x in task.inputs("test")[:50] if 3 <= len(task.solutions(x, limit=7)) <= 6]
        shown = {"An unseen puzzle": several[0] if several else task.inputs("test")[0], "Your puzzle": own}
        for title, x in shown.items():
            if x is not None:
                found = gp.rollout(model, x[None], num_samples=preset.samples, steps=preset.steps).tokens.cpu()
                answers = found[gp.select.distinct(found, task.verify(x, found))]
                print(f"\n{title}: {len(answers)} different verified answers in {preset.samples} samples")
                print(report.boards(task, x, answers[:6]))
        print(f"\nCheckpoint, metrics.json and training.png are in {out}")


if __name__ == "__main__":
    typer.run(main)
