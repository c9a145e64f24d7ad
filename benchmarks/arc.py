"""ARC-AGI on a laptop: a model of its own for each small evaluation task, from nothing but its demonstration pairs.

    python benchmarks/arc.py --data FOLDER

The folder holds the public set. Of the evaluation tasks those count whose grids, answers too, are at most 10×10. TRM
and GRAM train on the pairs of one task under 15 augmentations, with as many operations each; the test inputs are
answered in all versions, and the two most frequent grids stand (pass@2). All canvases are as large as a grid may be, so
that no answer is hinted at, and the compiled network is the same for all. Each task is a run in a folder: what is
finished is not run again, and what was interrupted goes on. Tasks whose figures stand in ``benchmarks/results/``
already count as finished, so that a long night can be several; ``--again`` runs them. Figures of other operations or
sizes of grids need a folder of their own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from table_runs import Run
from table_text import markdown, publish, written
from tables import DOCUMENT, RESULTS, ROOT, at_least_one, carry_out

import gram_ppl as gp
from gram_ppl import presets

SYSTEMS = ("TRM", "GRAM")
FAST = {"model.transitions": 1, "model.low_steps": 1, "fit.lr": 4e-3, "fit.compile": True}  # many cheap updates
MEANS = ("pass_at_1", "pass_at_2", "parameters", "updates", "train_seconds")  # over tasks
KEPT = ("column", "system", "seed", *MEANS, "inputs", "inputs_pass_at_2", "commit", "device")


def runs_of(data: Path, largest: int, root: Path, teraflop: float) -> list[Run]:
    """A run for each task and system, in a folder of their length and size."""
    root = root / f"{teraflop:g}-{largest}"
    small = gp.tasks.ARC(1, data, largest=largest)
    names = dict.fromkeys(question.task for question in small.questions("test"))
    shared = {"task.root": str(data), "task.canvas": largest, **FAST}
    settings = {name: presets.get("arc", "quick", shared | {"task.only": [name]}) for name in names}
    return [Run(root, name, settings[name], system, 0, teraflop) for name in names for system in SYSTEMS]


def table(records: Sequence[dict[str, Any]], small: int) -> str:
    """A row for each system: shares of the tasks' test inputs, averaged over those of the ``small`` tasks that ran."""
    header = ("", "tasks", "pass@1", "pass@2", "parameters", "updates a task", "training a task, s")
    lines = []
    for system in SYSTEMS:
        if found := [one for one in records if one["system"] == system]:
            means = [mean(one[key] for one in found) for key in MEANS]
            figures = [f"{one:.3f}" for one in means[:2]] + [f"{one:,.0f}" for one in means[2:]]
            lines.append([system, f"{len(found)} of {small}", *figures])
    return markdown(header, lines)


def main() -> None:
    """Run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public set")
    parser.add_argument("--largest", type=at_least_one, default=10, help="rows or columns of a grid, at most")
    parser.add_argument("--teraflop", type=float, default=2.0, help="of training a task, in matrix products")
    parser.add_argument("--tasks", type=int, help="only so many, the first by name")
    parser.add_argument("--jobs", type=at_least_one, default=2, help="runs side by side, a thread each")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "arc", help="folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    parser.add_argument("--again", action="store_true", help="also what has been written into the results already")
    given = parser.parse_args()
    shared = {"teraflop": given.teraflop, "largest": given.largest}
    known = written(given.results, "arc")
    if any(record[name] != value for record in known.values() for name, value in shared.items()):
        parser.error(f"{given.results} has figures of other operations or grids; name another --results and --document")
    try:
        runs = runs_of(given.data, given.largest, given.out, given.teraflop)
    except (OSError, ValueError) as error:
        parser.error(f"--data: {error}")
    chosen = runs[: None if given.tasks is None else given.tasks * len(SYSTEMS)]
    failed = carry_out(chosen, given.jobs, () if given.again else known)
    made = {run.key: shared | {name: metrics[name] for name in KEPT} for run in runs if (metrics := run.metrics())}
    records = list((known | made).values())
    text = table(records, len(runs) // len(SYSTEMS))
    if records:
        publish(given.results, given.document, "arc", records, text)
    print(text)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
