"""Width, selectors, depth, halting and noise of a trained model: what each of them is worth on held-out inputs.

One set of rollouts at the largest N is cut into disjoint blocks of N trajectories, and every figure is a mean over
these blocks; seconds are those of rollouts of N trajectories on their own. Network calls are the times that f_L or f_H
is applied to one trajectory, T (K + 1) of them a supervision step. Beside each coverage stands what N draws of an
ideal uniform sampler would cover in expectation.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import gram_ppl as gp
from gram_ppl.inference.halt import Confident, Halt, HaltHead, Never, Stable
from gram_ppl.inference.rollout import trajectories
from gram_ppl.inference.select import SELECTORS, Selector, SymmetryVote, distinct
from gram_ppl.program.poutine import Anneal, Temperature
from gram_ppl.training.fit_heads import fit_heads

FREE = [name for name in SELECTORS if name != "verified"]  # what needs no verifier
DEPTHS = (1, 2, 4, 8, 16, 32, 64)
HALTS: tuple[Halt, ...] = (
    Never(), Stable(1), Stable(2), Stable(3), HaltHead(0.5), HaltHead(0.9),
    Confident(0.5), Confident(0.8), Confident(0.9),
)  # fmt: skip
TEMPERATURES = (0.0, 0.5, 1.0, 1.25, 1.5, 2.0)


def blocks(out: gp.Rollouts, num: int) -> Iterator[gp.Rollouts]:
    """Disjoint blocks of ``num`` of the N trajectories."""
    for start in range(0, out.tokens.shape[1] - num + 1, num):
        part: Any = [None if field is None else field[:, start : start + num] for field in out]
        yield gp.Rollouts(*part)


class Judge:
    """The verifier's figures of rollouts from some inputs."""

    def __init__(self, task: gp.tasks.Task, x: Tensor) -> None:
        self.task, self.x = task, x
        self.total = torch.tensor([task.num_solutions(row) for row in x])

    def accuracy(self, out: gp.Rollouts, num: int, select: Selector) -> float:
        """Share of inputs whose selected answer holds."""
        right = []
        for block in blocks(out, num):
            index, _ = select(self.task, self.x, block)
            right.append(self.task.verify(self.x, block.tokens[torch.arange(len(self.x)), index]))
        return torch.stack(right).double().mean().item()

    def limits(self, out: gp.Rollouts, num: int) -> dict[str, float]:
        """What the N trajectories hold, whatever is selected.

        Accuracy of one of them, oracle, coverage of all inputs, and coverage and its ideal of those with several
        solutions.
        """
        several, right, shares = self.total > 1, [], []
        for block in blocks(out, num):
            right.append(self.task.verify(self.x[:, None], block.tokens))
            shares.append(distinct(self.task.canonical(block.tokens), right[-1]).sum(dim=-1) / self.total)
        valid, share = torch.stack(right), torch.stack(shares).double()
        limits = {
            "one": valid.double().mean().item(),
            "oracle": valid.any(dim=-1).double().mean().item(),
            "coverage_all": share.mean().item(),
        }
        if several.any():
            ideal = 1 - (1 - 1 / self.total[several].double()) ** num
            limits |= {"coverage": share[:, several].mean().item(), "ideal": ideal.mean().item()}
        return limits

    def row(self, out: gp.Rollouts, num: int, selectors: list[str]) -> dict[str, float]:
        """Accuracy by selector, oracle and coverage."""
        return {name: self.accuracy(out, num, SELECTORS[name]) for name in selectors} | self.limits(out, num)


