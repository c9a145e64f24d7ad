"""The tables: which systems stand in their rows, which tasks in their columns, and what a run of each may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gram_ppl import presets
from gram_ppl.inference.halt import Confident, Never
from gram_ppl.models import LearnedNoise
from gram_ppl.nn import Convolution
from gram_ppl.presets.preset import Preset
from gram_ppl.program.poutine import Anneal


@dataclass(frozen=True)
class Column:
    """One task of a table.

    Args:
        name: of its folder.
        title: as the table says it.
        preset: task, backbone, rates and test.
        metrics: what the table shows.
        packaged: by the name of a system, the weights of the package that its row shows, on the same inputs.
        data: the setting that says where its files are, for a column of real data.
        own: by the name of a system, the preset that describes its runs wholly, model and test too.
        changes: by the name of a system, settings that its runs have in place of the preset's.
        systems: its rows; those of the table if not given.
        teraflop: of training a run; the table's if not given.
        budgets: by the name of a system, in place of ``teraflop``; None for the updates of its preset.
    """

    name: str
    title: str
    preset: Preset
    metrics: tuple[str, ...]
    packaged: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None
    own: Mapping[str, Preset] = field(default_factory=dict)
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    systems: tuple[str, ...] | None = None
    teraflop: float | None = None
    budgets: Mapping[str, float | None] = field(default_factory=dict)

    def settings(self, system: str) -> Preset:
        """Of the runs of a system."""
        return self.own.get(system) or self.preset.changed(self.changes.get(system, {}))


@dataclass(frozen=True)
class Table:
    """Rows and columns of one table at one scale; ``teraflop`` of training a run, None for the presets' updates."""

    title: str
    systems: tuple[str, ...]
    columns: tuple[Column, ...]
    teraflop: float | None

    def rows(self, column: Column) -> tuple[str, ...]:
        """The systems of a column."""
        return self.systems if column.systems is None else column.systems

    def budget(self, column: Column, system: str) -> float | None:
        """``teraflop`` of training a system of a column."""
        return column.budgets.get(system, self.teraflop if column.teraflop is None else column.teraflop)


def _every_step(preset: Preset, **changes: Any) -> Preset:
    """Without halting or trying again, which the other systems don't have."""
    return replace(preset, halt=Never(), retry=None, **changes)


COST = ("parameters", "updates", "train_seconds")
CHAINS = ("unanswered", "restarts")
SEVERAL = ("accuracy", "selected_accuracy", "coverage_all", "coverage", "coverage_ceiling")
CALLED = ("network_calls", *COST)
SUDOKU = Column("sudoku4", "4×4 Sudoku", _every_step(presets.get("sudoku", "gram"), held_out=200), SEVERAL + CALLED)
ROWS = {
    "task.tokens": "rows",
    "beta.last": 3.0,
    "model.positions": True,
    "fit.batch_size": 64,
    "fit.evaluate_steps": 16,
}
QUEENS = Column(
    "queens8-rows", "8 queens, rows", _every_step(presets.get("queens", "gram", ROWS), held_out=200, steps=16),
    SEVERAL + CALLED,
)  # fmt: skip
COLOURING = Column(
    "colouring8",
    "colouring, 8 nodes",
    presets.get("coloring", "gram"),
    (*SEVERAL[:3], "conflicts", "selected_conflicts", *CALLED),
)
GRIDS = Column(
    "grids4", "4×4 grids from nothing", presets.get("unconditional", "gram"),
    ("accuracy", "distinct", "network_calls", "seconds", *COST),
)  # fmt: skip
SHORT = {
    "model.width": 64,
    "model.block": 4,
    "objective.steps": 4,
    "objective.window": 4,
    "fit.lr": 2e-3,
    "fit.compile": True,
    "steps": 1600,
}
GRIDS9 = Column(
    "grids9",
    "9×9 grids from nothing",
    presets.get("unconditional", "gram", {"task.side": 9, "fit.evaluations": 0, "fit.compile": True}),
    ("accuracy", "distinct", "unanswered", "network_calls", "seconds", *COST),
    own={"GRAM, deciding": presets.get("unconditional", "9x9", SHORT)},
    systems=("MDLM", "D3PM, uniform", "GRAM", "GRAM, deciding"), teraflop=10,
)  # fmt: skip
PICTURES = {"samples": 1000, "model.supervision": 32, "steps": 32, "fit.lr": 4e-3}
DIGITS = Column(
    "mnist", "binarized MNIST, 1,000 pictures, features of our LeNet on MNIST",
    presets.get("mnist", "quick", PICTURES), ("fid", "inception_score", "network_calls", *COST),
    data="task.root",
)  # fmt: skip
ONE_SOLUTION = ("Direct, 8 layers", "Looped Transformer", "HRM", "TRM", "GRAM", "GRAM, deciding")
EXTREME = Column(
    "sudoku9-extreme",
    "Sudoku-Extreme, 800 rows to train on, 200 others to answer",
    replace(
        presets.get("sudoku", "9x9", {"fit.evaluations": 0, "fit.compile": True}), held_out=200,
        task={"box": (3, 3), "reveal": (0, 40), "mix": 0.3, "clues": (25, 55), "num_validation": 0, "num_test": 200,
              "seed": 0},
    ),
    ("accuracy", "selected_accuracy", "pass_at_n", "unanswered", "selected_wrong", *CALLED),
    data="task.data",
    own={"GRAM, deciding": presets.get(
        "sudoku", "extreme", {"objective.window": 8, "steps": 1024, "fit.compile": True}
    )},
    teraflop=40,
)  # fmt: skip
MAZES = Column(
    "maze30",
    "mazes of 30×30 cells, 1,000 to train on",
    replace(
        presets.get("maze", "quick", {"fit.batch_size": 16, "fit.evaluations": 0}),
        task={"size": (30, 30), "num_validation": 0, "num_test": 100, "labelled": True},
        model={"mixer": Convolution(30, 30), "noise": LearnedNoise(scale=1.0), "registers": 0, "positions": False,
               "supervision": 16},
        held_out=100, samples=8, steps=24,
    ),
    ("accuracy", "exact_match", "selected_accuracy", "pass_at_n", *CALLED),
    data="task.root", systems=("TRM", "GRAM"), teraflop=40,
)  # fmt: skip

