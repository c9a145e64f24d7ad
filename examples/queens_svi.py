"""GRAM completes chess boards with some of n queens given: one token a row, or one a cell, the paper's encoding.

Without options: 8 queens by GRAM that decides, in minutes on a CPU. ``--plain`` has Gaussian guidance, and a token a
cell.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import print

import gram_ppl as gp
from gram_ppl import presets, report
from gram_ppl.cli.options import HeldOut, Out, Plain, PresetName, Relations, Resume, Samples, Seed, Steps, Updates
from gram_ppl.training import interrupt


def main(
    n: Annotated[int | None, typer.Option(help="Side of the board, 4 to 12; 8 if not given.")] = None,
    removed: Annotated[list[int] | None, typer.Option(help="How many queens may be missing; repeat.")] = None,
    tokens: Annotated[str | None, typer.Option(help="cells or rows: a token for each cell, or each row.")] = None,
    plain: Plain = False,
    preset: PresetName = None,
    relations: Relations = None,
    updates: Updates = None,
    held_out: HeldOut = 200,
    samples: Samples = 20,
    steps: Steps = None,
    out: Out = Path("runs/queens"),
    resume: Resume = False,
    seed: Seed = 0,
) -> None:
    """Train, complete unseen boards, show one with several completions."""
    with report.plain_errors(), interrupt.resumable(out):
        changes: dict[str, Any] = {"task.n": n, "task.removed": removed or None, "task.tokens": tokens}
        changes |= {"task.num_validation": 20 if n and n < 7 else None}
        changes |= {"model.mixer.relations": relations, "fit.updates": updates}
        changes |= {"steps": steps, "samples": samples, "held_out": held_out}
        made = presets.get("queens", preset or ("gram" if plain else None), changes)

        task, model, guide, objective, fit = presets.build(made, seed=seed)
        print(f"{made.task['n']} queens, {len(task.inputs('test')):,} different inputs in the test split")
        history = gp.fit(model, guide, task, objective=objective, **fit, out=out, resume=resume, seed=seed)
        made.write(out)
        print("\nTrained; measuring on unseen boards")

        x = task.inputs("test")[:held_out]
        depth = made.options(task)
        metrics = gp.metrics.evaluate(model, task, x=x, num_samples=samples, **depth, seed=seed)
        report.record(f"{len(x)} unseen inputs", out, history, metrics)
        shown = max(x[:100], key=lambda row: min(5, task.num_solutions(row)))
        found = gp.rollout(model, shown[None], num_samples=samples, **depth).tokens.cpu()
        answers = found[gp.select.distinct(found, task.verify(shown, found))]
        print(f"\n{len(answers)} of its {task.num_solutions(shown)} completions in {samples} samples")
        print(report.boards(task, shown, answers[:5]))
        report.pictures(task, shown, answers[:11], out / "boards.png")
        print(f"\nCheckpoint, metrics.json, training.png and boards.png are in {out}")


if __name__ == "__main__":
    with interrupt.prompt():
        typer.run(main)
