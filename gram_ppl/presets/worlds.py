"""Presets: task, model, guide and training of every world, by the names of the task and of the preset.

``quick`` takes minutes on one core, is what is best there, and the default on every device; ``gram`` is GRAM with
Gaussian guidance where ``quick`` is GRAM that decides; ``gpu`` wants minutes of one GPU; ``paper`` has the backbone and
the rates of arXiv 2605.19376, section 4, and wants more of it. A preset is plain data: :func:`get` finds one and
changes single settings of it, :func:`gram_ppl.presets.build` makes the objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..guides import Revealing
from ..inference.halt import Confident
from ..models import Both, Deciding, Drop, LearnedNoise, NodeTokens, Patches, PuzzleTokens, RandomCells
from ..nn import Attention, TokenMixing
from ..program.deciding import DecidingELBO
from ..program.objective import LogLinear
from ..tasks import ARC, BinarizedMNIST, GraphColoring, Maze, NQueens, Sudoku, Unconditional
from ..training.own_states import OwnStates
from .preset import Preset


def from_nothing(game: str = "sudoku", side: int = 4, *, pool: int = 5000, seed: int = 0) -> Unconditional:
    """Whole boards without an input.

    Args:
        game: ``"sudoku"`` or ``"queens"``.
        side: of the board; 4, 6 or 9 for Sudoku.
        pool: 9×9 grids that are made, under whose symmetries training draws.
        seed: of the boards that training draws from.

    Raises:
        ValueError: another game or side.
    """
    if game == "queens":
        return Unconditional(NQueens(side, tokens="rows", num_validation=0, seed=seed))
    if game != "sudoku":
        raise ValueError(f"game: expected sudoku or queens, found {game!r}")
    boxes = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
    if side not in boxes:
        raise ValueError(f"side: expected 4, 6 or 9 for sudoku, found {side}")
    made = Sudoku(boxes[side], (1, side * side), num_validation=0, num_test=0, pool=pool, seed=seed)
    return Unconditional(made)


def puzzle_tokens(task: ARC) -> PuzzleTokens:
    """The encoder of ARC, whose puzzles have an embedding each."""
    return PuzzleTokens(task.num_puzzles)


BACKBONE = {"width": 512, "hidden": 512, "layers": 2, "transitions": 3, "supervision": 16, "registers": 16}
RATES = {"batch_size": 768, "lr": 1e-4, "weight_decay": 1.0, "ema": 0.9999}
ROPE = Attention(8, rope=True, relations=False)

DECIDING: Any = {"kind": Deciding, "guide": Revealing, "elbo": DecidingELBO}
OWN = {"own_states": OwnStates(), "evaluations": 0}
HARD = {
    "policy": Both(Drop(0.1), RandomCells()), "keep": True, "anew": True, "hierarchy": False, "low_steps": 0,
    "transitions": 1, "positions": False, "registers": 7,
}  # fmt: skip
BOARDS = {"block": 4, "transitions": 1, "supervision": 64, "anew": True}
LATER = {
    "batch_size": 64,
    "lr": 2e-3,
    "own_states": OwnStates(rise=(0.3, 0.8), temperature=1.3, linger=False),
    "evaluations": 0,
}
SMALL = {"box": (2, 2), "clues": (4, 8), "held_clues": (4, 8), "num_validation": 250, "num_test": 500, "seed": 0}

PRESETS: dict[str, dict[str, Preset]] = {
    "sudoku": {
        "quick": Preset(
            Sudoku, LogLinear(1.0, 1.0), task=SMALL, model={"block": 2, "transitions": 1, "supervision": 32},
            **DECIDING, objective={"steps": 2},
            fit={"updates": 1000, "batch_size": 64, "lr": 2e-3, **OWN}, steps=128,
        ),
        "gram": Preset(
            Sudoku, LogLinear(10.0, 0.6, 0.05, 0.4), task=SMALL,
            model={"noise": LearnedNoise(scale=1.25)},
            fit={"updates": 1500, "batch_size": 64}, steps=8,
        ),
        "9x9": Preset(
            Sudoku, LogLinear(10.0, 2.0, 0.25, 0.6),
            task={"box": (3, 3), "clues": (24, 45), "held_clues": (40, 40), "unique": True, "reveal": (0, 20),
                  "mix": 0.3, "num_validation": 100, "num_test": 200, "seed": 0},
            model={"positions": False, "supervision": 8},
            fit={"updates": 6000, "batch_size": 32, "decay": 0.5}, balance=0.5,
        ),
        "extreme": Preset(  # the recipe of arXiv 2605.08605, on the rows of a file with one solution each
            Sudoku, LogLinear(1.0, 1.0), task={"num_validation": 0, "num_test": 200, "seed": 0}, **DECIDING,
            model=HARD | {"block": 16, "supervision": 1600},
            objective={"steps": 16, "window": 16, "every_step": True},
            fit={"updates": 9000, "batch_size": 64, "lr": 3e-3, "warmup": 500, "decay": 0.9, "final": 0.02,
                 "evaluations": 0, "own_states": OwnStates(temperature=1.5, symmetric=True, redraw=False)},
            needs=("data",), samples=8, steps=3200, held_out=200, first_answer=True, symmetric=True,
        ),
        "paper": Preset(
            Sudoku, LogLinear(0.1, 0.1),
            task={"box": (3, 3), "clues": (17, 55), "held_clues": (25, 55), "num_validation": 250, "num_test": 500,
                  "seed": 0},
            model=BACKBONE | {"low_steps": 6, "mixer": TokenMixing(512)},
            fit=RATES | {"updates": 50_000},
        ),
    },
    "queens": {
        "quick": Preset(
            NQueens, LogLinear(1.0, 1.0), task={"n": 8, "tokens": "rows"}, model=BOARDS | {"certain": 0.01},
            **DECIDING, objective={"steps": 4}, fit=LATER | {"updates": 3000}, steps=256, held_out=200,
            symmetric=True, views=4,
        ),
        "gram": Preset(
            NQueens, LogLinear(10.0, 5.0, 0.1, 0.3),
            task={"n": 8, "tokens": "cells"},
            model={"mixer": Attention(), "noise": LearnedNoise(scale=1.0), "positions": False, "transitions": 1,
                   "supervision": 8},
            fit={"updates": 5000, "batch_size": 16, "lr": 2e-3, "decay": 0.6, "evaluations": 6, "evaluate_on": 100,
                 "evaluate_steps": 16},
            steps=64, held_out=200, halt=Confident(0.8, at_least=4), retry=16,
        ),
        "paper": Preset(
            NQueens, LogLinear(0.07, 0.07),
            task={"n": 8, "tokens": "cells"},
            model=BACKBONE | {"low_steps": 4, "shared": False, "mixer": ROPE},
            fit=RATES | {"updates": 48_000}, held_out=300,
        ),
    },
    "coloring": {
        "quick": Preset(
            GraphColoring, LogLinear(1.0, 1.0), task={"n": 8},
            model=BOARDS | {"encoder": NodeTokens(), "mixer": Attention()}, **DECIDING,
            objective={"steps": 4}, fit=LATER | {"updates": 3000}, steps=256,
        ),
        "gram": Preset(
            GraphColoring, LogLinear(10.0, 3.0, 0.1, 0.45),
            task={"n": 8},
            model={"encoder": NodeTokens(), "mixer": Attention(), "noise": LearnedNoise(scale=1.0), "transitions": 1,
                   "supervision": 8},
            fit={"updates": 7000, "batch_size": 64, "lr": 2e-3, "decay": 0.6, "evaluations": 4, "evaluate_on": 100},
            steps=24, temperature=1.2,
        ),
        "paper": Preset(
            GraphColoring, LogLinear(0.5, 0.5),
            task={"n": 8},
            model=BACKBONE | {"low_steps": 4, "shared": False, "encoder": NodeTokens(), "mixer": Attention(8)},
            fit=RATES | {"updates": 20_000},
        ),
    },
    "maze": {
        "quick": Preset(
            Maze, LogLinear(10.0, 1.0, 0.05, 0.4),
            task={"size": (6, 6), "num_paths": (1, 20), "num_validation": 100, "num_test": 200},
            model={"mixer": Attention(), "noise": LearnedNoise(scale=1.0)},
            fit={"updates": 1600, "batch_size": 64, "lr": 2e-3, "decay": 0.6}, steps=24,
        ),
        "paper": Preset(  # the paper has no mazes
            Maze, LogLinear(0.1, 0.1),
            task={"size": (8, 8), "num_paths": (1, 20), "num_validation": 100, "num_test": 200},
            model=BACKBONE | {"low_steps": 4, "mixer": Attention(8)},
            fit=RATES | {"updates": 50_000}, steps=12,
        ),
    },
    "mnist": {
        "quick": Preset(
            BinarizedMNIST, LogLinear(10.0, 3.0, 0.1, 0.5),
            model={"mixer": Attention(), "noise": LearnedNoise(scale=1.0), "encoder": Patches(channels=16, patch=4)},
            fit={"updates": 5000, "batch_size": 32, "lr": 2e-3, "decay": 0.6, "evaluations": 0}, samples=500,
        ),
        "paper": Preset(
            BinarizedMNIST, LogLinear(0.07, 0.07),
            model=BACKBONE
            | {"low_steps": 4, "shared": False, "mixer": Attention(8), "encoder": Patches(channels=64)},
            fit=RATES | {"updates": 50_000, "evaluations": 0}, samples=500,
        ),
    },
    "arc": {
        "quick": Preset(  # one task
            ARC, LogLinear(1.0, 1.0),
            task={"version": 1, "num_augmentations": 15, "canvas": None, "translate": False},
            model={"mixer": Attention(), "noise": LearnedNoise(scale=0.1)},
            encoder=puzzle_tokens,
            fit={"updates": 800, "batch_size": 16, "lr": 2e-3, "decay": 0.5, "evaluations": 0},
            needs=("root", "only"), samples=4, steps=8,
        ),
        "paper": Preset(
            ARC, LogLinear(0.04, 0.04),
            task={"version": 1, "num_augmentations": 7},
            model=BACKBONE | {"low_steps": 4, "mixer": ROPE},
            encoder=puzzle_tokens,
            fit=RATES | {"updates": 500_000, "evaluations": 0}, needs=("root",), samples=4, steps=8,
        ),
    },
    "unconditional": {
        "quick": Preset(
            from_nothing, LogLinear(1.0, 1.0), task={"game": "sudoku", "side": 4},
            model={"block": 2, "transitions": 1, "supervision": 32}, **DECIDING, objective={"steps": 2},
            fit={"updates": 3500, "batch_size": 64, "lr": 2e-3, **OWN}, samples=1000, steps=128,
        ),
        "gram": Preset(
            from_nothing, LogLinear(10.0, 1.0, 0.05, 0.4),
            task={"game": "sudoku", "side": 4},
            model={"mixer": Attention(), "noise": LearnedNoise(scale=1.25), "supervision": 8},
            fit={"updates": 3000, "batch_size": 64}, samples=1000, steps=64,
        ),
        "9x9": Preset(  # begins best with the weights of Sudoku: --start pretrained:sudoku9
            from_nothing, LogLinear(1.0, 1.0), task={"game": "sudoku", "side": 9},
            model=HARD | {"width": 128, "block": 8, "supervision": 800}, **DECIDING,
            objective={"steps": 8, "window": 8, "every_step": True},
            fit={"updates": 500, "batch_size": 64, "lr": 1e-3, "warmup": 50, "decay": 0.9, "final": 0.02, **OWN},
            samples=1000, steps=3200,
        ),
        "paper": Preset(
            from_nothing, LogLinear(0.05, 0.05),
            task={"game": "sudoku", "side": 9},
            model=BACKBONE | {"low_steps": 6, "mixer": TokenMixing(512)},
            fit=RATES | {"updates": 20_000, "ema": 0.999}, samples=1000, steps=32,
        ),
    },
}  # fmt: skip

# What makes minutes of one GPU of another preset. Sudoku's recipe is that of `extreme`; the others are not measured.
WIDER = {"model.width": 128, "model.layers": 2, "fit.updates": 5000}
MINUTES_OF_A_GPU: dict[str, tuple[str, dict[str, Any]]] = {
    "sudoku": ("extreme", {"fit.batch_size": 512, "objective.window": 16, "samples": 32, "steps": 16_000}),
    "queens": ("quick", {"task.n": 10, "fit.batch_size": 256, "fit.lr": 1e-3}),
    "coloring": (
        "quick", {"task.n": 10, "task.num_train": 13_465, "task.num_test": 192, "fit.batch_size": 256, "fit.lr": 1e-3},
    ),
    "mnist": ("quick", {"model.encoder.channels": 64, "fit.batch_size": 256, "fit.lr": 1e-3}),
    "unconditional": (  # of 9×9 grids: rows take the posterior's decisions, which cost no search
        "quick", {"task.side": 9, "fit.own_states.share": 0.0, "fit.own_states.redraw": False, "fit.batch_size": 256,
                  "fit.lr": 1e-3, "model.supervision": 192, "steps": 768},
    ),
}  # fmt: skip
for _task, (_base, _changes) in MINUTES_OF_A_GPU.items():
    PRESETS[_task]["gpu"] = PRESETS[_task][_base].changed(WIDER | _changes)

QUICK = "quick"
ALIASES = {"cpu": QUICK}  # what version 0.1 called it


def get(task: str, name: str | None = None, settings: Mapping[str, Any] | None = None) -> Preset:
    """The preset of a task, with single settings changed.

    Args:
        task, name: keys of :data:`PRESETS`; ``quick`` if not given, which ``cpu`` names too.
        settings: new values by dotted name: ``fit.updates``, ``model.noise.scale``, ``beta.last``, ``task.n``,
            ``steps``. None leaves a setting as it is.

    Raises:
        ValueError: no such task, preset or setting, or a value of another kind.
    """
    if task not in PRESETS:
        raise ValueError(f"there is no task {task!r}: expected one of {', '.join(PRESETS)}")
    name = ALIASES.get(name or QUICK, name or QUICK)
    if name not in PRESETS[task]:
        raise ValueError(f"{task} has no preset {name!r}: expected one of {', '.join(PRESETS[task])}")
    return PRESETS[task][name].changed(settings or {})


def default() -> str:
    """The name of the preset that is meant where none is named: ``quick``, on every device."""
    return QUICK
