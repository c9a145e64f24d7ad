"""``gram-ppl solve``: one selected answer to each puzzle, or all of its solutions that sampling finds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import Tensor, nn

from ..inference.select import Selector, distinct, verified_answers
from ..inference.solve import solve as solved
from ..tasks.base import Task
from .folders import answering, opened, selector, side_by_side, thinking
from .options import Folder, Json, Mode, Samples, Seed, Select, TestSteps
from .puzzles import STDIN, Puzzle, count, graph, read

TOGETHER = 64  # puzzles that are answered at a time


def solve(
    folder: Folder,
    puzzle: Annotated[
        str, typer.Argument(metavar="PUZZLE|FILE|-", help="A puzzle, a file of puzzles, or standard input.")
    ] = STDIN,
    graph_file: Annotated[
        Path | None, typer.Option("--graph", help="A file with a graph: DIMACS .col, edge list, GraphML, ...")
    ] = None,
    samples: Samples = 20,
    steps: TestSteps = None,
    select: Select = None,
    mode: Mode = None,
    every: Annotated[bool, typer.Option("--all", help="All different verified answers.")] = False,
    max_samples: Annotated[int, typer.Option(min=1, help="With --all: trajectories for a puzzle, at most.")] = 1000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Answer puzzles: one selected answer each or, with --all, every solution that sampling finds.

    In a file or on standard input a puzzle is a line, or stands as other programs write it (docs/formats.md); blank
    lines and lines that start with # are skipped. All puzzles are checked before any is answered. --all goes on
    sampling, --samples at a time, until it has found all solutions that exist or has drawn --max-samples. Every answer
    is checked by the task's exact verifier.
    """
    with answering(as_json) as document:
        chosen = selector(select)
        if every and chosen is not None:
            raise ValueError("--all gives every verified answer: --select does not go with it")
        if graph_file is not None and puzzle != STDIN:
            raise ValueError("--graph: give a file or a puzzle, not both")
        model, task = opened(folder)
        if task.inputs("test").shape[-1] == 0:
            raise ValueError(f"{folder}: this model makes answers from nothing: use gram-ppl generate")
        puzzles = read(task, puzzle) if graph_file is None else graph(task, graph_file)
        torch.manual_seed(seed)
        mode = mode or ("coverage" if every else "accuracy")
        options = thinking(folder, model, task, mode=mode, steps=steps, every=every) | {"mode": mode}
        document |= {"folder": str(folder), "task": type(task).__name__, "mode": mode, "puzzles": []}
        for first in range(0, len(puzzles), 1 if every else TOGETHER):
            some = puzzles[first : first + (1 if every else TOGETHER)]
            if every:
                found = [_every(model, task, some[0], samples, max_samples, options)]
            else:
                found = _selected(model, task, some, samples, chosen, options)
            for one, result in zip(some, found, strict=True):
                document["puzzles"].append(result)
                if not as_json:
                    _show(task, one, result, heading=len(puzzles) > 1)


def _selected(
    model: nn.Module, task: Task, puzzles: list[Puzzle], samples: int, chosen: Selector | None, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """One answer to each puzzle."""
    x = torch.stack([one.x for one in puzzles])
    answers = solved(model, task, x, num_samples=samples, select=chosen, **options)
    different = verified_answers(task, x.to(answers.tokens.device), answers.rollouts)
    return [
        {
            "puzzle": puzzle.text,
            "answers": [_answer(task, puzzle.x, y)],
            "score": score,
            "samples": samples,
            "steps": int(answers.rollouts.steps.max()),
            "different_verified": len(found),
        }
        | ({"answered": answered} if answers.answered is not None else {})
        for puzzle, y, score, found, answered in zip(
            puzzles, answers.tokens.cpu(), answers.score.tolist(), different,
            [True] * len(x) if answers.answered is None else answers.answered.tolist(), strict=True,
        )
    ]  # fmt: skip


def _every(
    model: nn.Module, task: Task, puzzle: Puzzle, samples: int, most: int, options: dict[str, Any]
) -> dict[str, Any]:
    """All different verified answers to one puzzle, in the order in which they were found."""
    number, exact = count(task, puzzle.x)
    found = torch.zeros(0, task.spec.len_out, dtype=torch.long)
    drawn = 0
    while drawn < most and (len(found) < number or not exact):
        more = min(samples, most - drawn)
        rollouts = solved(model, task, puzzle.x, num_samples=more, **options).rollouts
        (new,) = verified_answers(task, puzzle.x[None].to(rollouts.tokens.device), rollouts)
        pool = torch.cat([found, new.cpu()])
        found = pool[distinct(pool[None], torch.ones(1, len(pool), dtype=torch.bool))[0]]
        drawn += more
    answers = [_answer(task, puzzle.x, y) for y in found]
    return {
        "puzzle": puzzle.text,
        "answers": answers,
        "samples": drawn,
        "solutions": number,
        "solutions_exact": exact,
        "complete": exact and len(found) == number,
    }


def _answer(task: Task, x: Tensor, y: Tensor) -> dict[str, Any]:
    return {"tokens": y.tolist(), "text": task.render(x, y), "verified": bool(task.verify(x, y))}


def _show(task: Task, puzzle: Puzzle, result: dict[str, Any], heading: bool) -> None:
    """The answers side by side, and a line that says what was found."""
    console = Console(highlight=False, markup=False)
    if heading:
        console.print(puzzle.text)
    answers = result["answers"]
    console.print(side_by_side([task.render(puzzle.x), *(answer["text"] for answer in answers)]))
    samples = f"{result['samples']:,} samples"
    if result.get("solutions") == 0:
        console.print("no solution of it is known: no answer can be verified\n", soft_wrap=True)
        return
    if "solutions" in result:
        number = f"{result['solutions']:,}" if result["solutions_exact"] else f"at least {result['solutions']:,}"
        limit = "" if result["complete"] else ", as many as --max-samples allows"
        console.print(f"{len(answers):,} of {number} solutions, each verified, in {samples}{limit}\n", soft_wrap=True)
        return
    if not result.get("answered", True):
        console.print(f"no answer in {samples}\n", soft_wrap=True)
        return
    verdict = "verified" if answers[0]["verified"] else "NOT verified"
    if verdict == "NOT verified" and task.listable and count(task, puzzle.x)[0] == 0:
        verdict = "not to be verified, as no solution of it is known"
    number = result["different_verified"]
    different = f"{number} different verified answer{'' if number == 1 else 's'} in {samples}"
    console.print(f"{verdict}, score {result['score']:.2f}; {different}\n", soft_wrap=True)