UNTIL_CONFIDENT: dict[str, Any] = {"steps": 256, "halt": Confident(0.6), "retry": 16}
LONG_AND_NOISY: dict[str, Any] = {"steps": 128, "temperature": 1.3}
NOISY_FIRST: dict[str, Any] = {"steps": 48, "temperature": Anneal(2.0, 1.0, 48)}
TRAINED_LONG = "GRAM, trained long"


def _laptop(
    task: str, name: str, title: str, settings: Mapping[str, Any], long: Mapping[str, Any], test: Mapping[str, Any],
    long_test: Mapping[str, Any], weights: str, *, held_out: int, teraflop: float, metrics: tuple[str, ...] = SEVERAL,
    as_long: bool = False,
) -> Column:  # fmt: skip
    """A column of equal operations, with two rows beside: GRAM that trains as long as it gains, and the package's.

    Args:
        task: name of the presets.
        name: of the column's folder.
        title: as the table says it.
        settings: of all systems.
        long: what the long training of GRAM has instead.
        test: how GRAM's trajectories are run, if not as the others', for the preset's steps.
        long_test: how those of the long training are run.
        weights: of the package, GRAM that decides.
        held_out: unseen inputs.
        teraflop: of training a run.
        metrics: what the table shows.
        as_long: GRAM's row is the long training too, with the operations of the others.
    """
    sampled = {name: value for name, value in long.items() if name == "fit.scheduled_sampling"}
    shared = presets.get(task, "gram", {"fit.evaluations": 12, "fit.compile": True, **settings})
    longer = presets.get(task, "gram", {"fit.evaluations": 12, "model.width": 96, **long})
    longer = replace(longer, held_out=held_out, **long_test)
    gram = longer if as_long else _every_step(shared.changed(sampled), held_out=held_out, **test)
    return Column(
        name, title, _every_step(shared, held_out=held_out), (*metrics, "operations", *COST),
        packaged={"GRAM, deciding": weights},
        own={"GRAM": gram, TRAINED_LONG: longer},
        systems=("HRM", "TRM", "Autoregressive", "MDLM", "GRAM", TRAINED_LONG, "GRAM, deciding"),
        teraflop=teraflop, budgets={TRAINED_LONG: None, "GRAM, deciding": None},
    )  # fmt: skip


