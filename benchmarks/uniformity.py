"""Whether samples follow the posterior, system by system: of an input with several solutions it is uniform over them.

    python benchmarks/uniformity.py

Takes the trained runs of table 1 at the cpu scale, and makes those that are missing. Each input is one test: χ² of its
answers that hold against even draws. Of an ideal sampler 1 % are rejected at the level of 1 %; how far that strays by
chance shows the row of an ideal sampler that draws as many answers. An input to which no answer holds is rejected.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from table_columns import TABLES
from table_runs import Run, rolled_out
from table_text import markdown, publish
from tables import DOCUMENT, RESULTS, ROOT, at_least_one, carry_out, runs_of

import gram_ppl as gp
from gram_ppl.evaluation.uniformity import even, over_inputs
from gram_ppl.reporting.pictures import draw_uniformity

IDEAL = "ideal sampler"
DRAWN = (IDEAL, "Autoregressive", "MDLM", "GRAM", "GRAM, deciding")  # those that are trained to sample


def tested(run: Run, samples: int, inputs: int) -> dict[str, Any]:
    """The uniformity of a trained run on test inputs, on one thread."""
    torch.set_num_threads(1)
    task = run.task()
    model, _, _ = gp.load(run.weights, task=task)
    options = rolled_out(run.preset, run.how, task) | {"num_samples": samples}
    return gp.uniformity(model, task, task.inputs("test")[:inputs], **options, seed=run.seed)


def ideal(run: Run, samples: int, inputs: int, most: int = 50, draws: int = 999) -> dict[str, Any]:
    """Even draws from the solutions of the same inputs."""
    task = run.task()
    sizes = [len(task.first_solutions(x, most + 1)) for x in task.inputs("test")[:inputs]]
    sizes = [size for size in sizes if 2 <= size <= most]
    generator = torch.Generator().manual_seed(run.seed)
    drawn = (torch.randint(size, (samples,), generator=generator).bincount(minlength=size) for size in sizes)
    judged = [even(counts, draws, generator) for counts in drawn]
    return {"num_samples": samples, "accuracy": 1.0, "unsolved": 0.0} | over_inputs(judged)


def table(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """A row for each system and task."""
    header = ("", "", "inputs", "answers each", "that hold", "none holds", "rejected at 1 %", "χ² ÷ its expectation")
    rows = [
        [title, system, f"{one['inputs']}", f"{one['num_samples']}", f"{one['accuracy']:.3f}", f"{one['unsolved']:.3f}",
         f"{one['rejected']:.3f}", "" if one["excess"] is None else f"{one['excess']:.2f}"]
        for title, systems in found.items() for system, one in systems.items()
    ]  # fmt: skip
    return markdown(header, rows)


def main() -> None:
    """All systems on all tasks."""
    whole = TABLES["1", "cpu"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=at_least_one, default=100, help="answers to each input")
    parser.add_argument("--inputs", type=at_least_one, default=200, help="of the test; 2 to 50 solutions count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teraflop", type=float, help="of training a run; table 1's if not given")
    names = [column.name for column in whole.columns]
    parser.add_argument("--column", action="append", choices=names, help="only this task; repeat")
    parser.add_argument("--jobs", type=at_least_one, default=2, help="runs side by side, a thread each")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "tables" / "cpu", help="folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    given = parser.parse_args()
    columns = [column for column in whole.columns if not given.column or column.name in given.column]
    runs = runs_of(replace(whole, columns=tuple(columns)), given.runs, given.seed + 1, given.teraflop)
    runs = [run for run in runs if run.seed == given.seed]
    if failed := carry_out(runs, given.jobs):
        sys.exit("\n".join(failed))
    judged: dict[tuple[str, str], dict[str, Any]] = {}
    with ProcessPoolExecutor(max_workers=given.jobs, mp_context=get_context("spawn")) as pool:
        test = partial(tested, samples=given.samples, inputs=given.inputs)
        for run, one in zip(runs, pool.map(test, runs), strict=True):
            judged[run.column, run.system] = one
            print(run.column, run.system, {key: one[key] for key in one if key != "p_values"}, flush=True)
    path = given.results / "uniformity.json"
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(path.read_text()) if path.exists() else {}
    for column in columns:
        first = next(run for run in runs if run.column == column.name)
        systems = {IDEAL: ideal(first, given.samples, given.inputs)}
        systems |= {name: judged[column.name, name] for name in whole.rows(column)}
        found[column.title] = systems
    publish(given.results, given.document, "uniformity", found, table(found))
    for column in columns:
        drawn = {name: found[column.title][name] for name in DRAWN if name in found[column.title]}
        draw_uniformity(drawn, given.document.parent / f"uniformity_{column.name}.png")


if __name__ == "__main__":
    main()
