"""How fast training is beside a plain torch implementation of it, and beside its own matrix products.

- ``plain``: :mod:`plain`, the same GRAM written as somebody writes it at first, without Pyro: float32, eager,
  ``F.scaled_dot_product_attention``, torch's defaults. One update on data that lie ready.
- the project: ``Trainer.step``, as ``gp.fit`` runs it, data and bookkeeping included, in float32 and bf16, eager and
  with the compiled core (compilation before the clock starts).

An update is forward, backward, clipping, AdamW and weight average. First both are checked to compute the same loss and
gradients. Every round runs all of them, in changing order; a ratio is plain time ÷ own time of one round. The share of
the floor is the time of the bare matrix products of an update ÷ the time of the update. The clock counts processor time
of one thread, which excludes waiting on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from gemm import floor
from plain import PlainGRAM, PlainTrainer
from rich.console import Console
from rich.table import Table
from rollout import measure
from segment_step import BALANCE, BETA, CASES, CPU
from torch import nn

import gram_ppl as gp
from gram_ppl.runtime import precision
from gram_ppl.runtime.compilation import compiled
from gram_ppl.training.trainer import Trainer

SETTINGS = {  # bf16, compiled
    "float32": (False, False),
    "bf16": (True, False),
    "float32 compiled": (False, True),
    "bf16 compiled": (True, True),
}


@contextmanager
def computing(bf16: bool) -> Iterator[None]:
    """Within: the project computes in bf16 autocast, or in float32."""
    kept = precision.use_bf16
    precision.use_bf16 = lambda device: bf16
    try:
        yield
    finally:
        precision.use_bf16 = kept


def build(size: str, seed: int = 0, relations: bool = True) -> tuple[Any, Any, Any]:
    """Task, model and guide of a case of :mod:`segment_step`."""
    case = CASES[size]
    length = case["box"][0] ** 2 * case["box"][1] ** 2
    task = gp.tasks.Sudoku(case["box"], (length // 4, length // 2), num_validation=1, num_test=1, pool=20)
    mixer = gp.nn.Attention(heads=case["heads"], relations=relations)
    options = {"width": case["D"], "low_steps": case["K"], "transitions": case["T"], "registers": case["registers"]}
    model = gp.models.GRAM(task.spec, **options, mixer=mixer, seed=seed)
    return task, model, gp.guides.AmortizedGuide(model, seed=seed)


def trainer(size: str, updates: int, seed: int = 0, relations: bool = True) -> Trainer:
    """The project's run of a case, at a constant learning rate."""
    task, model, guide = build(size, seed, relations)
    settings = {
        "updates": updates, "batch_size": CASES[size]["B"], "seed": seed, "lr": 1e-3, "weight_decay": 0.1,
        "betas": [0.9, 0.95], "clip": 1.0, "warmup": 1, "decay": 0.0, "final": 1.0, "ema": 0.999, "evaluations": 0,
        "evaluate_on": 0, "evaluate_steps": None,
    }  # fmt: skip
    return Trainer(model, guide, task, gp.SegmentELBO(BETA, BALANCE), settings, CPU)


def check(size: str, relations: bool = True, tolerance: float = 1e-3) -> None:
    """Same weights and seed give the same loss and gradients in both, by relative norm, in float32.

    Raises:
        AssertionError: they differ.
    """
    task, model, guide = build(size, relations=relations)
    for head in (model.guidance, guide.guidance):  # they start at zero, where q = p and the check would be weak
        nn.init.normal_(head.down.weight, std=0.5 * model.width**-0.5)
    x, y = next(task.batches("train", 8, torch.Generator().manual_seed(0)))
    latent = model.initial(8).map(torch.clone)
    plain = PlainGRAM(model, guide)
    pairs = plain.pairs(model, guide)
    results = []
    for index in (0, 1):
        torch.manual_seed(1)
        if index:
            loss, _ = gp.SegmentELBO(BETA, BALANCE)(model, guide)(x, y, latent=latent)
        else:
            loss, _, _ = plain.loss(x, y, latent.h, latent.l, BETA, BALANCE)
        results.append([loss, *torch.autograd.grad(loss, [pair[index] for pair in pairs])])
    for own, other in zip(*results, strict=True):
        if not (own - other).norm() <= tolerance * other.norm():
            raise AssertionError(f"plain differs from the project in a tensor {tuple(own.shape)}")


