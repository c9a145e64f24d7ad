"""Memory of training against N_sup, the supervision steps of a trajectory: it should not grow.

    python benchmarks/memory.py

Each N_sup is a process of its own: a few updates of ``Trainer.step`` at the same batch size. On the CPU two figures:
the most that torch's allocator held at once during an update, from the profiler's record of every allocation, and the
largest resident set of the process. On CUDA the first is ``torch.cuda.max_memory_allocated``, the second is absent.
That the measurement can see growth is shown beside it: without the gradient window, training through all N_sup steps
at once (``SegmentELBO(window=False, steps=N_sup)``), at the two smallest N_sup. And what a wider window takes: the
gradient of the last k of 16 supervision steps, with a score after each (``window=k, every_step=True``).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

import gram_ppl as gp
from gram_ppl.training.trainer import Trainer

SUPERVISION = (1, 4, 16, 64)
BATCH = 64
WINDOWS, SEGMENT = (1, 2, 4, 8, 16), 16


def run(
    supervision: int, width: int, device: torch.device, through: bool, updates: int = 3, window: int | None = None
) -> dict[str, float]:
    """Peak memory of an update in MB, after some to warm up.

    Args:
        supervision: N_sup.
        width: D.
        device: where.
        through: train through all N_sup supervision steps at once, without the gradient window.
        updates: how many to look at.
        window: the objective's, with a score after each step; N_sup steps are a segment then.
    """
    task = gp.tasks.Sudoku((2, 4), (16, 32), num_validation=1, num_test=1, pool=20)
    mixer = gp.nn.Attention(heads=4)
    model = gp.models.GRAM(task.spec, width=width, low_steps=2, transitions=2, supervision=supervision, mixer=mixer)
    settings = {
        "updates": 1000, "batch_size": BATCH, "seed": 0, "lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.95],
        "clip": 1.0, "warmup": 1, "decay": 0.0, "final": 1.0, "ema": 0.999, "evaluations": 0, "evaluate_on": 0,
        "evaluate_steps": None,
    }  # fmt: skip
    objective = gp.SegmentELBO(1.0, window=not through, steps=supervision if through else 1)
    if window is not None:
        objective = gp.SegmentELBO(1.0, window=window, every_step=True, steps=supervision)
    trainer = Trainer(model, gp.guides.AmortizedGuide(model), task, objective, settings, device)
    for _ in range(3):
        trainer.step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        for _ in range(updates):
            trainer.step()
        return {"allocated": torch.cuda.max_memory_allocated(device) / 1e6}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        for _ in range(updates):
            trainer.step()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"allocated": _standing(trainer) + _peak(profiler), "resident": rss}


def _peak(profiler: Any) -> float:
    """MB that the allocations of a profile stood above their start, at most."""
    held = most = 0
    events = (event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]")
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 1e6


def _standing(trainer: Trainer) -> float:
    """MB of what is there all the time: weights, their average, the optimiser's moments, the rows in flight."""
    assert trainer.rows.carry is not None
    tensors = [*trainer.segment.state_dict().values(), *trainer.average.state_dict().values()]
    tensors += [value for state in trainer.optimizer.state.values() for value in state.values()]
    tensors += [trainer.rows.carry.x, trainer.rows.carry.y, *trainer.rows.carry.latent.parts, trainer.rows.carry.age]
    return sum(tensor.nbytes for tensor in tensors) / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Peak memory of training against the number of supervision steps.")
    parser.add_argument("--supervision", nargs="+", type=int, default=list(SUPERVISION), help="N_sup; divides 64")
    parser.add_argument("--width", type=int, default=64, help="D")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--one", choices=("segment", "through", "window"), help="measure one number in this process, print JSON"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "memory.json")
    options = parser.parse_args(arguments)
    if options.one:
        torch.set_num_threads(1)
        number, device = options.supervision[0], torch.device(options.device)
        if options.one == "window":
            found = run(SEGMENT, options.width, device, False, window=number)
        else:
            found = run(number, options.width, device, options.one == "through")
        print(json.dumps(found))
        return
    numbers = sorted(options.supervision)
    document: dict[str, Any] = {"width": options.width, "batch": BATCH, "device": options.device}
    document |= {"torch": torch.__version__, "segment": {}, "through": {}, "window": {}}
    table = Table("training", "N_sup or k", "allocated, MB", "÷ smallest", "resident, MB", "÷ smallest")
    for kind, asked in (("segment", numbers), ("through", numbers[:2]), ("window", WINDOWS)):
        for number in asked:
            command = [sys.executable, __file__, "--one", kind, "--supervision", str(number)]
            command += ["--width", str(options.width), "--device", options.device]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found = document[kind][number] = json.loads(printed.splitlines()[-1])
            first = document[kind][asked[0]]
            cells = [text for key in found for text in (f"{found[key]:.1f}", f"{found[key] / first[key]:.3f}")]
            table.add_row(kind, str(number), *cells)
    Console().print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