def at_depths(model: Any, x: Tensor, depths: tuple[int, ...], num: int, seed: int) -> dict[int, gp.Rollouts]:
    """Where the same trajectories stand after each of some numbers of supervision steps."""
    parts: dict[int, list[gp.Rollouts]] = {depth: [] for depth in depths}
    rows = max(1, 128 // num)
    for k, some in enumerate(x.split(rows)):
        for step in trajectories(model, some, num_samples=num, steps=max(depths), seed=seed + 1000 * k):
            if step.number in parts:
                ran = torch.full(step.log_prob.shape, step.number)
                out = gp.Rollouts(step.tokens, step.log_prob, ran, step.residual, step.halt, step.value)
                parts[step.number].append(out)
    return {depth: gp.Rollouts(*map(joined, zip(*each, strict=True))) for depth, each in parts.items()}


def joined(fields: tuple[Any, ...]) -> Any:
    """Tensors of several batches as one; None if they are none."""
    return None if fields[0] is None else torch.cat(fields)


def width_table(model: Any, judge: Judge, nums: list[int], steps: int, seed: int, names: list[str]) -> dict[str, Any]:
    """For each N and each way to roll out: accuracy by selector, oracle, coverage, network calls and seconds."""
    task, x = judge.task, judge.x
    symmetric: dict[str, Any] = {"steps": steps, "select": SymmetryVote(), "seed": seed}
    ways: dict[str, tuple[Callable[[int], gp.Rollouts], list[str]]] = {
        "all steps": (lambda num: gp.rollout(model, x, num_samples=num, steps=steps, seed=seed), names),
        "symmetric views": (lambda num: gp.solve(model, task, x, num_samples=num, **symmetric).rollouts, ["symmetry"]),
    }
    if model.heads is not None:
        halted: dict[str, Any] = {"steps": steps, "halt": HaltHead(), "seed": seed}
        ways["halted"] = (lambda num: gp.rollout(model, x, num_samples=num, **halted), ["halt", "vote", "weighted"])
    networks = model.transitions * (model.config["low_steps"] + 1)
    table: dict[str, Any] = {}
    for way, (roll, selectors) in ways.items():
        seconds = {}
        for num in nums:
            start = time.perf_counter()
            out = roll(num)
            seconds[num] = time.perf_counter() - start
        calls = out.steps.double().mean().item() * networks
        table[way] = {
            num: judge.row(out, num, selectors) | {"calls": num * calls, "seconds": seconds[num]} for num in nums
        }
    return table


def halting_table(model: Any, judge: Judge, num: int, steps: int, seed: int) -> dict[str, Any]:
    """For each rule that halts: steps that a trajectory ran, share saved, and what its answers are worth."""
    table = {}
    for halt in HALTS:
        start = time.perf_counter()
        out = gp.rollout(model, judge.x, num_samples=num, steps=steps, halt=halt, seed=seed)
        seconds, ran = time.perf_counter() - start, out.steps.double().mean().item()
        row = {"steps run": ran, "saved": 1 - ran / steps, "seconds": seconds}
        table[repr(halt)] = row | judge.row(out, num, ["vote", "weighted"])
    return table


def show(title: str, rows: dict[str, dict[str, float]]) -> None:
    """A table with a column for each figure that any row has."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = Table("", *columns, title=title)
    for name, row in rows.items():
        texts = []
        for column in columns:
            digits = ",.1f" if column in ("calls", "seconds") else ".3f"
            texts.append(format(row[column], digits) if column in row else "")
        table.add_row(name, *texts)
    Console(width=200).print(table)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("folder", type=Path, help="a run folder or checkpoint")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 5, 20, 100], help="values of N")
    parser.add_argument("--steps", type=int, default=16, help="supervision steps of all tables but that of depth")
    parser.add_argument("--depths", type=int, nargs="*", default=DEPTHS, help="supervision steps of the depth table")
    parser.add_argument("--table-samples", type=int, default=20, help="N of the depth, the halting and the noise table")
    parser.add_argument("--puzzles", type=int, default=200, help="held-out inputs")
    parser.add_argument("--split", choices=["validation", "test"], default="test", help="where they come from")
    parser.add_argument("--result", type=Path, help="JSON; benchmarks/results/selection_TASK.json if not given")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--seed", type=int, default=0, help="of the rollouts")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, _, task = gp.load(args.folder)
    x = task.inputs(args.split)[: args.puzzles]
    calibration = fit_heads(model, task, steps=args.steps, seed=args.seed) if model.heads is None else None
    judge = Judge(task, x)
    settings = {"task": type(task).__name__, "split": args.split, "puzzles": len(x), "steps": args.steps}
    settings |= {"several": int((judge.total > 1).sum()), "threads": args.threads, "seed": args.seed}
    found: dict[str, Any] = {"settings": settings, "heads": calibration}

    nums = sorted(args.samples)
    plain = [name for name in SELECTORS if name != "symmetry"]
    found["width"] = width_table(model, judge, nums, args.steps, args.seed, plain)
    gaps = found["gaps"] = {}
    for num in nums:
        rows = {way: each[num] for way, each in found["width"].items()}
        show(f"N = {num}, {args.steps} steps, {len(x)} inputs", rows)
        free = {(name, way): row[name] for way, row in rows.items() for name in FREE if name in row}
        best = max(free, key=lambda key: free[key])
        gaps[num] = {
            "best": " of ".join(best),
            "accuracy": free[best],
            "oracle": max(row["oracle"] for row in rows.values()),
        }
        Console().print(f"best without a verifier: {gaps[num]}\n")

    few, some = args.table_samples, ["vote", "weighted", "best", "confident", "residual"]
    if args.depths:
        deep = at_depths(model, x, tuple(args.depths), few, args.seed)
        found["depth"] = {depth: judge.row(out, few, some) for depth, out in deep.items()}
        show(f"depth, N = {few}", {f"{depth} steps": row for depth, row in found["depth"].items()})

    found["halting"] = halting_table(model, judge, few, args.steps, args.seed)
    show(f"halting, N = {few}, at most {args.steps} steps", found["halting"])

    noises: dict[str, Any] = {f"{value:g}": Temperature(value) for value in TEMPERATURES}
    noises["1.5 → 0"] = Temperature(Anneal(1.5, 0.0, args.steps))
    found["noise"] = {}
    for name, noise in noises.items():
        out = gp.rollout(model, x, num_samples=few, steps=args.steps, noise=noise, seed=args.seed)
        found["noise"][name] = judge.row(out, few, some)
    show(f"temperature, N = {few}, {args.steps} steps", found["noise"])

    result = args.result or Path(__file__).parent / "results" / f"selection_{type(task).__name__.lower()}.json"
    result.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
