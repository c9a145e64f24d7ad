"""Milliseconds of an update launch by launch and as a graph, for the cases of :mod:`profile`.

    python benchmarks/gpu/updates.py

One row for each case and way, written as soon as it is done; the same command goes on with the missing ones.
"""

from __future__ import annotations

import sys

sys.path.insert(0, sys.path.pop(0).removesuffix("/gpu"))  # Python has a `profile` and a `queue` of its own

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from itertools import product
from typing import Any

import torch

from gpu.profile import timed, timing, trainer
from gpu.rows import Rows
from gram_ppl.runtime.compilation import compiled
from gram_ppl.runtime.graphs import Repeats
from gram_ppl.training import flops
from gram_ppl.training.graph import UpdateGraph

WAYS = {"graph, compiled": (True, True), "compiled": (False, True), "graph": (True, False), "eager": (False, False)}


def measure(case: str, way: str, tiny: bool, device: torch.device, updates: int, peak: float | None) -> dict[str, Any]:
    """A row; the reason where there is no graph."""
    graph, compile = WAYS[way]
    run = trainer(case, tiny, device)
    if graph:
        backend = device.type == "cuda" or Repeats()
        run.graph = UpdateGraph(run.segment, run.optimizer, run.average, run.settings["clip"], device, backend)
    with compiled(run.segment.model) if compile else nullcontext():
        row = {"warm_up_seconds": timed(run, 6), "ms": 1e3 * timed(run, updates) / updates}
        if run.graph is not None and run.graph.reason:
            return {"reason": run.graph.reason}
        row |= {"tflop": run.flops() / 1e12, "batch": run.settings["batch_size"]}
        return row if peak is None else row | {"utilisation": 1e3 * row["tflop"] / row["ms"] / peak}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing(parser, "updates")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    peak = options.peak or flops.peak(device)
    rows = Rows(options.result, device, peak_tflops=peak)
    for case, way in product(options.cases, options.ways):
        key, measured = f"{case}, {way}", partial(measure, case, way, options.tiny, device, options.updates, peak)
        print(key, rows.row(key, measured), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
