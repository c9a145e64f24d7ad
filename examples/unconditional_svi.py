"""GRAM without an input: whole boards from nothing, every one judged by the verifier.

Without options: the 288 Sudoku grids of side 4, in minutes on a CPU. ``--task queens`` places 8 queens.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import print

import gram_ppl as gp
from gram_ppl import report

CPU = {
    "model": {"noise": gp.models.LearnedNoise(scale=1.25), "supervision": 8},
    "fit": {"updates": 2500, "batch_size": 64},
    "beta": gp.LogLinear(10, 1.0, 0.05, 0.4),
}
PAPER = {
    "model": {"width": 512, "hidden": 512, "layers": 2, "low_steps": 6, "transitions": 3, "supervision": 16,
              "registers": 16, "mixer": gp.nn.TokenMixing(512)},
    "fit": {"updates": 20_000, "batch_size": 768, "lr": 1e-4, "weight_decay": 1.0, "ema": 0.999},
    "beta": gp.LogLinear(0.05, 0.05),
}  # fmt: skip


def whole(task: str, side: int, seed: int) -> gp.tasks.Unconditional:
    """The unconditional task of a name."""
    if task == "queens":
        return gp.tasks.Unconditional(gp.tasks.NQueens(side, tokens="rows", num_validation=0, seed=seed))
    if task != "sudoku":
        raise ValueError(f"--task: expected sudoku or queens, found {task!r}")
    boxes = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
    if side not in boxes:
        raise ValueError(f"--side: expected 4, 6 or 9 for sudoku, found {side}")
    pool = 50_000 if side == 9 else 1
    made = gp.tasks.Sudoku(boxes[side], (1, side * side), num_validation=0, num_test=0, pool=pool, seed=seed)
    return gp.tasks.Unconditional(made)


def main(
    task: Annotated[str, typer.Option(help="sudoku or queens.")] = "sudoku",
    side: Annotated[int | None, typer.Option(help="Side of the board.")] = None,
    relations: Annotated[bool, typer.Option(help="Constraints as relations in the attention.")] = True,
    updates: Annotated[int | None, typer.Option(min=1, help="Training segments.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Boards to generate.")] = 1000,
    steps: Annotated[int, typer.Option(min=1, help="Supervision steps of a test trajectory.")] = 32,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, metrics and pictures.")] = Path("runs/boards"),
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, data and noise.")] = 0,
) -> None:
    """Train, generate boards, count the valid and the different ones."""
    with report.plain_errors():
        cuda = torch.cuda.is_available()
        large = cuda and task == "sudoku"
        world = whole(task, side or (9 if large else 4 if task == "sudoku" else 8), seed)
        preset = PAPER if large else CPU
        settings = preset["model"] if large else {"mixer": gp.nn.Attention(relations=relations)} | preset["model"]
        model = gp.models.GRAM(world.spec, seed=seed, **settings)
        guide = gp.guides.AmortizedGuide(model, seed=seed)
        history = gp.fit(
            model, guide, world, objective=gp.SegmentELBO(preset["beta"]), evaluate_steps=steps, out=out,
            resume=resume, seed=seed, **preset["fit"] | ({"updates": updates} if updates else {}),
        )  # fmt: skip
        torch.manual_seed(seed)
        boards = gp.generate(model, num_samples=samples, steps=steps).cpu()
        nothing = world.inputs("test")[0]
        valid = world.verify(nothing, boards)
        different = boards[gp.select.distinct(boards[None], valid[None])[0]]
        metrics = {"accuracy": valid.double().mean().item(), "distinct": len(different), "num_samples": samples}
        if world.spec.len_out < 81:
            metrics |= {"coverage": len(different) / (total := world.num_solutions(nothing)), "boards_in_all": total}
        report.record(f"{samples} boards from nothing", out, history, metrics)
        print(report.boards(world, nothing, different[:4]))
        report.pictures(world, nothing, different[:12], out / "boards.png")
        print(f"\nCheckpoint, metrics.json, training.png and boards.png are in {out}")


if __name__ == "__main__":
    typer.run(main)
