"""Hard 9×9 Sudoku by GRAM that decides: from 800 rows of Sudoku-Extreme to 200 held-out ones, with no verifier.

    python benchmarks/sudoku_9x9.py --extreme sudoku_extreme_1k_train.csv --seventeen sudoku_17clue_train.csv.gz

The recipe is the preset ``extreme`` of Sudoku, or ``gpu``; ``--set`` changes it. A call that runs out of ``--minutes``
ends with code 75 and goes on when it is called again, as one does that a signal stopped; what is measured stays. The
weights are kept at several places of the way: their figures make the curve of accuracy against operations. Puzzles of
17 clues are never trained on. An answer is the first that a trajectory finds no contradiction in; wrong answers and
none are counted apart. ``sudoku_9x9_gaussian.py`` is the same for Gaussian guidance.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch
from limits import NOT_FINISHED, TimeUp, at_most
from torch import Tensor

import gram_ppl as gp
from gram_ppl import presets
from gram_ppl.presets.settings import parsed
from gram_ppl.reporting.pictures.style import BLUE, GREY, ORANGE, canvas, counted, save, tidy
from gram_ppl.storage.checkpoint import begin_from
from gram_ppl.storage.folder import STATE_FILE, json_object
from gram_ppl.training import interrupt
from gram_ppl.training.trainer import Trainer

# arXiv 2605.08605, 512 rows an update: share answered after 1,000, 2,000 and 4,000 updates
PUBLISHED = ((512_000, 0.856), (1_024_000, 0.993), (2_048_000, 0.9996))
ROUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


def answered(
    model: Any, task: Any, x: Tensor, chains: int, rounds: int, views: int, seed: int, doubt: float
) -> dict[str, Any]:
    """How many puzzles are answered rightly, wrongly and not at all, with what, and after how many decisions."""
    start, model.threshold = time.perf_counter(), doubt
    found = gp.solve(
        model, task, x, num_samples=chains, steps=rounds * model.block, first_answer=True, symmetries=task.symmetries,
        views=views, seed=seed,
    )  # fmt: skip
    out = found.rollouts
    assert out.answered is not None
    assert found.answered is not None
    assert found.calls is not None
    assert found.restarts is not None
    right = task.verify(x.to(out.tokens.device)[:, None], out.tokens)
    depth = torch.where(out.answered, out.steps // model.block, rounds + 1)
    first = depth.argmin(dim=1, keepdim=True)
    needed, holds = depth.gather(1, first)[:, 0], right.gather(1, first)[:, 0]
    return {
        "puzzles": len(x),
        "chains": chains,
        "rounds": rounds,
        "right": int(found.verified.sum()),
        "wrong": int((found.answered & ~found.verified).sum()),
        "unanswered": int((~found.answered).sum()),
        "calls": found.calls.double().mean().item(),
        "restarts": found.restarts.double().mean().item(),
        "course": [[n, int((needed <= n).sum()), int(((needed <= n) & holds).sum())] for n in ROUNDS if n <= rounds],
        "seconds": time.perf_counter() - start,
    }


def kept(folder: Path, every: int) -> Any:
    """A hook that keeps the averaged weights after each so many updates."""

    def keep(trainer: Trainer) -> None:
        path = folder / f"at-{trainer.update:06d}"
        if trainer.update and trainer.update % every == 0 and not path.exists():
            segment = trainer.average.module
            gp.save(path, segment.model, segment.guide, trainer.task)

    return keep


def draw(result: dict[str, Any], path: Path) -> None:
    """Right answers by rows of training, beside published ones, and by decisions that a trajectory needed."""
    figure, (left, right) = canvas(9, 3.6, columns=2)
    way = [(part["update"], part) for part in result["on the way"]] + [(result["updates"], result["Sudoku-Extreme"])]
    rows = [update * result["batch_size"] for update, _ in way]
    left.plot(rows, [part["right"] / part["puzzles"] for _, part in way], "o-", color=BLUE, label="GRAM, deciding")
    left.plot(*zip(*PUBLISHED, strict=True), "s--", color=GREY, label="LDT (published), 0.8M parameters")
    left.set(xlabel="rows of training", ylabel="answered rightly", ylim=(0, 1.02))
    counted(left, [128_000 * 2**power for power in range(5)])
    left.legend(frameon=False)
    for colour, name in ((BLUE, "Sudoku-Extreme"), (ORANGE, "17 clues")):
        if name in result:
            found = result[name]
            course = [(count, held) for count, _, held in found["course"]] + [(found["rounds"], found["right"])]
            shares = [held / found["puzzles"] for _, held in course]
            right.plot([count for count, _ in course], shares, "o-", color=colour, label=name)
    right.set(xlabel="decisions of a trajectory, at most", ylim=(0, 1.02))
    counted(right, [2**power for power in range(0, 11, 2) if 2**power <= result["rounds"]])
    right.legend(frameon=False, loc="upper left")
    for axes in (left, right):
        tidy(axes)
    save(figure, path)


def main(arguments: list[str] | None = None) -> int:
    """Train, or go on; then measure. 75 where the time was too short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extreme", type=Path, required=True, help="Sudoku-Extreme CSV")
    parser.add_argument("--seventeen", type=Path, help="CSV of 17-clue puzzles")
    parser.add_argument("--preset", choices=("extreme", "gpu"), default="extreme")
    parser.add_argument("--out", type=Path, default=Path("runs/sudoku_9x9"))
    parser.add_argument("--result", type=Path, default=Path("benchmarks/results/sudoku_9x9.json"))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the preset")
    parser.add_argument("--start", help="a run's folder or pretrained:NAME, of the same sizes, to begin with")
    parser.add_argument("--doubt", type=float, help="that sends a trajectory back at the test, if not that of training")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop training after so many; 0 doesn't")
    numbers = {
        "held-out": 200,
        "chains": 8,
        "rounds": 200,
        "keep-every": 1000,
        "on-the-way": 50,
        "views": 1,
        "threads": 2,
        "seed": 0,
    }
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args(arguments)
    with interrupt.resumable(given.out, shlex.join(["python", *sys.argv])):
        return work(given)


