"""Where the time of an update goes: its seconds, utilisation, costliest kernels and the share in which nothing runs.

    python benchmarks/gpu/profile.py

One row for each case and setting, written as soon as it is done; the same command goes on with the missing ones. An
update is ``Trainer.step``, data included. Flops are those of a segment by torch's flop counter (products of forward and
backward, no recomputation); utilisation is flops ÷ time ÷ the card's dense bf16 peak. Kernels are torch.profiler's; on
a CPU they are its operators, and the idle share is that of the profiled updates, which the profiler slows down.
"""

from __future__ import annotations

import sys

sys.path.insert(0, sys.path.pop(0).removesuffix("/gpu"))  # Python has a `profile` and a `queue` of its own

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gpu.rows import Rows, add_options
from gram_ppl import presets
from gram_ppl.runtime.compilation import compiled
from gram_ppl.training import flops
from gram_ppl.training.trainer import Trainer

SETTINGS: dict[str, Callable[[nn.Module], AbstractContextManager[Any]]] = {
    "compiled": compiled,
    "eager": lambda model: nullcontext(),
}
# Task, preset, settings: the paper's size; where launches are what costs; decisions.
SMALL = {
    "task.box": [3, 3], "task.clues": [24, 45], "task.held_clues": [40, 40], "task.num_validation": 1,
    "task.num_test": 1, "task.pool": 20, "model.width": 128, "model.low_steps": 4, "fit.batch_size": 256,
}  # fmt: skip
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "8 queens, paper": ("queens", "paper", {}),
    "9x9, D = 128, B = 256": ("sudoku", "gram", SMALL),
    "10 queens, deciding": ("queens", "gpu", {}),
}
TINY = {"model.width": 16, "model.hidden": 16, "fit.batch_size": 16, "model.layers": 1}


def trainer(case: str, tiny: bool, device: torch.device) -> Trainer:
    """The run of a case, no evaluations."""
    task, name, changes = CASES[case]
    parts = presets.build(presets.get(task, name, changes | (TINY if tiny else {})), seed=0)
    settings = {
        "updates": 1_000_000, "batch_size": 64, "seed": 0, "lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.95],
        "clip": 1.0, "warmup": 50, "decay": 0.3, "final": 0.05, "ema": 0.999, "evaluate_steps": None,
    } | parts.fit | {"evaluations": 0, "evaluate_on": 0}  # fmt: skip
    return Trainer(parts.model, parts.guide, parts.task, parts.objective, settings, device)


def timed(run: Trainer, updates: int) -> float:
    """Seconds of some updates."""
    start = time.perf_counter()
    for _ in range(updates):
        run.step()
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    return time.perf_counter() - start


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of what intervals cover."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(intervals):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def measure(
    case: str, setting: str, tiny: bool, device: torch.device, updates: int, peak: float | None
) -> dict[str, Any]:
    """A row: time and utilisation of an update, and what its kernels are."""
    run = trainer(case, tiny, device)
    run.step()
    cuda = run.device.type == "cuda"
    row: dict[str, Any] = {"batch": run.settings["batch_size"], "tflop": run.flops() / 1e12}
    with SETTINGS[setting](run.segment.model):
        row["warm_up_seconds"] = timed(run, 5)
        if cuda:
            torch.cuda.reset_peak_memory_stats(run.device)
        row["seconds"] = timed(run, updates) / updates
        few = min(updates, 5)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        with profile(activities=activities) as profiler:
            wall = timed(run, few)
    if cuda:
        row["peak_gb"] = torch.cuda.max_memory_allocated(run.device) / 1e9
        wall = few * row["seconds"]  # kernels take what they take; the profiler only delays their launches
    where = DeviceType.CUDA if cuda else DeviceType.CPU
    events = [event for event in profiler.events() if event.device_type == where]
    busy = union((event.time_range.start, event.time_range.end) for event in events) / 1e6
    costs: dict[str, list[float]] = {}
    for event in events:
        own = event.time_range.elapsed_us() if cuda else event.self_cpu_time_total
        costs.setdefault(event.name[:80], []).append(own / 1e6)
    costliest = sorted(costs.items(), key=lambda item: -sum(item[1]))[:10]
    row["idle_share"] = max(0.0, 1 - busy / wall)
    row["kernels_an_update"] = len(events) / few
    row["costliest"] = [
        {"kernel": name, "calls": len(each) / few, "ms": 1e3 * sum(each) / few, "share": sum(each) / busy}
        for name, each in costliest
    ]
    row["examples_per_second"] = row["batch"] / row["seconds"]
    if peak is not None:
        row["utilisation"] = row["tflop"] / row["seconds"] / peak
    return row


def show(row: dict[str, Any]) -> None:
    """A row for the terminal."""
    share = f", {row['utilisation']:.1%} of the peak" if "utilisation" in row else ""
    print(f"  {1e3 * row['seconds']:.2f} ms an update{share}, idle {row['idle_share']:.1%}")
    for cost in row["costliest"]:
        print(f"  {cost['ms']:9.3f} ms {cost['share']:6.1%} {cost['calls']:6.0f} x {cost['kernel']}")


def timing(parser: argparse.ArgumentParser, name: str) -> None:
    """The options of a script that times updates of the cases."""
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--updates", type=int, default=30, help="timed; six before them are not")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the card, where its name isn't known")
    add_options(parser, name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    timing(parser, "profile")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    peak = options.peak or flops.peak(device)
    rows = Rows(options.result, device, peak_tflops=peak)
    for case, setting in product(options.cases, options.settings):
        key = f"{case}, {setting}"
        print(key, flush=True)
        show(rows.row(key, partial(measure, case, setting, options.tiny, device, options.updates, peak)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