def run_case(
    size: str, settings: Sequence[str], repeats: int, clock: str, relations: bool, stack: ExitStack
) -> dict[str, Any]:
    """Times of a case: milliseconds, examples per second, ratio to plain, share of the floor.

    The stack is left with the compiled models.
    """
    case = CASES[size]
    check(size, relations)
    task, model, guide = build(size, relations=relations)
    x, y = next(task.batches("train", case["B"], torch.Generator().manual_seed(0)))
    latent = model.initial(case["B"]).map(torch.clone)
    ways: dict[str, Callable[[], Any]] = {
        "plain": partial(PlainTrainer(PlainGRAM(model, guide)).step, x, y, latent.h, latent.l)
    }
    floors: dict[bool, int] = {}
    compile_seconds = {}
    for name in settings:
        bf16, compile = SETTINGS[name]
        run = trainer(size, 1_000_000, relations=relations)

        def update(run: Trainer = run, bf16: bool = bf16) -> None:
            with computing(bf16):
                run.step()

        if bf16 not in floors:
            update()
            products, floors[bf16] = floor(update)

            def replay(products: Callable[[], None] = products) -> None:
                with precision.fast(CPU):
                    products()

            ways[f"products {'bf16' if bf16 else 'float32'}"] = replay
        if compile:
            stack.enter_context(compiled(run.segment.model))
            start = time.perf_counter()
            update()
            compile_seconds[name] = time.perf_counter() - start
        ways[name] = update
    times = measure(ways, repeats, clock)
    result: dict[str, Any] = {}
    for name in ("plain", *settings):
        ratios = [a / b for a, b in zip(times["plain"], times[name], strict=True)]
        found = {"ms": 1e3 * median(times[name]), "examples_per_second": case["B"] / median(times[name])}
        found |= {"min": min(ratios), "median": median(ratios), "max": max(ratios)}
        if name in settings:
            bf16 = SETTINGS[name][0]
            bare = times[f"products {'bf16' if bf16 else 'float32'}"]
            found["share_of_floor"] = median(a / b for a, b in zip(bare, times[name], strict=True))
            found["gflop_per_second_of_products"] = floors[bf16] / median(bare) / 1e9
        if name in compile_seconds:
            found["compile_seconds"] = compile_seconds[name]
        result[name] = {key: round(value, 4) for key, value in found.items()}
    return result


def curves(size: str, setting: str, updates: int, seeds: int, windows: int = 10) -> dict[str, Any]:
    """Mean losses in windows of the updates, plain and the project's, ``[seeds][windows]``, and whether they agree.

    They agree where the means over the seeds differ by no more than the larger of the two spreads (largest − least)
    over the seeds.
    """
    bf16, compile = SETTINGS[setting]
    found: dict[str, list[list[float]]] = {"plain": [], "project": []}
    for seed in range(seeds):
        task, model, guide = build(size, seed)
        rows = CASES[size]["B"] // model.supervision
        torch.manual_seed(seed)
        batches = task.batches("train", rows, torch.Generator().manual_seed(seed))
        plain = PlainTrainer(PlainGRAM(model, guide), BETA, BALANCE).run(batches, rows, updates)
        run = trainer(size, updates, seed)
        torch.manual_seed(seed + seeds)  # noise of its own, so that nothing but the distribution can agree
        own = []
        with computing(bf16), compiled(run.segment.model) if compile else nullcontext():
            for _ in range(updates):
                run.step()
                own += [float(values[0]) for values in run.window] or [run.history[-1].loss]
                run.window = []
        for name, losses in (("plain", plain), ("project", own)):
            chunks = torch.tensor(losses).tensor_split(windows)
            found[name].append([round(float(chunk.mean()), 4) for chunk in chunks])
    means = {name: torch.tensor(rows).mean(dim=0) for name, rows in found.items()}
    spread = torch.stack([torch.tensor(r).amax(dim=0) - torch.tensor(r).amin(dim=0) for r in found.values()]).amax(0)
    gap = (means["project"] - means["plain"]).abs()
    return {
        "setting": setting, "updates": updates, **found, "gap": [round(float(g), 4) for g in gap],
        "spread": [round(float(s), 4) for s in spread], "windows_within_spread": int((gap <= spread).sum()),
        "windows": windows,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Updates per second ÷ those of a plain torch implementation.")
    parser.add_argument("--repeats", type=int, default=20, help="rounds counted for each size")
    parser.add_argument("--sizes", nargs="*", choices=[*CASES], default=["64", "128", "512"], help="D at 64 tokens")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--no-relations", action="store_true", help="attention without relations, as in the paper")
    parser.add_argument("--curves", nargs="*", choices=[*CASES], default=[], help="sizes whose loss curves to compare")
    parser.add_argument("--updates", type=int, default=200, help="of a loss curve")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "segment_speed.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    processor = re.search(r"model name\s*: (.*)", info)
    document: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    document |= {
        "processor": processor[1] if processor else platform.machine(), "threads": 1, "torch": torch.__version__,
        "repeats": options.repeats, "clock": options.clock, "relations": not options.no_relations,
    }  # fmt: skip
    table = Table("D,B,L,K,T", "way", "examples/s", "÷ plain", "share of the floor")
    for size in options.sizes:
        torch.manual_seed(0)
        with ExitStack() as stack:
            relations = not options.no_relations
            result = run_case(size, options.settings, options.repeats, options.clock, relations, stack)
        document.setdefault("cases", {})[size] = {**CASES[size], **result}
        for name, found in result.items():
            ratio = f"{found['median']:.2f} ({found['min']:.2f}–{found['max']:.2f})"
            share = f"{found['share_of_floor']:.2f}" if "share_of_floor" in found else ""
            shown = ",".join(str(CASES[size][letter]) for letter in "DBLKT")
            table.add_row(shown, name, f"{found['examples_per_second']:.0f}", ratio, share)
    for size in options.curves:
        found = curves(size, options.settings[-1], options.updates, options.seeds)
        document.setdefault("curves", {})[size] = found
        print(f"{size}: {found['windows_within_spread']} of {found['windows']} windows within the spread of the seeds")
    if options.sizes:
        Console().print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
