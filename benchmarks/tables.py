"""The tables of the paper under one protocol: every system on the same tasks, loop, verifiers, metrics and budget.

    python benchmarks/tables.py 1 --scale cpu --seeds 3
    python benchmarks/tables.py 1 --scale laptop
    python benchmarks/tables.py 2 --data mnist=FOLDER

Each run is a folder with config, commit, device, checkpoint and metrics, below ``--out``; what is finished is not run
again, and what was interrupted goes on. The table is made from the folders, into ``benchmarks/results/`` and into
``docs/results.md``. Runs whose figures stand in ``benchmarks/results/`` already, made elsewhere with the same budget,
count as finished; ``--again`` runs them here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import figure_text
import table_text
from table_runs import Run, perform
from table_systems import SYSTEMS
from table_text import Key

from gram_ppl import presets
from gram_ppl.inference.halt import Confident, Never
from gram_ppl.presets.preset import Preset
from gram_ppl.program.poutine import Anneal

ROOT = Path(__file__).resolve().parents[1]
RESULTS, DOCUMENT = ROOT / "benchmarks" / "results", ROOT / "docs" / "results.md"


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
    """

    name: str
    title: str
    preset: Preset
    metrics: tuple[str, ...]
    packaged: Mapping[str, str] = field(default_factory=dict)
    data: str | None = None


@dataclass(frozen=True)
class Table:
    """Rows and columns of one table at one scale; ``teraflop`` of training a run, None for the presets' updates."""

    title: str
    systems: tuple[str, ...]
    columns: tuple[Column, ...]
    teraflop: float | None


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
DIGITS = Column(
    "mnist", "binarized MNIST, 1,000 pictures, features of our LeNet on MNIST",
    presets.get("mnist", "quick", {"samples": 1000}), ("fid", "inception_score", "network_calls", *COST),
    data="task.root",
)  # fmt: skip
UNIQUE = Column(
    "sudoku6", "6×6 Sudoku, one solution",
    _every_step(presets.get("sudoku", "gram", {"task.box": [2, 3], "task.clues": [12, 24], "task.held_clues": [14, 14],
                                              "task.unique": True}), held_out=200, steps=16),
    ("accuracy", "selected_accuracy", "pass_at_n", *COST),
)  # fmt: skip

UNTIL_CONFIDENT: dict[str, Any] = {"steps": 256, "halt": Confident(0.6), "retry": 16}
LONG_AND_NOISY: dict[str, Any] = {"steps": 128, "temperature": 1.3}
NOISY_FIRST: dict[str, Any] = {"steps": 48, "temperature": Anneal(2.0, 1.0, 48)}
LONG = {"model.width": 96, "fit.evaluations": 12}
LAPTOP = tuple(
    Column(
        name, title, replace(presets.get(task, "gram", LONG | changes), held_out=held_out, **test), metrics,
        {"GRAM, deciding": weights},
    )
    for name, weights, title, task, changes, held_out, test, metrics in (
        ("queens8", "queens8", "8 queens", "queens", {"fit.updates": 38_000, "fit.lr": 0.0015}, 772, UNTIL_CONFIDENT,
         SEVERAL + COST),
        ("colouring8", "coloring8", "colouring, 8 nodes", "coloring",
         {"fit.updates": 30_000, "fit.scheduled_sampling": 0.5}, 255, NOISY_FIRST,
         (*SEVERAL[:3], "conflicts", "selected_conflicts", *COST)),
        ("colouring10", "coloring10", "colouring, 10 nodes", "coloring",
         {"fit.updates": 24_000, "fit.scheduled_sampling": 0.5, "task.n": 10, "task.num_train": 13_465,
          "task.num_test": 192}, 192, LONG_AND_NOISY,
         (*SEVERAL[:3], "conflicts", "selected_conflicts", *COST)),
        ("queens10", "queens10", "10 queens", "queens",
         {"fit.updates": 30_000, "fit.lr": 0.0015, "fit.compile": True, "fit.scheduled_sampling": 0.5,
          "beta.first": 5.0, "model.supervision": 16, "task.n": 10}, 500,
         UNTIL_CONFIDENT, SEVERAL + COST),
    )
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
        "Several solutions, the paper's protocol (table 1)", ("GRAM", "GRAM, deciding"), LAPTOP, None
    ),
    ("2", "cpu"): Table(
        "Pictures from nothing (table 2)", ("no guidance", "VAE", "MDLM", "D3PM, uniform", "GRAM"), (DIGITS,), 5
    ),
    ("3", "cpu"): Table("Ablations (table 3)", ABLATIONS, (SUDOKU, QUEENS), 1.5),
    ("decisions", "cpu"): Table(
        "Decisions: what they are worth, and what of them (ours)", DECISIONS,
        tuple(replace(column, metrics=(*SEVERAL, *CHAINS, *CALLED)) for column in (SUDOKU, QUEENS)),
        1.5,
    ),
    (FIGURE, "cpu"): Table("Depth and width (figure 4)", ("TRM", "GRAM"), (QUEENS,), 1.5),
    ("8", "cpu"): Table("One solution (table 8)", (*DETERMINISTIC, *TRM_AT_TEST_TIME, "GRAM"), (UNIQUE,), 4),
    ("9", "cpu"): Table(
        "Boards from nothing (table 9)",
        ("no guidance", "VAE", "Autoregressive", "MDLM", "D3PM, absorbing", "D3PM, uniform",
         "D3PM, uniform, 5 times the size", "GRAM"),
        (GRIDS,), 4,
    ),
}  # fmt: skip


def with_data(column: Column, path: str | None) -> Column:
    """The column with its files there."""
    if column.data is None or path is None:
        return column
    return replace(column, preset=column.preset.changed({column.data: path}))


