"""GRAM finds shortest paths through mazes, of which there may be many: each sample is one, checked by flooding.

Without options: made mazes of 6×6 cells, in minutes on a CPU. ``--root`` reads a folder of 30×30 mazes.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import print

import gram_ppl as gp
from gram_ppl import presets, report
from gram_ppl.cli.options import HeldOut, Out, PresetName, Relations, Resume, Samples, Seed, Steps, Updates
from gram_ppl.training import interrupt


def main(
    root: Annotated[Path | None, typer.Option(help="Folder with 30×30 mazes; made mazes without it.")] = None,
    side: Annotated[int | None, typer.Option(help="Side of made mazes; 6 if not given.")] = None,
    preset: PresetName = None,
    relations: Relations = None,
    updates: Updates = None,
    held_out: HeldOut = 200,
    samples: Samples = 20,
    steps: Steps = 24,
    out: Out = Path("runs/maze"),
    resume: Resume = False,
    seed: Seed = 0,
) -> None:
    """Train, solve unseen mazes, show one with several shortest paths."""
    with report.plain_errors(), interrupt.resumable(out):
        changes: dict[str, Any] = {"task": {"num_validation": 100, "root": root}} if root else {}
        size = (30, 30) if root else (side, side) if side else None
        changes |= {"task.size": size, "task.num_test": held_out}
        changes |= {"model.mixer.relations": relations, "fit.updates": updates, "steps": steps, "samples": samples}
        made = presets.get("maze", preset, changes)

        task, model, guide, objective, fit = presets.build(made, seed=seed)
        history = gp.fit(model, guide, task, objective=objective, **fit, out=out, resume=resume, seed=seed)
        made.write(out)
        print("\nTrained; measuring on unseen mazes")

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
    with interrupt.prompt():
        typer.run(main)
