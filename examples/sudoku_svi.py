"""GRAM learns Sudoku by stochastic variational inference, then gives several answers to one puzzle.

Without options: 4×4 puzzles, one or many solutions each, in minutes on a CPU, by GRAM that decides.
``--preset paper`` is the paper's 9×9 model.
"""

import json
import shlex
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import print

import gram_ppl as gp
from gram_ppl import presets, report
from gram_ppl.cli.options import Out, Plain, PresetName, Seed, Updates
from gram_ppl.storage.folder import locked
from gram_ppl.training import interrupt


def settings(run: dict[str, Any]) -> presets.Preset:
    """The preset, by its name or for a size of board; boards of another size get as large a share of givens."""
    box = run["box"] or ((3, 3) if run["data"] else None)
    large = "paper" if run.get("cuda") else "9x9"  # version 0.1 chose by the device
    name = large if box and box[0] * box[1] >= 9 else "gram" if run["plain"] else "quick"
    named = presets.get("sudoku", run["preset"] or name)
    sizes = {"fit.updates": run["updates"], "samples": run["samples"], "steps": run["steps"]}
    if named.needs:
        return named.changed({"task.data": run["data"], "task.num_test": run["held_out"]} | sizes)
    task, box = named.task, box or named.task["box"]
    side = box[0] * box[1]
    scale = side**2 / (task["box"][0] * task["box"][1]) ** 2
    task = task | {key: tuple(round(n * scale) for n in task[key]) for key in ("clues", "held_clues")}
    num = run["held_out"] or task["num_test"]
    if run["data"] is not None:
        task = {"clues": task["clues"], "data": run["data"], "reveal": (0, side**2 // 2), "mix": 0.3}
    task |= {"box": tuple(box), "num_test": num, "num_validation": max(1, num // 2)}
    return named.changed({"task": task} | sizes)


def asked(folder: Path) -> dict[str, Any]:
    """What the command line of an interrupted run asked for."""
    run = json.loads((folder / "run.json").read_text())
    return run.get("asked", run)  # version 0.1 had nothing else there


def train(preset: presets.Preset, parts: presets.Parts, out: Path, *, name: str, resume: bool, seed: int) -> Any:
    """Train one model, draw its curves, measure it on the test puzzles."""
    task, model, guide, objective, fit = parts
    parameters = sum(weights.numel() for weights in model.parameters())
    print(f"\n[bold]{name}[/], {parameters:,} parameters")
    resume = resume and (out / gp.STATE_FILE).exists()
    history = gp.fit(model, guide, task, objective=objective, **fit, out=out, resume=resume, seed=seed)
    print("trained; measuring on unseen puzzles")
    report.training_curves(history, out / "training.png")
    samples = 1 if name == "deterministic" else preset.samples  # all its answers are the same
    metrics = gp.metrics.evaluate(model, task, num_samples=samples, **preset.options(task), seed=seed)
    trained = {"train_seconds": history[-1].seconds, "updates": history[-1].update, "parameters": parameters}
    return model, {"coverage": metrics["coverage_all"]} | metrics | trained


def others(run: dict[str, Any], preset: presets.Preset, parts: presets.Parts) -> Iterator[tuple[str, Any, Any]]:
    """What a run is compared with, on its task: plain GRAM, and a deterministic model of the size of that."""
    if parts.model.block is not None:
        preset = settings(run | {"plain": True, "preset": None})
        parts = presets.build(preset, seed=run["seed"], task=parts.task)
        yield "GRAM", preset, parts
    twin = parts.model.deterministic()
    yield "deterministic", preset, parts._replace(model=twin, guide=gp.guides.Empty(twin))


def main(
    box: Annotated[tuple[int, int] | None, typer.Option(help="Rows and columns of a box.")] = None,
    data: Annotated[str | None, typer.Option(help="CSV of the Sudoku-Extreme format.")] = None,
    held_out: Annotated[int | None, typer.Option(min=1, help="Unseen puzzles of the test.")] = None,
    updates: Updates = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Trajectories for each puzzle.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Supervision steps of a test trajectory.")] = None,
    puzzle: Annotated[str | None, typer.Option(help="A puzzle of your own, row by row, . for blank.")] = None,
    out: Out = Path("runs/sudoku"),
    resume: Annotated[Path | None, typer.Option(help="Folder of an interrupted run to go on with.")] = None,
    plain: Plain = False,
    preset: PresetName = None,
    compare: Annotated[bool, typer.Option(help="Train plain GRAM and a deterministic model of its size too.")] = False,
    seed: Seed = 0,
) -> None:
    """Train, solve held-out puzzles, show one with several answers, leave checkpoint, metrics.json and a picture."""
    again = f"python {sys.argv[0]} --resume {shlex.quote(str(resume or out))}"
    with report.plain_errors(), interrupt.resumable(resume or out, again):
        run: dict[str, Any] = {"box": box, "data": data, "held_out": held_out, "updates": updates, "samples": samples}
        run |= {"steps": steps, "compare": compare, "seed": seed, "plain": plain, "preset": preset}
        if resume is not None:  # the folder knows what the command line asked for
            run, out = run | {"plain": True} | asked(resume), resume
        made = settings(run)
        parts = presets.build(made, seed=run["seed"])
        trained = partial(train, resume=resume is not None, seed=run["seed"])
        task = parts.task
        own = None if puzzle is None else task.parse(puzzle)
        with locked(out):
            made.write(out, asked=run)
            name = "GRAM" if parts.model.block is None else "GRAM, deciding"
            model, metrics = trained(made, parts, out, name=name)
        columns = {name: metrics}
        for other, its, those in others(run, made, parts) if run["compare"] else ():
            its.write(out / other.lower())
            _, columns[other] = trained(its, those, out / other.lower(), name=other)
        print("\n", report.metrics_table(f"{metrics['num_test']} unseen puzzles", columns))
        (out / "metrics.json").write_text(json.dumps(columns.pop(name) | columns, indent=2))
        several = [x for x in task.inputs("test")[:50] if 3 <= len(task.solutions(x, limit=7)) <= 6]
        shown = {"An unseen puzzle": several[0] if several else task.inputs("test")[0], "Your puzzle": own}
        for title, x in shown.items():
            if x is not None:
                found = gp.rollout(model, x[None], num_samples=made.samples, **made.options(task)).tokens.cpu()
                answers = found[gp.select.distinct(found, task.verify(x, found))]
                print(f"\n{title}: {len(answers)} different verified answers in {made.samples} samples")
                print(report.boards(task, x, answers[:6]))
        print(f"\nCheckpoint, metrics.json and training.png are in {out}")


if __name__ == "__main__":
    with interrupt.prompt():
        typer.run(main)
