"""What one of several processes does in the tests of :mod:`gram_ppl.runtime.processes`; ``torchrun`` starts it.

    torchrun --nproc-per-node 2 tests/processes.py FOLDER UPDATES NAME [KILL]

Each process writes its final parameters to ``FOLDER/NAME-RANK.safetensors``. With KILL, rank 1 of the first start dies
by SIGKILL in that update.

    torchrun --nproc-per-node 2 tests/processes.py FOLDER UPDATES kinds

trains one model of each of KINDS.

    torchrun --nproc-per-node 2 tests/processes.py gram-ppl [ARGUMENT ...]

is the command line; KILL stands in the environment.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file

import gram_ppl as gp
from gram_ppl.cli import app, training
from gram_ppl.runtime import precision
from gram_ppl.training.trainer import Trainer


@contextmanager
def exact() -> Iterator[None]:
    """Within, runs are in float64: rounding, which follows the number of rows, stays far below what is compared."""
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(precision, "use_bf16", return_value=False):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def fit(folder: Path | None, updates: int, **options: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """A tiny run; parameters of model and guide, and the history."""
    with exact():
        return _fit(folder, updates, **options)


def halting(task: gp.tasks.Sudoku) -> gp.models.TRM:
    """A TRM that halts wherever its exploration lets it."""
    model = gp.models.TRM(task.spec, width=16, exploration=0.5)
    torch.nn.init.constant_(model.q.bias, 5.0)
    return model


def kind(name: str, updates: int, **more: Any) -> dict[str, torch.Tensor]:
    """Parameters after a run of one of KINDS."""
    torch.set_num_threads(1)
    task = gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=5, num_test=4, pool=1)
    data: gp.tasks.Task = gp.tasks.Unconditional(task) if name == "unconditional" else task
    settings: dict[str, Any] = {"batch_size": 16, "evaluations": 2 if data is task else 0, "progress": False}
    with exact():
        model, guide, options = KINDS[name](task)
        gp.fit(model, guide(model), data, updates=updates, device="cpu", **settings, **options, **more)
    return dict(model.state_dict())


KINDS: dict[str, Any] = {
    "halting": lambda task: (halting(task), gp.guides.Empty, {}),
    "unconditional": lambda task: (gp.models.GRAM(task.spec, width=16), gp.guides.AmortizedGuide, {}),
    "heads": lambda task: (gp.models.GRAM(task.spec, width=16), gp.guides.AmortizedGuide, {"heads_every": 4}),
    "scheduled": lambda task: (
        gp.models.GRAM(task.spec, width=16),
        gp.guides.AmortizedGuide,
        {"scheduled_sampling": 0.5},
    ),
}


def _fit(folder: Path | None, updates: int, **options: Any) -> tuple[dict[str, torch.Tensor], Any]:
    torch.set_num_threads(1)
    task = gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=8, num_test=4)
    model = gp.models.GRAM(task.spec, width=16)
    guide = gp.guides.AmortizedGuide(model)
    settings: dict[str, Any] = {"batch_size": 16, "evaluations": 2, "evaluate_on": 8, "progress": False}
    settings |= {"checkpoint_every": 10, "device": "cpu", "out": folder}
    history = gp.fit(model, guide, task, updates=updates, **settings, **options)
    return {**model.state_dict(), **{f"guide.{name}": value for name, value in guide.state_dict().items()}}, history


def main() -> None:
    """Train, and write down where it ended."""
    if sys.argv[1] == "gram-ppl":
        folder, updates, name, kill = Path(), 0, "", os.environ.get("KILL", "").split()
    else:
        folder, updates, name, *kill = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], *sys.argv[4:]
    rank, again = int(os.environ.get("RANK", "0")), int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    stop_at = int(os.environ.get("STOP_AT", "0"))

    def hook(run: Trainer) -> None:
        if kill and rank == 1 and not again and run.update == int(kill[0]):
            os.kill(os.getpid(), signal.SIGKILL)
        if run.update and run.update == stop_at:
            run.shares.wait()
            sys.exit(0)

    if sys.argv[1] == "gram-ppl":
        with mock.patch.object(training, "fit", partial(gp.fit, before_update=hook)):
            app(sys.argv[2:])
    if name == "kinds":
        for name in KINDS:
            save_file(kind(name, updates), folder / f"{name}-{rank}.safetensors")
        return
    weights, history = fit(folder, updates, resume=None, before_update=hook)
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / f"{name}-{rank}.safetensors")
    (folder / f"{name}-{rank}.json").write_text(json.dumps([list(record) for record in history]))


if __name__ == "__main__":
    main()
