"""The worlds of the CUDA runs: the paper's presets by short names, and what makes each of them tiny."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gram_ppl import presets
from gram_ppl.presets.preset import Preset

# Task, settings, and whether its data must be given.
WORLDS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "queens8": ("queens", {}, False),
    "coloring8": ("coloring", {}, False),
    "queens10": ("queens", {"task.n": 10}, False),
    "coloring10": ("coloring", {"task.n": 10}, False),
    "sudoku-grids": ("unconditional", {}, False),
    "sudoku-extreme": ("sudoku", {}, True),
    "mnist": ("mnist", {}, True),
}
PUZZLES = 1_000  # training puzzles of Sudoku-Extreme
HELD_OUT = 100  # further rows of its training file, for validation

TINY: dict[str, Any] = {
    "model.width": 16, "model.hidden": 16, "model.layers": 1, "model.low_steps": 1, "model.supervision": 2,
    "model.registers": 1, "fit.updates": 4, "fit.batch_size": 4, "fit.evaluations": 1, "fit.evaluate_on": 2,
    "samples": 2, "steps": 2, "held_out": 2,
}  # fmt: skip
TINY_TASKS: dict[str, dict[str, Any]] = {
    "queens8": {"task.n": 6}, "queens10": {"task.n": 6}, "coloring8": {"task.n": 5, "task.num_train": 20},
    "coloring10": {"task.n": 6, "task.num_train": 20}, "sudoku-grids": {"task.side": 4},
}  # fmt: skip


def world(name: str, *, data: str | None = None, test_data: str | None = None, tiny: bool = False) -> Preset:
    """The paper's preset of a world.

    Args:
        name: a key of :data:`WORLDS`.
        data: Sudoku-Extreme's training file, or the folder of MNIST's four files.
        test_data: Sudoku-Extreme's test file.
        tiny: small enough for seconds on a CPU; without data the task makes its own.

    Raises:
        ValueError: data are missing, or of the wrong kind.
    """
    task, settings, needs = WORLDS[name]
    if needs and data is None and not tiny:
        raise ValueError(f"{name} needs --data: see benchmarks/gpu/README.md")
    if name == "sudoku-extreme" and data is not None and test_data is None:
        raise ValueError("sudoku-extreme needs --test-data beside --data")
    changes = settings | (TINY | TINY_TASKS.get(name, {}) if tiny else {})
    preset = presets.get(task, "paper", changes)
    if name == "sudoku-extreme":
        own = {"clues": (6, 10), "box": (2, 2), "num_validation": 2, "num_test": 2, "pool": 10}
        given = {"box": (3, 3), "data": data, "test_data": test_data, "num_validation": HELD_OUT, "num_test": 500}
        preset = replace(preset, task=own if data is None else given)
    if name == "mnist":
        own = {"num_validation": 2, "num_test": 50, "size": 8} if tiny else {}
        preset = replace(preset, task=own if data is None else {"root": data})
    return preset


def thousand(source: Path, target: Path) -> Path:
    """The first rows after a seeded shuffle of Sudoku-Extreme's training file, as a file of its own; kept if there.

    Raises:
        ValueError: the file has too few rows.
    """
    if not target.exists():
        header, *rows = source.read_text(encoding="utf-8").splitlines()
        if len(rows) < PUZZLES + HELD_OUT:
            raise ValueError(f"{source}: expected at least {PUZZLES + HELD_OUT} puzzles, found {len(rows)}")
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[: PUZZLES + HELD_OUT]
        target.parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join([header, *(rows[int(index)] for index in order)]) + "\n"
        temporary = target.with_suffix(".tmp")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    return target
