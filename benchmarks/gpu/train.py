"""Training at the paper's scale, in commands of at most 25 minutes that go on where the one before stopped.

    python benchmarks/gpu/train.py queens8

trains the paper's preset with seed 0 and then measures it on its test inputs. When ``--minutes`` are over it stops,
says so and ends with code 75; the same command goes on from the last checkpoint. ``--tiny`` proves that on a CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from limits import NOT_FINISHED, TimeUp, at_most
from table_runs import Run, perform
from worlds import WORLDS, thousand, world

from gram_ppl.storage import checkpoint
from gram_ppl.storage.folder import STATE_FILE
from gram_ppl.tasks.sudoku.csv import locate


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Train and measure the paper's preset of a world.")
    parser.add_argument("world", choices=WORLDS)
    parser.add_argument("--minutes", type=float, default=24, help="of this command")
    parser.add_argument("--checkpoint-every", type=int, default=200, help="updates; what a stop loses at most")
    parser.add_argument("--data", help="Sudoku-Extreme's train.csv (hub:OWNER/NAME/FILE downloads), or MNIST's folder")
    parser.add_argument("--test-data", help="Sudoku-Extreme's test.csv")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu"), help="folder of checkpoints")
    parser.add_argument("--results", type=Path, default=Path(__file__).resolve().parents[1] / "results" / "gpu")
    options = parser.parse_args(arguments)
    data = options.data
    if data is not None and options.world == "sudoku-extreme":
        data = str(thousand(locate(data), options.runs / "sudoku-extreme-1000.csv"))
    preset = world(options.world, data=data, test_data=options.test_data, tiny=options.tiny)
    preset = replace(preset, fit=preset.fit | {"checkpoint_every": options.checkpoint_every})
    run = Run(options.runs / ("tiny" if options.tiny else ""), options.world, preset, "GRAM", options.seed)
    try:
        with at_most(options.minutes):
            perform(run)
    except TimeUp:
        state = run.folder / STATE_FILE
        done = checkpoint.read(state)[1]["update"] if state.exists() else 0
        print(f"{done} of {preset.fit['updates']} updates are in {state}; the same command goes on")
        return NOT_FINISHED
    name = f"{options.world}{'-tiny' if options.tiny else ''}-seed{options.seed}.json"
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / name).write_text(json.dumps(run.metrics(), indent=1) + "\n", encoding="utf-8")
    print(f"finished: {options.results / name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
