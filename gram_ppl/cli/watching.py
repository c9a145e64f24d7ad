"""``gram-ppl watch``: a page on which trajectories of one puzzle can be watched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

from ..inference.course import course
from ..reporting.watch import summary, watch_page, watched
from ..tasks.base import Task
from .folders import answering, opened, thinking
from .options import Folder, Json, Mode, Seed, TestSteps
from .puzzles import known, read


def watch(
    folder: Folder,
    puzzle: Annotated[
        str | None,
        typer.Argument(metavar="PUZZLE|FILE|-", help="A puzzle; the first test input of the run if not given."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("watch.html"),
    samples: Annotated[int, typer.Option(min=1, help="Trajectories to watch.")] = 20,
    steps: TestSteps = None,
    mode: Mode = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Write a page to watch trajectories of one puzzle on: one HTML file, which opens offline.

    What they answer step by step, what they decide, how sure they are, where they contradict themselves and begin
    again, and how many of the puzzle's solutions they find. They think as for solve --all.
    """
    with answering(as_json) as document:
        model, task = opened(folder)
        x, shown = _input(task, puzzle)
        mode = mode or "coverage"
        options = thinking(folder, model, task, mode=mode, steps=steps, every=True)
        moments = list(course(model, x, num_samples=samples, seed=seed, **options))
        data = watched(task, x, moments, known(task, x))
        command = f"gram-ppl watch {folder} {shown} --samples {samples} --seed {seed} --mode {mode}"
        made = f"{command}\n{model.title} on {task.title}, {data['steps'][-1]} supervision steps"
        title = f"{task.title}: {samples} trajector{'y' if samples == 1 else 'ies'} "
        title += "of one puzzle" if len(x) else "from nothing"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(watch_page(title, made, data), encoding="utf-8")
        document |= {"folder": str(folder), "file": str(out), "samples": samples, "steps": data["steps"][-1]}
        document |= {"verified": sum(data["verified"][-1]), "different_verified": len(data["answers"])}
        document |= {"solutions": data["solutions"], "solutions_exact": data["exact"]}
        if not as_json:
            print(summary(data), out, sep="\n")


def _input(task: Task, puzzle: str | None) -> tuple[Tensor, str]:
    """The one puzzle ``[L_in]``, and how to say it again."""
    tests = task.inputs("test")
    if not tests.shape[-1] or puzzle is None:
        if puzzle is not None:
            raise ValueError("this model makes boards from nothing: it takes no puzzle")
        if not len(tests):
            raise ValueError("the run has no test inputs: a puzzle is needed")
        return tests[0], ""
    puzzles = read(task, puzzle)
    if len(puzzles) > 1:
        raise ValueError(f"{puzzle}: a page shows one puzzle, found {len(puzzles)}")
    return puzzles[0].x, f'"{puzzles[0].text}"'
