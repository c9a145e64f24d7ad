"""Examples a second on one process and on several, of training and of rollouts.

    python benchmarks/scaling.py                        # 1 and 2 processes, gloo on the CPU or NCCL on CUDA
    python benchmarks/scaling.py --processes 1 8

An example is one row in one supervision step. The joint batch is the same on any number of processes, which do the same
run ("strong scaling"): the best that W of them can do is W times the examples. Every round starts torchrun once for
each number of processes, in changing order; the first fifth of a run is not counted. Ratios are those of a round.
On a busy machine ``--clock cpu`` counts the processor time of the main process, which leaves out waiting for the
processor, and for the other processes too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import gram_ppl as gp
from gram_ppl.runtime.precision import use_bf16
from gram_ppl.runtime.processes import Shares

KINDS = ("training", "rollouts")


class Marks:
    """A tracker that writes down when it was told of an update."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.times: dict[int, float] = {}

    def log(self, values: dict[str, float], step: int) -> None:
        """See :class:`gram_ppl.tracking.Tracker`."""
        self.times[step] = self.now()


def work(options: argparse.Namespace) -> None:
    """What each process does: a run and an evaluation; the main one writes examples a second."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    task = gp.tasks.Sudoku((2, 4), (16, 32), num_validation=1, num_test=options.puzzles, pool=20)
    model = gp.models.GRAM(task.spec, width=options.width, low_steps=4, transitions=3, registers=0)
    settings: Any = {"updates": options.updates, "batch_size": options.batch_size, "evaluations": 0, "progress": False}
    now = time.perf_counter if options.clock == "wall" else time.process_time
    marks = Marks(now)
    gp.fit(model, gp.guides.AmortizedGuide(model), task, accumulate=options.accumulate, tracker=marks, **settings)
    shares, x = Shares(1, device), task.inputs("test")
    shares.wait()
    before = now()
    gp.rollout(model, x, num_samples=20, seed=0, shares=shares)
    rolled = now() - before
    if not shares.main:
        return
    first, last = max(1, options.updates // 5), options.updates
    updates, seconds = last - first, marks.times[last] - marks.times[first]
    found = {"training": options.batch_size * updates / seconds, "rollouts": 20 * len(x) * model.supervision / rolled}
    options.worker.write_text(json.dumps(found))


def measured(processes: int, arguments: Sequence[str]) -> dict[str, float]:
    """Examples a second of one start."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *launcher, __file__, *arguments, "--worker", str(result)]
        environment = os.environ if torch.cuda.is_available() else os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=environment)
        found: dict[str, float] = json.loads(result.read_text())
        return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Examples a second on several processes ÷ on one.")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="the first is compared to")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--puzzles", type=int, default=32, help="of a rollout with 20 samples")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scaling.json")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    if options.worker:
        work(options)
        return
    passed = [f"--{name}={vars(options)[name.replace('-', '_')]}" for name in
              ("updates", "batch-size", "accumulate", "width", "puzzles", "clock")]  # fmt: skip
    rates: dict[int, list[dict[str, float]]] = {number: [] for number in options.processes}
    for turn in range(options.rounds):
        for number in options.processes[:: -1 if turn % 2 else 1]:
            rates[number].append(measured(number, passed))
    first, cases = options.processes[0], {}
    table = Table("", "processes", "examples/s", "ratio: minimum", "median", "maximum")
    for kind in KINDS:
        for number in options.processes:
            own, base = ([rate[kind] for rate in rates[n]] for n in (number, first))
            ratios = [a / b for a, b in zip(own, base, strict=True)]
            case = {"examples_per_second": median(own), "min": min(ratios), "median": median(ratios),
                    "max": max(ratios)}  # fmt: skip
            cases[f"{kind}, {number}"] = {name: round(value, 3) for name, value in case.items()}
            table.add_row(
                kind, str(number), f"{median(own):.1f}", *(f"{case[k]:.2f}" for k in ("min", "median", "max"))
            )
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    processor = re.search(r"model name\s*: (.*)", info)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    document = {
        "processor": processor[1] if processor else platform.machine(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "cores": os.cpu_count(), "load": [round(value, 1) for value in os.getloadavg()],
        "precision": "bf16" if use_bf16(device) else "float32", "torch": torch.__version__,
        "clock": options.clock, "rounds": options.rounds, "updates": options.updates, "batch_size": options.batch_size,
        "width": options.width, "accumulate": options.accumulate, "cases": cases,
    }  # fmt: skip
    Console().print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