def runs_of(table: Table, root: Path, seeds: int, teraflop: float | None) -> list[Run]:
    """Every run of a table, seed by seed; those that use another's weights come after it."""
    names = [*table.systems, *(SYSTEMS[name].weights for name in table.systems)]
    systems = [name for name in dict.fromkeys(names) if name is not None]
    systems.sort(key=lambda name: SYSTEMS[name].weights is not None)
    return [
        Run(root, column.name, column.preset, system, seed, teraflop, column.packaged.get(system))
        for seed in range(seeds)
        for system in systems
        for column in table.columns
        if seed == 0 or system not in column.packaged
    ]


def carry_out(runs: Sequence[Run], jobs: int, done: Container[Key] = ()) -> list[str]:
    """Perform what isn't finished, ``jobs`` at a time, each on one thread; what failed, a sentence each.

    ``done``: keys of runs that have been made elsewhere. A run that needs the weights of such a run makes them here.
    """
    failed = []
    wanted = [run for run in runs if run.metrics() is None and run.key not in done]
    needed = {(run.column, SYSTEMS[run.system].weights, run.seed) for run in wanted}
    wanted += [run for run in runs if run.metrics() is None and run.key in done and run.key in needed]
    for first in (True, False):  # first those that train
        pending = [run for run in wanted if (SYSTEMS[run.system].weights is None) == first]
        with ProcessPoolExecutor(max_workers=jobs, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(perform, run): run for run in pending}
            for count, future in enumerate(as_completed(futures), start=1):
                run, error = futures[future], future.exception()
                state = "done" if error is None else f"failed: {error}"
                print(f"{count} of {len(pending)}: {run.folder.relative_to(run.root)} {state}", flush=True)
                failed += [] if error is None else [f"{run.folder}: {error}"]
    return failed


def write(number: str, scale: str, table: Table, runs: Sequence[Run], results: Path, document: Path) -> str:
    """The table as Markdown and JSON, from the folders of the finished runs and from what was written before.

    Of a row that has runs with the budget asked for, written figures of other budgets are dropped.
    """
    parts, records, budget = [f"## {table.title}, {scale} scale\n"], [], {run.teraflop for run in runs}
    known = table_text.written(results, f"table {number} {scale}")
    known |= {run.key: metrics for run in runs if (metrics := run.metrics()) is not None}
    for column in table.columns:
        found: dict[str, list[dict[str, Any]]] = {}
        for system in table.systems:
            row = [known[key] for key in sorted(known) if key[:2] == (column.name, system)]
            found[system] = [metrics for metrics in row if metrics.get("teraflop") in budget] or row
            records += [{"title": column.title, **metrics} for metrics in found[system]]
        parts.append(table_text.column(column.title, found, column.metrics))
    text = "\n".join(parts)
    table_text.publish(results, document, f"table {number} {scale}", records, text)
    (results / f"table_{number}_{scale}.md").write_text(text, encoding="utf-8")
    return text


def main() -> None:
    """Run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "table", choices=sorted({number for number, _ in TABLES}), help="number in the paper, 4 is a figure; or ours"
    )
    parser.add_argument("--scale", choices=["cpu", "laptop", "paper"], default="cpu")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each system, from seed 0")
    parser.add_argument(
        "--teraflop", type=float, help="of training a run, in matrix products; the table's own if not given"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, a thread each")
    parser.add_argument("--system", action="append", help="only this row; repeat")
    parser.add_argument("--column", action="append", help="only this column, by the name of its folder; repeat")
    parser.add_argument(
        "--data", action="append", default=[], metavar="COLUMN=PATH", help="files of a column of real data; repeat"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "tables", help="folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the tables")
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="file that shows them")
    parser.add_argument("--again", action="store_true", help="also what has been written into the results already")
    parser.add_argument("--collect", action="store_true", help="run nothing, make the table of what is there")
    args = parser.parse_args()
    table = TABLES.get((args.table, args.scale))
    if table is None:
        parser.error(f"there is no table {args.table} at the scale {args.scale}")
    for kind, asked, known in (
        ("system", args.system, table.systems),
        ("column", args.column, [column.name for column in table.columns]),
    ):
        if unknown := set(asked or ()) - set(known):
            parser.error(f"there is no {kind} {unknown.pop()!r} in this table: expected one of {', '.join(known)}")
    teraflop = args.teraflop or table.teraflop
    files = dict(one.partition("=")[::2] for one in args.data)
    if unknown := files.keys() - {column.name for column in table.columns if column.data}:
        parser.error(f"--data: no column {unknown.pop()!r} of this table has files")
    table = replace(table, columns=tuple(with_data(column, files.get(column.name)) for column in table.columns))
    runs = runs_of(table, args.out / args.scale, args.seeds, teraflop)
    chosen = [run for run in runs if run.system in (args.system or [run.system])]
    chosen = [run for run in chosen if run.column in (args.column or [run.column])]
    records = {} if args.again else table_text.written(args.results, f"table {args.table} {args.scale}")
    done = {key for key, record in records.items() if record.get("teraflop") == teraflop}
    missing = {column.name for column in table.columns if column.data} - files.keys()
    for run in () if args.collect else chosen:
        if run.column in missing and run.key not in done and run.metrics() is None:
            parser.error(f"--data {run.column}=PATH must say where its files are")
    failed = [] if args.collect else carry_out(chosen, args.jobs, done)
    if args.table == FIGURE:
        print(figure_text.write(args.scale, table, runs, args.results, args.document))
    else:
        print(write(args.table, args.scale, table, runs, args.results, args.document))
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
