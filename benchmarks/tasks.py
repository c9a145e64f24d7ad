"""How fast verifiers and generators are: boards per second, seconds to build a data set, each beside its target.

    python benchmarks/tasks.py

One thread. A rate is that of ``task.verify`` on one batch of training rows, half of them with a wrong answer, median
over the rounds; a time is that of the whole constructor, least over the rounds. Both are checked before they are
timed: right answers verify and wrong ones don't, the queens sets have the paper's numbers of inputs, every new puzzle
has exactly one solution. On a busy machine ``--clock cpu`` counts processor time, which excludes waiting.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import gram_ppl as gp

ROWS = 8192
PUZZLES = 1000
CLUES = (24, 32)  # of the new puzzles
INPUTS = {8: 5148, 10: 43420}  # of the paper's protocol, computed independently

# Tasks with the boards per second that are asked of their verifiers.
VERIFIERS: dict[str, tuple[Callable[[], Any], float]] = {
    "9x9 Sudoku": (lambda: gp.tasks.Sudoku((3, 3), (30, 50), num_validation=1, num_test=1, pool=50), 2e5),
    "8x8 queens, cells": (lambda: gp.tasks.NQueens(8), 2e5),
    "8x8 queens, rows": (lambda: gp.tasks.NQueens(8, tokens="rows"), 2e5),
    "colouring of 10 nodes": (lambda: gp.tasks.GraphColoring(10, num_train=2000), 1e6),
}
# Sides of boards with the seconds that their sets may take.
QUEENS = {8: 2.0, 10: 20.0}
PUZZLE_SECONDS = 60.0


def rate(task: Any, repeats: int, now: Callable[[], float]) -> float:
    """Boards per second of a verifier."""
    x, y = next(task.batches("train", ROWS, torch.Generator().manual_seed(0)))
    wrong = torch.arange(ROWS) % 2 == 1
    y[wrong, 0] = 0  # no digit, no queen, no colour
    assert torch.equal(task.verify(x, y), ~wrong)
    times = []
    for _ in range(repeats):
        start = now()
        task.verify(x, y)
        times.append(now() - start)
    return ROWS / median(times)


def seconds(build: Callable[[], Any], repeats: int, now: Callable[[], float]) -> tuple[float, Any]:
    """The least time that a constructor takes, and what it makes."""
    times = []
    for _ in range(repeats):
        start = now()
        made = build()
        times.append(now() - start)
    return min(times), made


def new_puzzles() -> Any:
    """1,000 puzzles with one solution, each from a random grid of its own."""
    return gp.tasks.Sudoku((3, 3), CLUES, unique=True, num_validation=0, num_test=0, pool=PUZZLES)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Rates of verifiers and times of generators, on one thread.")
    parser.add_argument("--repeats", type=int, default=15, help="rounds of each rate")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "tasks.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    now = time.perf_counter if options.clock == "wall" else time.process_time
    rates: dict[str, Any] = {}
    times: dict[str, Any] = {}
    table = Table("", "measured", "target", "met")

    for name, (build, target) in VERIFIERS.items():
        found = rate(build(), options.repeats, now)
        rates[name] = {"boards_per_second": round(found), "target": round(target), "met": found >= target}
        table.add_row(
            f"verify {name}", f"{found:,.0f} boards/s", f"≥ {target:,.0f}", "yes" if found >= target else "NO"
        )

    def timed(name: str, found: float, target: float) -> None:
        times[name] = {"seconds": round(found, 4), "target": target, "met": found <= target}
        table.add_row(name, f"{found:.3f} s", f"≤ {target:.0f} s", "yes" if found <= target else "NO")

    for side, target in QUEENS.items():
        found, queens = seconds(partial(gp.tasks.NQueens, side, train_share=1.0, num_validation=0), 3, now)
        seen = next(queens.batches("train", 40 * INPUTS[side], torch.Generator().manual_seed(0))).x.unique(dim=0)
        assert len(seen) == INPUTS[side], f"{len(seen)} inputs"
        timed(f"build the {side}x{side} queens set", found, target)

    found, sudoku = seconds(new_puzzles, 1, now)
    x, _ = next(sudoku.batches("train", 200, torch.Generator().manual_seed(0)))
    assert all(len(sudoku.solutions(one, limit=2)) == 1 for one in x)
    timed(f"{PUZZLES:,} new 9x9 puzzles of {CLUES[0]} to {CLUES[1]} clues", found, PUZZLE_SECONDS)

    Console().print(table)
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    processor = re.search(r"model name\s*: (.*)", info)
    document = {
        "processor": processor[1] if processor else platform.machine(), "threads": 1, "torch": torch.__version__,
        "rows": ROWS, "repeats": options.repeats, "clock": options.clock, "verifiers": rates, "generators": times,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