def work(given: argparse.Namespace) -> int:
    """What the command line says."""
    torch.set_num_threads(given.threads)
    changes = {"task.data": str(given.extreme), "task.num_test": given.held_out} | parsed(given.set)
    preset = presets.get("sudoku", given.preset, changes)
    task, model, guide, objective, fit = presets.build(preset, seed=given.seed)
    if given.start and not (given.out / STATE_FILE).exists():
        begin_from(given.start, model, guide)
    try:
        with at_most(given.minutes):
            history = gp.fit(
                model, guide, task, objective=objective, **fit, out=given.out, resume=None, seed=given.seed,
                before_update=kept(given.out, given.keep_every),
            )  # fmt: skip
    except TimeUp:
        print(f"the state is in {given.out / STATE_FILE}; the same command goes on")
        return NOT_FINISHED
    limits = {"chains": given.chains, "rounds": given.rounds, "views": given.views, "seed": given.seed}
    limits["doubt"] = model.threshold if given.doubt is None else given.doubt
    x = task.inputs("test")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    result: dict[str, Any] = {"device": device, "threads": given.threads, "settings": given.set, **limits}
    result |= {"preset": given.preset, "start": given.start, "batch_size": fit["batch_size"]}
    result |= {"updates": history[-1].update, "train_seconds": history[-1].seconds}
    result["parameters"] = sum(weights.numel() for weights in model.parameters())
    sets = {"Sudoku-Extreme": x}
    if given.seventeen is not None:
        few = gp.tasks.Sudoku(data=str(given.seventeen), num_validation=0, num_test=given.held_out, seed=given.seed)
        sets["17 clues"] = few.inputs("test")
    before = json_object(given.result)
    if any(before.get(key) != value for key, value in result.items()):
        before = {}  # of another run
    for name, some in sets.items():
        result[name] = before.get(name) or answered(model, task, some, **limits)
        print(name, result[name], flush=True)
        given.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    result["on the way"] = []
    for path in sorted(given.out.glob("at-*")):
        earlier, _, _ = gp.load(path, task=task)
        figures = answered(earlier.to(next(model.parameters()).device), task, x[: given.on_the_way], **limits)
        result["on the way"].append({"update": int(path.name.removeprefix("at-")), **figures})
        given.result.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result, given.result.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    with interrupt.prompt():
        sys.exit(main())
