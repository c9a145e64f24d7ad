"""ELBO of the whole trajectory (eq. 13), surrogate (eq. 14) and IWAE over training: figure 8 of the paper.

    python benchmarks/bounds.py

The model of ``examples/sudoku_svi.py --plain``, measured on held-out puzzles with the averaged weights.
"""

from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path
from typing import Any

import torch

from gram_ppl import presets
from gram_ppl.evaluation import bounds
from gram_ppl.reporting import pictures
from gram_ppl.training.fit import fit
from gram_ppl.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Train, measure at intervals, write JSON and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--measurements", type=int, default=15, help="how often, evenly spaced")
    parser.add_argument("--puzzles", type=int, default=50, help="held-out puzzles, each with one of its solutions")
    parser.add_argument("--particles", type=int, default=50, help="K of IWAE")
    parser.add_argument("--last-beta", type=float, help="β at the end; the preset's if not given")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, default=ROOT / "benchmarks" / "results" / "bounds.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "bounds_over_training.png")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    preset = presets.get("sudoku", "gram", {"beta.last": args.last_beta})
    task, model, guide, objective, options = presets.build(preset, seed=args.seed)
    defaults = {name: p.default for name, p in inspect.signature(fit).parameters.items()}
    settings: Any = defaults | options | {"updates": args.updates, "seed": args.seed, "evaluations": 0}
    trainer = Trainer(model, guide, task, objective, settings, "cpu")
    x, y = next(task.batches("validation", args.puzzles, torch.Generator().manual_seed(args.seed)))

    rows: list[dict[str, float]] = []
    while trainer.update < args.updates:
        trainer.step()
        if trainer.update % max(1, args.updates // args.measurements):
            continue
        averaged: Any = trainer.average.module
        with torch.random.fork_rng():
            torch.manual_seed(args.seed)
            weights = bounds.log_weights(averaged.model, averaged.guide, x, y, num_particles=args.particles)
            row = {
                "update": trainer.update,
                "ELBO (eq. 13)": bounds.from_weights(weights, 1).mean().item(),
                f"IWAE, K = {args.particles}": bounds.from_weights(weights, args.particles).mean().item(),
                "surrogate (eq. 14)": bounds.surrogate(averaged.model, averaged.guide, x, y).mean().item(),
            }
        rows.append(row)
        print({name: round(value, 2) for name, value in row.items()}, flush=True)
    curves = {name: [row[name] for row in rows] for name in rows[0] if name != "update"}
    pictures.draw_bounds([row["update"] for row in rows], curves, args.picture)
    settings_of_test = {
        "beta": repr(preset.beta),
        "balance": preset.balance,
        "puzzles": args.puzzles,
        "seed": args.seed,
    }
    args.result.write_text(json.dumps(settings_of_test | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
