"""Speed, memory and model flops utilisation of an update at the paper's size, batch 768.

    python benchmarks/gpu/step.py

One row for each world and setting, written as soon as it is done; the same command goes on with the missing ones. An
update is ``Trainer.step``, data included. Flops are those of a segment by torch's flop counter (products of forward and
backward, no recomputation); utilisation is flops ÷ time ÷ the card's dense bf16 peak.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from worlds import world

from gram_ppl import presets
from gram_ppl.runtime import precision
from gram_ppl.runtime.compilation import compiled
from gram_ppl.training import flops
from gram_ppl.training.trainer import Trainer

SETTINGS = {"bf16 compiled": (True, True), "bf16": (True, False), "float32": (False, False)}


def trainer(name: str, batch: int | None, tiny: bool, device: torch.device) -> Trainer:
    """The paper's run of a world, no evaluations."""
    preset = world(name, tiny=tiny)
    parts = presets.build(preset, seed=0)
    settings = {
        "updates": 1_000_000, "batch_size": 768, "seed": 0, "lr": 1e-4, "weight_decay": 1.0, "betas": [0.9, 0.95],
        "clip": 1.0, "warmup": 50, "decay": 0.3, "final": 0.05, "ema": 0.9999, "evaluate_steps": None,
    } | parts.fit | {"evaluations": 0, "evaluate_on": 0}  # fmt: skip
    if batch is not None:
        settings["batch_size"] = batch
    return Trainer(parts.model, parts.guide, parts.task, parts.objective, settings, device)


def measure(run: Trainer, updates: int, compile: bool, device: torch.device) -> dict[str, Any]:
    """Seconds, examples per second, peak memory and flops of an update."""
    run.step()
    assert run.rows.carry is not None
    row: dict[str, Any] = {"batch": run.settings["batch_size"]}
    row["tflop"] = run.flops() / 1e12
    with compiled(run.segment.model) if compile else nullcontext():
        start = time.perf_counter()
        for _ in range(5):
            run.step()
        _wait(device)
        row["warm_up_seconds"] = time.perf_counter() - start
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        for _ in range(updates):
            run.step()
        _wait(device)
        row["seconds"] = (time.perf_counter() - start) / updates
    row["examples_per_second"] = row["batch"] / row["seconds"]
    if device.type == "cuda":
        row["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return row


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Updates at the paper's size: time, memory, utilisation.")
    parser.add_argument("--worlds", nargs="+", default=["queens8", "coloring8", "sudoku-grids"])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--batch", type=int, help="768 if not given")
    parser.add_argument("--updates", type=int, default=30, help="timed; five before them are not")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the card, where its name isn't known")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="small enough for seconds on a CPU")
    parser.add_argument("--results", type=Path, default=Path(__file__).resolve().parents[1] / "results" / "gpu")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    top = options.peak or flops.peak(device)
    path = options.results / f"step{'-tiny' if options.tiny else ''}.json"
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    document |= {"torch": torch.__version__, "peak_tflops": top}
    document["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    for name in options.worlds:
        for setting in options.settings:
            key = f"{name}, {setting}" + (f", batch {options.batch}" if options.batch else "")
            if key not in document["rows"]:
                document["rows"][key] = row = one(name, setting, options, device)
                if top is not None and "seconds" in row:
                    row["utilisation"] = row["tflop"] / row["seconds"] / top
                options.results.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(document, indent=1) + "\n")
            print(key, document["rows"][key], flush=True)
    return 0


def one(name: str, setting: str, options: Any, device: torch.device) -> dict[str, Any]:
    """One row, or the word that memory does not suffice."""
    bf16, compile = SETTINGS[setting]
    kept = precision.use_bf16
    precision.use_bf16 = lambda device: bf16
    try:
        run = trainer(name, options.batch, options.tiny, device)
        return measure(run, 2 if options.tiny else options.updates, compile, device)
    except torch.cuda.OutOfMemoryError:
        return {"error": "out of memory: try a smaller --batch"}
    finally:
        precision.use_bf16 = kept


if __name__ == "__main__":
    sys.exit(main())
