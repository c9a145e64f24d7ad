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
from collections.abc import Container, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import figure_text
import table_text
from table_columns import FIGURE, TABLES, Table, with_data
from table_runs import Run, perform
from table_systems import SYSTEMS
from table_text import Key

ROOT = Path(__file__).resolve().parents[1]
RESULTS, DOCUMENT = ROOT / "benchmarks" / "results", ROOT / "docs" / "results.md"


def runs_of(table: Table, root: Path, seeds: int, teraflop: float | None) -> list[Run]:
    """Every run of a table, seed by seed; those that use another's weights come after it.

    ``teraflop``: of training a run; that of the column or of the table if None.
    """
    trained = {column.name: _trained(table.rows(column)) for column in table.columns}
    systems = sorted(dict.fromkeys(chain(*trained.values())), key=lambda name: SYSTEMS[name].weights is not None)
    return [
        Run(
            root, column.name, column.settings(system), system, seed,
            teraflop or table.budget(column, system), column.packaged.get(system), whole=system in column.own,
        )
        for seed in range(seeds)
        for system in systems
        for column in table.columns
        if system in trained[column.name] and (seed == 0 or system not in column.packaged)
    ]  # fmt: skip


def _trained(systems: Sequence[str]) -> list[str]:
    """Those systems, and those whose weights they use."""
    return [*systems, *(weights for name in systems if (weights := SYSTEMS[name].weights) is not None)]


def carry_out(runs: Sequence[Run], jobs: int, done: Container[Key] = ()) -> list[str]:
    """Perform what isn't finished, ``jobs`` at a time, each on one thread; what failed, a sentence each.

    ``done``: keys of runs that have been made elsewhere. A run that needs the weights of such a run makes them here.
    """
    failed = []
    wanted = [run for run in runs if run.metrics() is None and run.key not in done]
    needed = {(run.column, run.how.weights, run.seed) for run in wanted}
    wanted += [run for run in runs if run.metrics() is None and run.key in done and run.key in needed]
    for first in (True, False):  # first those that train
        pending = [run for run in wanted if (run.how.weights is None) == first]
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

    Of a row that has runs with the budget asked for, written figures of other budgets are dropped. Rows and columns
    without any run are left out.
    """
    parts, records = [f"## {table.title}, {scale} scale\n"], []
    known = table_text.written(results, f"table {number} {scale}")
    known |= {run.key: metrics for run in runs if (metrics := run.metrics()) is not None}
    for column in table.columns:
        found: dict[str, list[dict[str, Any]]] = {}
        for system in table.rows(column):
            budget = {run.teraflop for run in runs if run.key[:2] == (column.name, system)}
            row = [known[key] for key in sorted(known) if key[:2] == (column.name, system)]
            if row:
                found[system] = [metrics for metrics in row if metrics.get("teraflop") in budget] or row
                records += [{"title": column.title, **metrics} for metrics in found[system]]
        if found:
            parts.append(table_text.column(column.title, found, column.metrics))
    text = "\n".join(parts)
    table_text.publish(results, document, f"table {number} {scale}", records, text)
    (results / f"table_{number}_{scale}.md").write_text(text, encoding="utf-8")
    return text


def at_least_one(text: str) -> int:
    """A whole number of an option that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, at least 1, found {text!r}")
    return int(text)


def main() -> None:
    """Run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "table", choices=sorted({number for number, _ in TABLES}), help="number in the paper, 4 is a figure; or ours"
    )
    parser.add_argument("--scale", choices=["cpu", "laptop", "paper"], default="cpu")
    parser.add_argument("--seeds", type=at_least_one, default=1, help="runs of each system, from seed 0")
    parser.add_argument(
        "--teraflop", type=float, help="of training a run, in matrix products; the table's own if not given"
    )
    parser.add_argument("--jobs", type=at_least_one, default=2, help="runs side by side, a thread each")
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
    if wrong := [one for one in args.data if "=" not in one]:
        parser.error(f"--data: expected COLUMN=PATH, found {wrong[0]!r}")
    files = dict(one.partition("=")[::2] for one in args.data)
    if unknown := files.keys() - {column.name for column in table.columns if column.data}:
        parser.error(f"--data: no column {unknown.pop()!r} of this table has files")
    table = replace(table, columns=tuple(with_data(column, files.get(column.name)) for column in table.columns))
    runs = runs_of(table, args.out / args.scale, args.seeds, args.teraflop)
    for kind, asked, known in (
        ("system", args.system, list(dict.fromkeys(run.system for run in runs))),
        ("column", args.column, [column.name for column in table.columns]),
    ):
        if unknown := set(asked or ()) - set(known):
            parser.error(f"there is no {kind} {unknown.pop()!r} in this table: expected one of {', '.join(known)}")
    chosen = [run for run in runs if run.system in (args.system or [run.system])]
    chosen = [run for run in chosen if run.column in (args.column or [run.column])]
    records = {} if args.again else table_text.written(args.results, f"table {args.table} {args.scale}")
    budgets = {run.key: run.teraflop for run in runs}
    done = {key for key, record in records.items() if key in budgets and record.get("teraflop") == budgets[key]}
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