WANDER = {"fit.scheduled_sampling": 0.5}
TEN_NODES = {"task.n": 10, "task.num_train": 13_465, "task.num_test": 192}
TEN_QUEENS = {"task.n": 10, "beta.first": 5.0, "model.supervision": 16}
BY_CELLS = {"task.tokens": "cells", "model.positions": False, "fit.batch_size": 16, "fit.lr": 0.0015}
COLOURS = (*SEVERAL[:3], "conflicts", "selected_conflicts")
LAPTOP = (
    _laptop(
        "queens", "queens8", "8 queens", ROWS | {"steps": 16}, {"fit.updates": 38_000, "fit.lr": 0.0015},
        {}, UNTIL_CONFIDENT, "queens8", held_out=772, teraflop=8.6,
    ),
    _laptop(
        "coloring", "colouring8", "colouring, 8 nodes", {}, WANDER | {"fit.updates": 30_000},
        NOISY_FIRST, NOISY_FIRST, "coloring8", held_out=255, teraflop=8.6, metrics=COLOURS,
    ),
    _laptop(
        "coloring", "colouring10", "colouring, 10 nodes", TEN_NODES, TEN_NODES | WANDER | {"fit.updates": 24_000},
        LONG_AND_NOISY, LONG_AND_NOISY, "coloring10", held_out=192, teraflop=8.6, metrics=COLOURS,
    ),
    replace(
        _laptop(
            "queens", "queens10", "10 queens", ROWS | TEN_QUEENS | {"model.width": 96, "steps": 16},
            TEN_QUEENS | WANDER | {"fit.updates": 30_000, "fit.lr": 0.0015, "fit.compile": True},
            {}, UNTIL_CONFIDENT, "queens10", held_out=500, teraflop=58, as_long=True,
        ),
        changes={"HRM": BY_CELLS, "TRM": BY_CELLS},
    ),
)  # fmt: skip

DETERMINISTIC = ("Direct, 8 layers", "Direct, 32 layers", "Looped Transformer", "HRM", "TRM")
GENERATIVE = ("Autoregressive", "MDLM")
DECISIONS = (
    "GRAM", "GRAM, deciding", "answers read once", "lost rows linger", "with Gaussian guidance", "random order",
    "surest first", "keep head", "without contradiction head", "without own states", "loss at every step",
    "gradient through all steps", "latent carried",
)  # fmt: skip
TRM_AT_TEST_TIME = ("TRM, random z_0", "TRM, sampled decoding", "PTRM")
ABLATIONS = (
    "GRAM", "without hierarchy", "without deep supervision", "without both", "Looped Transformer", "no guidance",
    "noise with mean 0", "mean without noise", "posterior in every transition", "without relations",
    "KL without balance", "KL averaged over elements", "constant beta", "sigma without bound", "scheduled sampling",
)  # fmt: skip

FIGURE = "4"
TABLES: dict[tuple[str, str], Table] = {
    ("1", "cpu"): Table(
        "Several solutions (table 1)", (*DETERMINISTIC, *TRM_AT_TEST_TIME, *GENERATIVE, "GRAM", "GRAM, deciding"),
        (SUDOKU, QUEENS, COLOURING), 1.5,
    ),
    ("1", "laptop"): Table(
        "Several solutions, the paper's protocol (table 1)", (), LAPTOP, None
    ),
    ("2", "cpu"): Table(
        "Pictures from nothing (table 2)", ("no guidance", "VAE", "D3PM, uniform", "GRAM"), (DIGITS,), 15
    ),
    ("3", "cpu"): Table("Ablations (table 3)", ABLATIONS, (SUDOKU, QUEENS), 1.5),
    ("decisions", "cpu"): Table(
        "Decisions: what they are worth, and what of them (ours)", DECISIONS,
        tuple(replace(column, metrics=(*SEVERAL, *CHAINS, *CALLED)) for column in (SUDOKU, QUEENS)),
        1.5,
    ),
    (FIGURE, "cpu"): Table("Depth and width (figure 4)", ("TRM", "GRAM"), (QUEENS,), 1.5),
    ("8", "cpu"): Table("One solution (table 8)", ONE_SOLUTION, (EXTREME, MAZES), None),
    ("9", "cpu"): Table(
        "Boards from nothing (table 9)",
        ("no guidance", "VAE", "Autoregressive", "MDLM", "D3PM, absorbing", "D3PM, uniform",
         "D3PM, uniform, 5 times the size", "GRAM"),
        (GRIDS, GRIDS9), 4,
    ),
}  # fmt: skip


def with_data(column: Column, path: str | None) -> Column:
    """The column with its files there."""
    if column.data is None or path is None:
        return column
    change = {column.data: path}
    own = {system: preset.changed(change) for system, preset in column.own.items()}
    return replace(column, preset=column.preset.changed(change), own=own)
