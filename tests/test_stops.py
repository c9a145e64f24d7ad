"""SIGTERM ends a run of any kind within ten seconds, whatever it is doing, and nothing is lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import gram_ppl as gp
from gram_ppl.cli import app
from gram_ppl.runtime import compilation
from gram_ppl.storage import checkpoint
from gram_ppl.storage.folder import STATE_FILE
from gram_ppl.training import interrupt
from gram_ppl.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SETTINGS: dict[str, Any] = {"updates": 6, "batch_size": 8, "evaluations": 2, "checkpoint_every": 2, "progress": False}
SECONDS = 10


@pytest.fixture(scope="module")
def task() -> gp.tasks.Sudoku:
    return gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=4, num_test=4, pool=10)


def fit(task: gp.tasks.Sudoku, out: Path, **changes: Any) -> None:
    model = gp.models.GRAM(task.spec, width=8)
    gp.fit(model, gp.guides.AmortizedGuide(model), task, out=out, resume=None, **SETTINGS | changes)


@contextmanager
def terminated(after: float = 0.2) -> Iterator[Callable[[], None]]:
    """Within, the process gets SIGTERM so many seconds after the call of what this yields; it must then be quick."""
    moment = []

    def kill() -> None:
        moment.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    timer = threading.Timer(after, kill)
    yield timer.start
    assert time.monotonic() - moment[0] < SECONDS
    timer.join()


def forever(*_: object) -> None:
    """Hundreds of calls, as of a compiler, in the middle of something."""
    for _call in range(600):
        time.sleep(0.1)


@pytest.mark.parametrize(("phase", "update", "state"), [
    ("the first update, which compiles", 0, None), ("the first update after a checkpoint", 4, 4),
    ("an evaluation", 2, 2), ("the last evaluation", 5, 5),
])  # fmt: skip
def test_training_stops_in_the_middle_of(
    task: gp.tasks.Sudoku, tmp_path: Path, phase: str, update: int, state: int | None
) -> None:
    def stuck(run: Trainer) -> None:
        if run.update == update:
            network = run.average.module if "evaluation" in phase else run.segment
            network.model.core.register_forward_pre_hook(forever)
            start()

    with terminated() as start, pytest.raises(interrupt.Stopped, match=f"after update {update} of 6"):
        fit(task, tmp_path / "cut", before_update=stuck)
    path = tmp_path / "cut" / STATE_FILE
    assert (checkpoint.read(path)[1]["update"] if path.exists() else None) == state
    for folder in ("cut", "whole"):
        fit(task, tmp_path / folder)
    tensors, others = (checkpoint.read(tmp_path / folder / STATE_FILE)[0] for folder in ("cut", "whole"))
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)


def test_a_signal_while_the_state_is_written_stops_before_the_evaluation(task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    def begin(request: interrupt.Request) -> None:
        request.where = None  # as while it is written
        signal.raise_signal(signal.SIGTERM)
        with request.at_once(3, 9):
            pytest.fail("it goes on")

    with pytest.raises(interrupt.Stopped, match="after update 3 of 9"), interrupt.deferred(tmp_path / "run") as request:
        begin(request)


@contextmanager
def losing(error: type[Exception] | None) -> Iterator[None]:
    """A library that makes another error, or none, of whatever passes through it."""
    try:
        yield
    except BaseException:
        if error is not None:
            raise error("a stack that is not empty") from None


@pytest.mark.parametrize(("error", "done"), [(AssertionError, 0), (SystemError, 0), (None, 1)])
def test_training_stops_where_a_library_loses_the_reason(
    task: gp.tasks.Sudoku, tmp_path: Path, error: type[Exception] | None, done: int
) -> None:
    def stuck(run: Trainer) -> None:
        if run.update == 0:
            with losing(error):
                start()
                forever()

    with terminated() as start, pytest.raises(interrupt.Stopped, match=f"after update {done} of 6"):
        fit(task, tmp_path, before_update=stuck)
    assert (tmp_path / STATE_FILE).exists() == (done == 1)


def test_a_command_stops_where_a_library_loses_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped, interrupt.resumable(tmp_path), losing(AssertionError):
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 143
    assert capsys.readouterr().err == "stopped by SIGTERM\n"


def test_updates_of_seconds_are_stored_one_by_one(
    task: gp.tasks.Sudoku, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gram_ppl.training.fit.SLOW", 0.0)
    seen = []

    def look(run: Trainer) -> None:
        path = tmp_path / STATE_FILE
        seen.append(checkpoint.read(path)[1]["update"] if path.exists() else 0)

    fit(task, tmp_path, updates=4, checkpoint_every=100, before_update=look)
    assert seen == [0, 1, 2, 3]


def test_the_measurement_at_the_end_of_train_stops_and_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["task.num_test=4", "task.num_validation=2", "model.width=8", "steps=2"]
    options = ["train", "sudoku", "--updates", "2", "--out", str(tmp_path), "--json"]
    options += [text for setting in settings for text in ("--set", setting)]
    with terminated(1.0) as start:
        hook: dict[str, Any] = {"before_update": lambda run: start() if run.update == 1 else None}
        monkeypatch.setattr("gram_ppl.cli.training.fit", partial(gp.fit, **hook))
        stopped = CliRunner().invoke(app, [*options, "--set", "samples=1000000"])
    monkeypatch.setattr("gram_ppl.cli.training.fit", gp.fit)
    assert (stopped.exit_code, stopped.stdout) == (143, "")
    assert stopped.stderr.startswith("stopped by SIGTERM; this goes on: gram-ppl train sudoku")
    again = CliRunner().invoke(app, [*options, "--resume", "--set", "samples=2"])
    assert again.exit_code == 0, again.stderr
    assert (tmp_path / "metrics.json").exists()


def test_answers_stop(task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    model = gp.models.GRAM(task.spec, width=8)
    with terminated() as start:
        start()
        with pytest.raises(SystemExit) as stopped, interrupt.resumable(tmp_path):
            gp.solve(model, task, task.inputs("test"), num_samples=100_000)
    assert stopped.value.code == 143


def ends(process: subprocess.Popen[str], said: str) -> None:
    """What the process says on standard error when it is terminated, and that it ends in time, by the signal."""
    process.terminate()
    start = time.monotonic()
    _, error = process.communicate(timeout=60)
    assert time.monotonic() - start < SECONDS
    assert (process.returncode, said in error) == (143, True), error


def test_a_process_that_compiles_ends(tmp_path: Path) -> None:
    if not compilation.possible(torch.device("cpu")):
        pytest.skip("no C++ compiler")
    command = [sys.executable, "-m", "gram_ppl.cli", "train", "sudoku", "--updates", "9", "--out", "run"]
    command += ["--set", "fit.compile=true"]
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    cold = ENVIRONMENT | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    process = subprocess.Popen(command, cwd=tmp_path, env=cold, **pipes)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("cache/*/*")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    ends(process, "stopped by SIGTERM after update 0 of 9\n")


DEAF = """
import hashlib, threading
from gram_ppl.training import interrupt
with interrupt.prompt(grace=0.5), interrupt.resumable("nowhere"):
    threading.Timer(1, print, ("deaf",), {"flush": True}).start()  # by then the call below is under way
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 30)
"""


def test_a_process_ends_that_does_not_come_to_python(tmp_path: Path) -> None:
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", DEAF], cwd=tmp_path, env=ENVIRONMENT, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "deaf\n"
    ends(process, "s after SIGTERM; the last checkpoint is whole\n")
