"""Rollouts launch by launch and as graphs: seconds of the same trajectories.

    python benchmarks/gpu/rollouts.py

Untrained models of 9×9 Sudoku, width 128; GRAM runs 64 supervision steps, GRAM that decides until its budget is spent.
Rows are written as they are done, and the same command goes on.
"""

from __future__ import annotations

import sys

sys.path.insert(0, sys.path.pop(0).removesuffix("/gpu"))  # Python has a `profile` and a `queue` of its own

import argparse
import time
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import torch

import gram_ppl as gp
from gpu.rows import Rows, add_options
from gram_ppl.runtime.graphs import Repeats


def measure(model: Any, x: torch.Tensor, count: int, steps: int, device: torch.device) -> dict[str, Any]:
    """A row: seconds with and without graphs, and the share of equal tokens."""
    found: dict[str, Any] = {}
    tokens = []
    for way, graph in {"launches": False, "graph": device.type == "cuda" or Repeats()}.items():
        given = {"num_samples": max(1, count // len(x)), "steps": steps, "seed": 0, "graph": graph}
        gp.rollout(model, x, **given | {"steps": min(4, steps)})  # sets up the libraries
        start = time.perf_counter()
        tokens.append(gp.rollout(model, x, **given).tokens.cpu())
        found[f"seconds by {way}"] = time.perf_counter() - start
    found["same_tokens"] = float((tokens[0] == tokens[1]).float().mean())
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Seconds of a rollout, with and without graphs.")
    parser.add_argument("--rows", type=int, nargs="+", default=[100, 2000], help="trajectories in a batch")
    parser.add_argument("--steps", type=int, default=64)
    add_options(parser, "rollouts")
    options = parser.parse_args(arguments)
    device, tiny = torch.device(options.device), options.tiny
    rows, steps, width = ([4], 4, 16) if tiny else (options.rows, options.steps, 128)
    box, clues = ((2, 2), (4, 8)) if tiny else ((3, 3), (25, 55))
    task = gp.tasks.Sudoku(box, clues, num_validation=0, num_test=2 if tiny else 20, pool=20)
    size: dict[str, Any] = {"width": width, "low_steps": 4, "positions": False, "mixer": gp.nn.Attention(4)}
    models = {
        "GRAM": gp.models.GRAM(task.spec, **size, transitions=2),
        "deciding": gp.models.Deciding(task.spec, **size, transitions=1, block=2, supervision=4),
    }
    written = Rows(options.result, device, steps=steps, width=width)
    x = task.inputs("test").to(device)
    for (name, model), count in product(models.items(), rows):
        model.to(device)
        key = f"{name}, {count} trajectories"
        print(key, written.row(key, partial(measure, model, x, count, steps, device)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
