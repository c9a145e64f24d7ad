"""The best that a fixed time gives on hard 9×9 Sudoku: train on real puzzles, measure on held-out real puzzles.

Training rows are puzzles of the two files with a random number of cells revealed, mixed with random clues, all under
random symmetries. The test sets, each held out before training: Sudoku-Extreme rows, 17-clue puzzles, and 17-clue
puzzles with 8 further cells revealed. Each is solved by one sample, by the vote of N, by any of N, at several depths.
"""

import csv
import gzip
import json
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

import gram_ppl as gp
from gram_ppl.reporting import tables as report


def split_file(path: Path, num: int, folder: Path, seed: int) -> tuple[Path, Path]:
    """Write two CSV files, the training rows and ``num`` held-out ones."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        header, *rows = list(csv.reader(file))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
    parts = {"train": order[num:], "test": order[:num]}
    paths = [folder / f"{path.name.split('.')[0]}_{part}.csv" for part in parts]
    for part, chosen in zip(paths, parts.values(), strict=True):
        with part.open("w", newline="") as file:
            csv.writer(file).writerows([header, *(rows[i] for i in chosen)])
    return paths[0], paths[1]


def main(
    extreme: Annotated[Path, typer.Option(help="Sudoku-Extreme CSV.")],
    seventeen: Annotated[Path, typer.Option(help="CSV of 17-clue puzzles.")],
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/sudoku_9x9"),
    result: Annotated[Path, typer.Option(help="JSON with the figures.")] = Path(
        "benchmarks/results/sudoku_9x9_gaussian.json"
    ),
    updates: Annotated[int, typer.Option(help="Training segments.")] = 24_000,
    batch_size: Annotated[int, typer.Option(help="Rows in flight.")] = 32,
    supervision: Annotated[int, typer.Option(help="N_sup in training.")] = 8,
    last_beta: Annotated[float, typer.Option(help="β at the end.")] = 2.0,
    balance: Annotated[float, typer.Option(help="Share of the KL's gradient for the prior.")] = 0.5,
    num_test: Annotated[int, typer.Option(help="Puzzles of each test set.")] = 100,
    samples: Annotated[int, typer.Option(help="Trajectories a puzzle.")] = 20,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 2,
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    seed: int = 0,
) -> None:
    """Train, evaluate, write the figures."""
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    files = [split_file(path, num_test, out, seed) for path in (extreme, seventeen)]
    task = gp.tasks.Sudoku(
        data=[train for train, _ in files], test_data=[test for _, test in files], reveal=(0, 40), mix=0.3,
        clues=(25, 55), num_validation=200, num_test=2 * num_test, held_reveal=(8, 8),
    )  # fmt: skip
    model = gp.models.GRAM(task.spec, supervision=supervision, positions=False, seed=seed)
    guide = gp.guides.AmortizedGuide(model, seed=seed)
    objective = gp.SegmentELBO(gp.LogLinear(10, last_beta), balance)
    history = gp.fit(
        model, guide, task, updates=updates, batch_size=batch_size, objective=objective, decay=0.6, evaluations=20,
        evaluate_steps=16, checkpoint_every=500, out=out, resume=resume, seed=seed,
    )  # fmt: skip
    report.training_curves(history, out / "training.png")
    sets = {
        "Sudoku-Extreme, held-out rows": gp.tasks.Sudoku(data=files[0][1], num_validation=0, num_test=num_test),
        "17 clues": gp.tasks.Sudoku(data=files[1][1], num_validation=0, num_test=num_test),
        "17 clues + 8 revealed": gp.tasks.Sudoku(
            data=files[1][1], num_validation=0, num_test=num_test, held_reveal=(8, 8)
        ),
        "40 random clues": gp.tasks.Sudoku(clues=(40, 40), num_validation=0, num_test=num_test, seed=seed + 1),
    }
    figures = {}
    for name, test in sets.items():
        for steps in (16, 64):
            figures[f"{name}, {steps} steps"] = found = gp.metrics.evaluate(
                model, test, num_samples=samples, steps=steps, seed=seed
            )
            Console().print(report.metrics_table(f"{name}, {steps} steps", {"GRAM": found}))
    settings = {"updates": updates, "batch_size": batch_size, "supervision": supervision, "last_beta": last_beta}
    settings |= {"balance": balance, "threads": threads, "seed": seed, "train_seconds": history[-1].seconds}
    result.write_text(json.dumps({"settings": settings, "figures": figures}, indent=2))


if __name__ == "__main__":
    typer.run(main)
