"""Milliseconds of an update launch by launch and as a graph, for the cases of :mod:`profile`.

    python benchmarks/gpu/updates.py

One row for each case and way, written as soon as it is done; the same command goes on with the missing ones.
"""

from __future__ import annotations

import sys

sys.path.insert(0, sys.path.pop(0).removesuffix("/gpu"))  # Python has a `profile` and a `queue` of its own

import argparse
import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from gpu.profile import CASES, RESULTS, timed, trainer

from gram_ppl.runtime.compilation import compiled
from gram_ppl.runtime.graphs import Repeats
from gram_ppl.training import flops
from gram_ppl.training.graph import UpdateGraph

WAYS = {"graph, compiled": (True, True), "compiled": (False, True), "graph": (True, False), "eager": (False, False)}


def measure(case: str, way: str, tiny: bool, device: torch.device, updates: int) -> dict[str, Any]:
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
        return row | {"tflop": run.flops() / 1e12, "batch": run.settings["batch_size"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--updates", type=int, default=30, help="timed; six before them are not")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the card, where its name isn't known")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="small enough for seconds on a CPU")
    parser.add_argument("--result", type=Path, default=RESULTS / "updates.json")
    options = parser.parse_args(arguments)
    device, path = torch.device(options.device), options.result
    peak = options.peak or flops.peak(device)
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    document |= {"torch": torch.__version__, "peak_tflops": peak}
    document["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    for case in options.cases:
        for way in options.ways:
            key = f"{case}, {way}"
            if key not in document["rows"]:
                row = document["rows"][key] = measure(case, way, options.tiny, device, options.updates)
                if peak is not None and "ms" in row:
                    row["utilisation"] = 1e3 * row["tflop"] / row["ms"] / peak
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(document, indent=1) + "\n")
            print(key, document["rows"][key], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
