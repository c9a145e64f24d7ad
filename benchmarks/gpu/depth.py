"""Does bf16 bear depth? The same trajectories in bf16 and in float32, to thousands of supervision steps.

    python benchmarks/gpu/depth.py

Trains 4×4 Sudoku by the presets ``gram`` and ``quick`` and rolls its test puzzles out without noise, step by step the
same but for rounding. A network that drifts away in bf16 shows in the share of equal tokens, and in the accuracy.
"""

from __future__ import annotations

import sys

sys.path.insert(0, sys.path.pop(0).removesuffix("/gpu"))  # Python has a `queue` and a `profile` of its own

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from segment_speed import computing

import gram_ppl as gp
from gram_ppl import presets
from gram_ppl.program.poutine import Temperature
from gram_ppl.training import interrupt


def compared(model: Any, task: Any, steps: int, samples: int = 4) -> dict[str, Any]:
    """Trajectories of the test inputs in both precisions: accuracy, whether all is finite, share of equal tokens."""
    x, out = task.inputs("test"), {}
    for name, bf16 in (("float32", False), ("bf16", True)):
        with computing(bf16):
            out[name] = gp.rollout(model, x, num_samples=samples, steps=steps, noise=Temperature(0.0), seed=0)
    valid = {name: task.verify(x.to(found.tokens.device)[:, None], found.tokens) for name, found in out.items()}
    row: dict[str, Any] = {name: right.double().mean().item() for name, right in valid.items()}
    row["finite"] = bool(out["bf16"].residual.isfinite().all())
    row["same_tokens"] = (out["bf16"].tokens == out["float32"].tokens).double().mean().item()
    row["residual"] = {name: found.residual.double().mean().item() for name, found in out.items()}
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or go on, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", default=["gram", "quick"])
    parser.add_argument("--depths", nargs="+", type=int, default=[16, 128, 1024, 4096])
    parser.add_argument("--updates", type=int, help="those of the preset if not given")
    parser.add_argument("--test", type=int, default=200, help="puzzles")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu/depth"))
    given = parser.parse_args(arguments)
    path = given.out / "depth.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    with interrupt.resumable(given.out, "the same command"):
        for name in given.presets:
            changes = {"fit.updates": given.updates, "task.num_test": given.test}
            task, model, guide, objective, fit = presets.build(presets.get("sudoku", name, changes))
            folder = given.out / name
            gp.fit(model, guide, task, objective=objective, **fit, out=folder, resume=None, progress=False)
            for steps in given.depths:
                key = f"{name}, {steps} steps"
                found[key] = found.get(key) or compared(model, task, steps)
                print(key, found[key], flush=True)
                path.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    with interrupt.prompt():
        sys.exit(main())
