"""What it costs to roll out a probabilistic program, and what many trajectories cost beside one.

- ``program``: ``gp.rollout``, every trajectory with its own stream of noise;
- ``hand``: the same rollout in plain torch on the same weights, with one joint draw of noise for a batch (that both
  give the same tokens from the same noise is checked first);
- ``plain``: the rollout of :mod:`plain`, which shares no code with the project: float32, eager, torch's defaults, all
  trajectories in one batch (that both give the same tokens without noise is checked first). At the sizes of
  ``segment_step.py``, the project eager and with the compiled core.

Every round times both, in changing order; the figures are medians over the rounds. The cost of width is that of one
puzzle, answered alone, with N = 20 trajectories ÷ with one. Precision and validation are those of rollouts. On a busy
machine ``--clock cpu`` counts processor time, which on one thread excludes waiting.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pyro
import torch
from plain import PlainGRAM
from rich.console import Console
from rich.table import Table
from segment_step import CASES as SIZES
from torch import Tensor, nn

import gram_ppl as gp
from gram_ppl.program.poutine import Streams, Temperature
from gram_ppl.runtime.compilation import compiled
from gram_ppl.runtime.precision import exactly, fast, use_bf16

CPU = torch.device("cpu")
SAMPLES = 20
TOKENS = 2048  # of a batch, as in gp.rollout

# A task and the size of model and test, by the letters of GRAM's docstring; B puzzles.
CASES: dict[str, dict[str, Any]] = {
    "sudoku4": {"box": (2, 2), "registers": 1, "D": 64, "B": 32, "K": 2, "T": 2, "steps": 4},
    "cells64": {"box": (2, 4), "registers": 1, "D": 64, "B": 8, "K": 2, "T": 2, "steps": 4},
    "cells64 wide": {"box": (2, 4), "registers": 1, "D": 128, "B": 4, "K": 4, "T": 3, "steps": 4},
}
# D at 64 tokens, with the puzzles of a rollout and their supervision steps.
AGAINST_PLAIN = {"64": (8, 4), "128": (4, 4), "512": (2, 2)}


@torch.no_grad()
def by_hand(
    model: Any, x: Tensor, num_samples: int, steps: int, normal: Callable[[Tensor], Tensor] = torch.randn_like
) -> tuple[Tensor, Tensor]:
    """Tokens ``[B, N, L_out]`` and their log probability ``[B, N]``, in plain torch."""
    rows = x.repeat_interleave(num_samples, dim=0)
    tokens, log_prob = [], []
    with fast(CPU):
        for part in rows.split(max(1, TOKENS // x.shape[1])):
            e = model.encoder(part, len(part))
            h, low = (state.expand(len(part), -1, -1) for state in (model.h0, model.l0))
            for _ in range(steps * model.transitions):
                u, low = model.core(gp.Latent(h, low), e)
                mu, raw_sigma = exactly(model.guidance, u).chunk(2, dim=-1)
                sigma = model.noise.floor + 2 * model.noise.scale * raw_sigma.sigmoid()
                h = u + mu + sigma * normal(mu)
            logits = model.decoder(h[:, model.encoder.first_out :]).float().log_softmax(dim=-1)
            best = logits.max(dim=-1)
            tokens.append(best.indices)
            log_prob.append(best.values.sum(dim=-1))
    return torch.cat(tokens).view(len(x), num_samples, -1), torch.cat(log_prob).view(len(x), num_samples)


def build(box: tuple[int, int], registers: int, D: int, B: int, K: int, T: int, steps: int) -> tuple[Any, Tensor]:
    """The model of a case, its noise heads not zero, and B puzzles."""
    size = box[0] * box[1]
    task = gp.tasks.Sudoku(box, (size * size // 4, size * size // 2), num_validation=1, num_test=1, pool=20)
    x, _ = next(task.batches("train", B, torch.Generator().manual_seed(0)))
    model = gp.models.GRAM(task.spec, width=D, low_steps=K, transitions=T, registers=registers)
    nn.init.normal_(model.guidance.down.weight, std=0.5 * D**-0.5)
    return model, x


def check(model: Any, x: Tensor, steps: int) -> None:
    """From the same noise the program and the loop by hand give the same answers."""
    few = x[:2]
    out = gp.rollout(model, few, num_samples=3, steps=steps, seed=0)
    start = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(0)))
    tokens, log_prob = by_hand(model, few, 3, steps, Streams(start, 0, 6, CPU).normal)
    if not (out.tokens == tokens).float().mean() > 0.99 or not torch.allclose(out.log_prob, log_prob, rtol=1e-3):
        raise AssertionError("the program and the loop by hand differ")


def against_plain(size: str, repeats: int, clock: str) -> dict[str, Any]:
    """Puzzles per second of the plain implementation and of the project, eager and compiled; plain time ÷ own time."""
    case, (count, steps) = SIZES[size], AGAINST_PLAIN[size]
    length = (case["box"][0] * case["box"][1]) ** 2
    task = gp.tasks.Sudoku(case["box"], (length // 4, length // 2), num_validation=1, num_test=1, pool=20)
    x, _ = next(task.batches("train", count, torch.Generator().manual_seed(0)))
    mixer = gp.nn.Attention(heads=case["heads"])
    options = {"width": case["D"], "low_steps": case["K"], "transitions": case["T"], "registers": case["registers"]}
    model = gp.models.GRAM(task.spec, **options, mixer=mixer)
    nn.init.normal_(model.guidance.down.weight, std=0.5 * model.width**-0.5)
    plain = PlainGRAM(model, gp.guides.AmortizedGuide(model))
    same_answers(model, plain, x[:1])
    ways: dict[str, Callable[[], Any]] = {
        "plain": partial(plain.rollout, x, SAMPLES, steps),
        "program": partial(gp.rollout, model, x, num_samples=SAMPLES, steps=steps),
    }
    compiling = copy.deepcopy(model)
    ways["compiled"] = partial(gp.rollout, compiling, x, num_samples=SAMPLES, steps=steps)
    with compiled(compiling):
        times = measure(ways, repeats, clock)
    result: dict[str, Any] = {**{letter: case[letter] for letter in "DLKT"}, "B": count, "steps": steps}
    for name, own in times.items():
        ratios = [a / b for a, b in zip(times["plain"], own, strict=True)]
        found = {"puzzles_per_second": count / median(own)}
        found |= {"min": min(ratios), "median": median(ratios), "max": max(ratios)}
        result[name] = {key: round(value, 4) for key, value in found.items()}
    return result


def same_answers(model: Any, plain: PlainGRAM, x: Tensor) -> None:
    """Without noise both give the same tokens, but for rounding.

    Raises:
        AssertionError: more than one token in fifty differs.
    """
    ours = gp.rollout(model, x, num_samples=1, steps=2, noise=Temperature(0))
    kept = plain.floor, plain.scale
    plain.floor = plain.scale = 0.0
    theirs = plain.rollout(x, 1, 2)
    plain.floor, plain.scale = kept
    if not (ours.tokens == theirs).float().mean() > 0.98:
        raise AssertionError("the program and the plain implementation differ")


def measure(ways: dict[str, Callable[[], Any]], repeats: int, clock: str) -> dict[str, list[float]]:
    """Seconds of each way in each round; two rounds of warm-up are not counted."""
    now = time.perf_counter if clock == "wall" else time.process_time
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 2):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = now()
            ways[name]()
            times[name].append(now() - start)
    return {name: seconds[2:] for name, seconds in times.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time of a rollout as a program ÷ by hand, and of N = 20 ÷ N = 1.")
    parser.add_argument("--repeats", type=int, default=20, help="rounds counted for each size")
    parser.add_argument("--sizes", nargs="*", choices=[*CASES], default=[*CASES])
    parser.add_argument("--plain", nargs="*", choices=[*AGAINST_PLAIN], default=[*AGAINST_PLAIN], help="D at 64 tokens")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "rollout.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    processor = re.search(r"model name\s*: (.*)", info)
    cases: dict[str, Any] = {}
    document: dict[str, Any] = {
        "processor": processor[1] if processor else platform.machine(), "threads": options.threads,
        "precision": "bf16" if use_bf16(CPU) else "float32", "torch": torch.__version__, "pyro": pyro.__version__,
        "repeats": options.repeats, "clock": options.clock, "num_samples": SAMPLES, "cases": cases,
    }  # fmt: skip
    table = Table("case", "D,B,K,T", "puzzles/s", "by hand", "time ÷ by hand", f"N = {SAMPLES} ÷ N = 1")
    for size in options.sizes:
        case = CASES[size]
        model, x = build(**case)
        check(model, x, case["steps"])
        roll = partial(gp.rollout, model, steps=case["steps"])
        ways: dict[str, Callable[[], Any]] = {
            "hand": partial(by_hand, model, x, SAMPLES, case["steps"]),
            "program": partial(roll, x, num_samples=SAMPLES),
            "many": partial(roll, x[:1], num_samples=SAMPLES),
            "one": partial(roll, x[:1], num_samples=1),
        }
        times = measure(ways, options.repeats, options.clock)
        ratios = [a / b for a, b in zip(times["program"], times["hand"], strict=True)]
        width = [a / b for a, b in zip(times["many"], times["one"], strict=True)]
        cases[size] = {
            **case,
            "puzzles_per_second": round(len(x) / median(times["program"]), 2),
            "puzzles_per_second_by_hand": round(len(x) / median(times["hand"]), 2),
            "ratio": {"min": min(ratios), "median": median(ratios), "max": max(ratios)},
            "width": {"min": min(width), "median": median(width), "max": max(width)},
        }
        shown = [f"{median(r):.3f} ({min(r):.2f}–{max(r):.2f})" for r in (ratios, width)]
        speeds = [f"{cases[size][key]:.1f}" for key in ("puzzles_per_second", "puzzles_per_second_by_hand")]
        table.add_row(size, ",".join(str(case[letter]) for letter in "DBKT"), *speeds, *shown)
    beside = Table("D,B,K,T", "way", "puzzles/s", "plain time ÷ time")
    for size in options.plain:
        found = document.setdefault("plain", {})[size] = against_plain(size, options.repeats, options.clock)
        sizes = ",".join(str(found[letter]) for letter in "DBKT")
        for name in ("plain", "program", "compiled"):
            ratio = "{median:.2f} ({min:.2f}–{max:.2f})".format(**found[name])
            beside.add_row(sizes, name, f"{found[name]['puzzles_per_second']:.1f}", ratio)
    for part in (table, beside):
        if part.row_count:
            Console().print(part)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
