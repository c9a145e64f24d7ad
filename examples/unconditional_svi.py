"""GRAM without an input: whole boards from nothing, every one judged by the verifier.

Without options: the 288 Sudoku grids of side 4 by GRAM that decides, in minutes on a CPU. ``--task queens`` places 8
queens. ``--plain``, and larger grids, have Gaussian guidance.
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich import print

import gram_ppl as gp
from gram_ppl import presets, report
from gram_ppl.cli.options import Out, Plain, PresetName, Relations, Resume, Samples, Seed, Steps, Updates
from gram_ppl.training import interrupt


def main(
    task: Annotated[str, typer.Option(help="sudoku or queens.")] = "sudoku",
    side: Annotated[int | None, typer.Option(help="Side of the board.")] = None,
    relations: Relations = None,
    updates: Updates = None,
    samples: Samples = 1000,
    steps: Steps = None,
    plain: Plain = False,
    preset: PresetName = None,
    out: Out = Path("runs/boards"),
    resume: Resume = False,
    seed: Seed = 0,
) -> None:
    """Train, generate boards, count the valid and the different ones."""
    with report.plain_errors(), interrupt.resumable(out):
        queens = task == "queens"
        changes: dict[str, Any] = {"task.game": task, "task.side": side or (8 if queens else None)}
        changes |= {"model.mixer.relations": relations, "fit.updates": updates, "steps": steps, "samples": samples}
        large = not queens and side not in (None, 4)  # too many grids to list, which own states need
        made = presets.get("unconditional", preset or ("gram" if plain or large else None), changes)

        world, model, guide, objective, fit = presets.build(made, seed=seed)  # a gp.tasks.Unconditional of the game
        history = gp.fit(model, guide, world, objective=objective, **fit, out=out, resume=resume, seed=seed)
        made.write(out)
        print("\nTrained; making boards from nothing")

        torch.manual_seed(seed)
        boards = gp.generate(model, num_samples=samples, steps=made.steps).cpu()
        nothing = world.inputs("test")[0]
        valid = world.verify(nothing, boards)
        different = boards[gp.select.distinct(boards[None], valid[None])[0]]
        metrics = {"accuracy": valid.double().mean().item(), "distinct": len(different), "num_samples": samples}
        if world.listable:
            metrics |= {"coverage": len(different) / (total := world.num_solutions(nothing)), "boards_in_all": total}
        report.record(f"{samples} boards from nothing", out, history, metrics)
        print(report.boards(world, nothing, different[:4]))
        report.pictures(world, nothing, different[:12], out / "boards.png")
        print(f"\nCheckpoint, metrics.json, training.png and boards.png are in {out}")


if __name__ == "__main__":
    with interrupt.prompt():
        typer.run(main)
