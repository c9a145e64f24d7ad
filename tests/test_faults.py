"""What can go wrong around a run: signals, kill -9, two processes, a full disk, too little memory, hostile files."""

import importlib.util
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import gram_ppl as gp
from gram_ppl.cli import app
from gram_ppl.storage import checkpoint
from gram_ppl.storage import folder as run_folder
from gram_ppl.storage.folder import STATE_FILE
from gram_ppl.training import interrupt
from gram_ppl.training.record import History
from gram_ppl.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SETTINGS: dict[str, Any] = {"updates": 12, "batch_size": 8, "evaluations": 2, "checkpoint_every": 5, "progress": False}
TINY = ["--preset", "cpu", "--set", "task.num_test=4", "--set", "task.num_validation=2", "--set", "model.width=8",
        "--set", "samples=2", "--set", "steps=1"]  # fmt: skip


@pytest.fixture(scope="module")
def task() -> gp.tasks.Sudoku:
    return gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=10, num_test=10)


def fit(task: gp.tasks.Sudoku, out: Path | None = None, resume: bool = False, **changes: Any) -> History:
    model = gp.models.GRAM(task.spec, width=8, mixer=gp.nn.Attention(heads=2))
    guide = gp.guides.AmortizedGuide(model)
    return gp.fit(model, guide, task, out=out, resume=resume, **SETTINGS | changes)


def at_update(number: int, act: Callable[[], object]) -> dict[str, Any]:
    """A hook: ``act()`` before one update, counted from 0; once, so that a resumed run is left alone."""
    pending = [number]

    def watch(run: Trainer) -> None:
        if pending and run.update == pending[0]:
            pending.clear()
            act()

    return {"before_update": watch}


def content(folder: Path) -> tuple[dict[str, torch.Tensor], list[Any]]:
    """Everything that a run leaves, but for what a clock says: tensors and document of its two files."""
    tensors, document = checkpoint.read(folder / STATE_FILE)
    del document["seconds"]
    document["history"] = [[*record[:1], *record[2:]] for record in document["history"]]
    model, described = checkpoint.read(folder / "model.safetensors")
    return tensors | {f"file.{name}": tensor for name, tensor in model.items()}, [document, described]


def assert_same_run(one: Path, other: Path) -> None:
    (tensors, documents), (others, their_documents) = content(one), content(other)
    assert tensors.keys() == others.keys()
    assert [key for key in tensors if not torch.equal(tensors[key], others[key])] == []
    assert documents == their_documents


@pytest.fixture(scope="module")
def uninterrupted(task: gp.tasks.Sudoku, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults") / "whole"
    fit(task, folder)
    return folder


def handlers() -> list[Any]:
    return [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]


def twice(signum: signal.Signals) -> None:
    signal.raise_signal(signum)
    signal.raise_signal(signum)


# Signals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_update_in_flight_and_nothing_is_lost(
    task: gp.tasks.Sudoku, uninterrupted: Path, tmp_path: Path, signum: signal.Signals
) -> None:
    before = handlers()
    hook = at_update(7, lambda: signal.raise_signal(signum))
    with pytest.raises(interrupt.Stopped, match=r"after update 8 of 12.*resume=True goes on") as stopped:
        fit(task, tmp_path, **hook)
    assert str(tmp_path) in str(stopped.value)
    assert stopped.value.signum == signum
    assert handlers() == before
    assert checkpoint.read(tmp_path / STATE_FILE)[1]["update"] == 8  # the next of its own would be 10
    assert not (tmp_path / "model.safetensors").exists()
    fit(task, tmp_path, resume=True)
    assert handlers() == before
    assert_same_run(uninterrupted, tmp_path)


@pytest.mark.parametrize(("update", "evaluations", "reached"), [(11, 0, 12), (11, 2, 11), (5, 2, 5)])
def test_a_signal_stops_at_once_where_the_state_is_in_the_folder(
    task: gp.tasks.Sudoku, tmp_path: Path, update: int, evaluations: int, reached: int
) -> None:
    """It is there after a checkpoint, and before an update that evaluates."""
    fit(task, tmp_path / "whole", evaluations=evaluations)
    hook = at_update(update, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(interrupt.Stopped, match=f"after update {reached} of 12"):
        fit(task, tmp_path / "cut", evaluations=evaluations, **hook)
    assert checkpoint.read(tmp_path / "cut" / STATE_FILE)[1]["update"] == reached
    fit(task, tmp_path / "cut", resume=True, evaluations=evaluations)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_second_interrupt_stops_at_once_and_a_second_termination_changes_nothing(
    task: gp.tasks.Sudoku, tmp_path: Path
) -> None:
    before = handlers()
    hook = at_update(7, partial(twice, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(task, tmp_path, **hook)
    assert not isinstance(stopped.value, interrupt.Stopped)
    assert handlers() == before
    assert checkpoint.read(tmp_path / STATE_FILE)[1]["update"] == 5
    hook = at_update(7, partial(twice, signal.SIGTERM))
    with pytest.raises(interrupt.Stopped, match="after update 8"):
        fit(task, tmp_path, resume=True, **hook)


def test_without_a_folder_signals_act_as_ever(task: gp.tasks.Sudoku) -> None:
    hook = at_update(1, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(task, **hook)
    assert not isinstance(stopped.value, interrupt.Stopped)


def test_ignored_signals_stay_ignored(task: gp.tasks.Sudoku, uninterrupted: Path, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what runs in its background
    try:
        hook = at_update(3, lambda: signal.raise_signal(signal.SIGINT))
        fit(task, tmp_path, **hook)
    finally:
        signal.signal(signal.SIGINT, before)
    assert_same_run(uninterrupted, tmp_path)


def test_other_threads_train_without_handlers(task: gp.tasks.Sudoku, uninterrupted: Path, tmp_path: Path) -> None:
    before, during = handlers(), []

    def train() -> None:
        fit(task, tmp_path)
        during.extend(handlers())

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert during == before
    assert_same_run(uninterrupted, tmp_path)


def test_a_request_that_nobody_took_is_delivered(tmp_path: Path) -> None:
    def ask(request: interrupt.Request) -> None:
        request.where = None
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), interrupt.deferred(tmp_path) as request:
        ask(request)


def test_an_error_comes_before_a_request(tmp_path: Path) -> None:
    def fail(request: interrupt.Request) -> None:
        request.where = None
        signal.raise_signal(signal.SIGINT)
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"), interrupt.deferred(tmp_path) as request:
        fail(request)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_names_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals, code: int
) -> None:
    folder = tmp_path / "a run"
    hook = at_update(3, lambda: signal.raise_signal(signum))
    monkeypatch.setattr("gram_ppl.cli.training.fit", partial(gp.fit, **hook))
    call = CliRunner().invoke
    stopped = call(app, ["train", "sudoku", "--updates", "6", "--out", str(folder), *TINY, "--json"])
    assert (stopped.exit_code, stopped.stdout) == (code, "")
    name = "Ctrl-C" if signum == signal.SIGINT else "SIGTERM"
    command = f"gram-ppl train sudoku --out '{folder}' --resume"
    assert stopped.stderr == f"stopped by {name} after update 3 of 6; this goes on: {command}\n"
    assert call(app, ["train", "sudoku", "--out", str(folder), "--resume"]).exit_code == 0
    assert call(app, ["train", "sudoku", "--updates", "6", "--out", str(tmp_path / "whole"), *TINY]).exit_code == 0
    assert_same_run(tmp_path / "whole", folder)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_command_lines_stop_outside_training_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signum: signal.Signals, code: int
) -> None:
    before = handlers()
    for sentence in ("", "; this goes on: go on"):
        with pytest.raises(SystemExit) as stopped, interrupt.resumable(tmp_path, "go on"):
            signal.raise_signal(signum)
        assert stopped.value.code == code
        assert capsys.readouterr().err.endswith(f"{sentence}\n")
        assert handlers() == before
        (tmp_path / STATE_FILE).touch()


def example(name: str) -> Callable[..., None]:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_examples_name_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["examples/queens_svi.py", "--n", "5"])
    hook = at_update(2, lambda: signal.raise_signal(signal.SIGTERM))
    whole = gp.fit
    monkeypatch.setattr(gp, "fit", partial(whole, **hook))
    with pytest.raises(SystemExit) as stopped:
        example("queens_svi")(n=5, updates=6)
    assert stopped.value.code == 143
    assert "after update 2 of 6; this goes on: " in (said := capsys.readouterr().err)
    assert said.endswith(" examples/queens_svi.py --n 5 --resume\n")
    hook = at_update(2, lambda: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(gp, "fit", partial(whole, **hook))
    with pytest.raises(SystemExit) as stopped:
        example("sudoku_svi")(updates=6, held_out=20, samples=1, steps=1)
    assert stopped.value.code == 130
    assert "this goes on: python examples/queens_svi.py --resume runs/sudoku\n" in capsys.readouterr().err
    example("sudoku_svi")(resume=Path("runs/sudoku"))
    assert json.loads((tmp_path / "runs" / "sudoku" / "metrics.json").read_text())["updates"] == 6


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_every_example_with_a_folder_is_resumable(path: Path) -> None:
    text = path.read_text()
    assert ("out=out" in text) == ("interrupt.resumable(" in text)


def wait_for(path: Path, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    assert path.exists(), process.communicate()


def test_a_process_that_is_terminated_ends_with_143(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gram_ppl.cli", "train", "sudoku", "--updates", "2000", "--out", "run", *TINY]
    command += ["--set", "fit.evaluations=0"]
    pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, **pipes)
    wait_for(tmp_path / "run" / STATE_FILE, process)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    update = int(said.split("after update ")[1].split()[0])
    assert said == f"stopped by SIGTERM after update {update} of 2000; this goes on: " + (
        "gram-ppl train sudoku --out run --resume\n"
    )
    assert checkpoint.read(tmp_path / "run" / STATE_FILE)[1]["update"] == update


# kill -9 --------------------------------------------------------------------------------------------------------------

# A process that has imported everything and forks one that trains for each line: "FOLDER UPDATES RESUME".
FORKS = """
import os, sys, traceback
import torch._dynamo
import gram_ppl as gp

def run(folder, updates, resume):
    task = gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=10, num_test=10)
    model = gp.models.GRAM(task.spec, width=8, mixer=gp.nn.Attention(heads=2))
    began = []
    def tell(trainer):
        if trainer.update and not began:
            began.append(print("begins", flush=True))
    gp.fit(model, gp.guides.AmortizedGuide(model), task, out=folder, resume=resume == "True", updates=int(updates),
           batch_size=8, evaluations=4, heads_every=5, checkpoint_every=1, progress=False, before_update=tell)

for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            run(*line.split())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Forks:
    """One process after the other, each training in a folder."""

    def __init__(self, updates: int) -> None:
        self.updates = updates
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.server = subprocess.Popen([sys.executable, "-c", FORKS], env=ENVIRONMENT, text=True, **pipes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.communicate()

    def said(self) -> str:
        assert self.server.stdout is not None
        return str(self.server.stdout.readline()).strip()

    def start(self, folder: Path) -> int:
        """The number of the process, which has just done its first update."""
        assert self.server.stdin is not None
        self.server.stdin.write(f"{folder} {self.updates} {(folder / STATE_FILE).exists()}\n")
        self.server.stdin.flush()
        first, second = self.said(), self.said()
        assert "begins" in (first, second)
        return int(first if second == "begins" else second)


@pytest.mark.parametrize(
    ("kills", "updates"), [pytest.param(3, 150, id="3"), pytest.param(20, 1000, id="20", marks=pytest.mark.slow)]
)
def test_killed_at_random_moments_nothing_is_lost(tmp_path: Path, kills: int, updates: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    moments = random.Random(kills)
    reached, mid_write = [], 0
    with Forks(updates) as forks:
        forks.start(whole)
        began = time.monotonic()
        assert forks.said() == "0"
        longest = (time.monotonic() - began) / kills  # of a part: on average the parts are half of the run
        for _ in range(kills):
            process = forks.start(cut)
            time.sleep(moments.uniform(0, longest))
            os.kill(process, signal.SIGKILL)
            assert forks.said() == str(-signal.SIGKILL), "the run ended before it was killed"
            mid_write += len(list(cut.glob(".*.tmp")))
            if (cut / STATE_FILE).exists():
                reached.append(checkpoint.read(cut / STATE_FILE)[1]["update"])
        assert not (cut / "model.safetensors").exists()
        forks.start(cut)
        assert forks.said() == "0"
    assert reached == sorted(reached)
    assert reached[-1] > 0.1 * updates
    assert_same_run(whole, cut)
    assert list(cut.glob(".*.tmp")) == []
    print(f"\n{kills} kills, {mid_write} of them in the middle of writing, at updates {reached} of {updates}")


# Two processes --------------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from gram_ppl.storage.folder import locked
with locked(sys.argv[1]):
    print("holds", flush=True)
    time.sleep(600)
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that trains in the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], env=ENVIRONMENT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holds\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_two_processes_refuse_each_other_and_readers_go_on(
    task: gp.tasks.Sudoku, uninterrupted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    files = {path: path.read_bytes() for path in folder.iterdir() if path.name != run_folder.LOCK_FILE}
    with held(folder) as process:
        sentence = rf"{folder}: another run \(process {process.pid}\) is training in this folder"
        for resume in (False, True):
            with pytest.raises(run_folder.FolderInUse, match=sentence):
                fit(task, folder, resume=resume)
        fresh = ["train", "sudoku", "--updates", "3", *TINY, "--out", str(tmp_path / "new")]
        with held(tmp_path / "new"):
            done = CliRunner().invoke(app, fresh)
            assert (done.exit_code, done.stdout) == (2, "")
            assert done.stderr.startswith(f"error: {tmp_path / 'new'}: another run")
            assert len(done.stderr.splitlines()) == 1
            assert not (tmp_path / "new" / "run.json").exists()
        model, _, _ = gp.load(folder)
        assert gp.metrics.evaluate(model, task, num_samples=1, steps=1)["num_test"] == 10
        done = CliRunner().invoke(app, ["evaluate", str(folder), "--samples", "1", "--steps", "1"])
        assert done.exit_code == 0, done.output
    assert all(path.read_bytes() == old for path, old in files.items())
    fit(task, folder, resume=True)  # it was killed, and its lock with it


def test_a_thread_may_lock_again_and_another_may_not(task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    found = []

    def other() -> None:
        try:
            fit(task, tmp_path)
        except run_folder.FolderInUse as error:
            found.append(error)

    with run_folder.locked(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        with run_folder.locked(tmp_path):
            pass
        fit(task, tmp_path, updates=2)
    with run_folder.locked(tmp_path):
        pass
    assert len(found) == 1


def test_what_killed_processes_left_half_written_is_removed(tmp_path: Path) -> None:
    left, other = tmp_path / ".state.safetensors.4711.tmp", tmp_path / "notes.tmp"
    left.touch()
    other.touch()
    with held(tmp_path), pytest.raises(run_folder.FolderInUse), run_folder.locked(tmp_path):
        pass
    left.touch()  # the one that holds it did remove it
    with run_folder.locked(tmp_path):
        assert not left.exists()
        assert other.exists()


# A full disk ----------------------------------------------------------------------------------------------------------


@contextmanager
def limited_files(size: int) -> Iterator[None]:
    """Within, no file grows beyond a size: the system's own refusal, of another number than that of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not allowed")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def assert_refused(error: OSError, folder: Path, cause: str) -> None:
    assert str(error) == f"{folder / STATE_FILE}: the checkpoint could not be written: {cause}"
    assert checkpoint.read(folder / STATE_FILE)[1]["update"] == 5
    assert [path for path in folder.iterdir() if path.name.endswith(".tmp")] == []


def test_a_disk_that_fills_up_leaves_the_old_checkpoint_whole(
    task: gp.tasks.Sudoku, uninterrupted: Path, small_disk: Path
) -> None:
    folder, ballast = small_disk / "run", small_disk / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    hook = at_update(7, fill)
    with pytest.raises(OSError, match="No space left") as failed:
        fit(task, folder, **hook)
    assert_refused(failed.value, folder, "No space left on device")
    with pytest.raises(OSError, match="No space left") as failed:  # a further try does no harm
        fit(task, folder, resume=True)
    assert_refused(failed.value, folder, "No space left on device")
    ballast.unlink()
    fit(task, folder, resume=True)
    assert_same_run(uninterrupted, folder)


def test_a_file_that_may_not_grow_leaves_the_old_checkpoint_whole(
    task: gp.tasks.Sudoku, uninterrupted: Path, tmp_path: Path
) -> None:
    limit = limited_files(20_000)
    hook = at_update(7, limit.__enter__)
    try:
        with pytest.raises(OSError, match="could not be written") as failed:
            fit(task, tmp_path, **hook)
    finally:
        limit.__exit__(None, None, None)
    assert failed.value.errno == 27
    assert_refused(failed.value, tmp_path, "File too large")
    fit(task, tmp_path, resume=True)
    assert_same_run(uninterrupted, tmp_path)


def test_a_full_disk_on_the_command_line(small_disk: Path) -> None:
    folder = small_disk / "run"
    asked = ["train", "sudoku", "--updates", "6", "--preset", "cpu", "--out", str(folder), "--json"]  # 2 MB
    done = CliRunner().invoke(app, asked)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {folder / STATE_FILE}: the checkpoint could not be written: No space left on device\n"
    )
    assert sorted(path.name for path in folder.iterdir()) == [run_folder.LOCK_FILE, "run.json"]


# Too little memory ----------------------------------------------------------------------------------------------------


def little_memory(run: Trainer) -> None:
    """A hook: segments of more than 6 rows don't fit."""

    def bounded(segment: nn.Module, args: tuple[Any, ...]) -> None:
        if len(args[1]) > 6:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of"
            )

    run.segment.register_forward_pre_hook(bounded)


@pytest.mark.parametrize(("batch_size", "advice"), [(64, 32), (36, 16), (12, 4), (8, 4)])
def test_too_little_memory_says_which_batch_size_to_try(task: gp.tasks.Sudoku, batch_size: int, advice: int) -> None:
    sentence = rf"update 0: out of memory with batch_size={batch_size}: try batch_size={advice}, .*no checkpoint"
    with pytest.raises(torch.OutOfMemoryError, match=sentence) as failed:
        fit(task, batch_size=batch_size, before_update=little_memory)
    assert "Tried to allocate" in str(failed.value.__cause__)
    if advice <= 6:
        fit(task, batch_size=advice, updates=2, before_update=little_memory)


def test_too_little_memory_for_the_smallest_batch_and_in_mid_run(task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    def fail() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = at_update(7, fail)
    with pytest.raises(torch.OutOfMemoryError, match=r"smallest batch size.*state\.safetensors, update 5"):
        fit(task, tmp_path, batch_size=4, **hook)


def test_too_little_memory_on_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gram_ppl.cli.training.fit", partial(gp.fit, before_update=little_memory))
    done = CliRunner().invoke(app, ["train", "sudoku", "--updates", "3", "--out", str(tmp_path), *TINY])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: update 0: out of memory with batch_size=64: try batch_size=32")
    assert len(done.stderr.splitlines()) == 1


# Damaged, foreign and hostile files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [pytest.param(10, id="120"), pytest.param(250, id="3000", marks=pytest.mark.slow)])
def test_no_file_does_harm(tmp_path: Path, rounds: int) -> None:
    script = ROOT / "tests" / "fuzz_checkpoints.py"
    command = [sys.executable, str(script), str(tmp_path / "run"), str(rounds)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["events"] == []
    assert found["grown_mib"] < 64  # the files have 0.07
    assert sum(found["counts"].values()) == 2 + 12 * rounds
    print(f"\n{found}")


LOADABLE = {
    "GRAM": lambda spec: gp.models.GRAM(spec, width=8, shared=False, mixer=gp.nn.TokenMixing(16)),
    "RoPE": lambda spec: gp.models.GRAM(spec, width=8, layers=2, mixer=gp.nn.Attention(heads=2, rope=True)),
    "no noise": lambda spec: gp.models.GRAM(spec, width=8, noise=gp.models.NoNoise(), positions=False, registers=3),
    "heads": lambda spec: gp.models.GRAM(spec, width=8, heads=gp.heads.Heads(8, hidden=5)),
    "Direct": lambda spec: gp.models.Direct(spec, width=8, layers=3),
    "HRM": lambda spec: gp.models.HRM(spec, width=8),
    "LoopedTransformer": lambda spec: gp.models.LoopedTransformer(spec, width=8),
    "TRM": lambda spec: gp.models.TRM(spec, width=8),
}
ENCODERS: dict[str, tuple[gp.tasks.Task, Any]] = {
    "NodeTokens": (gp.tasks.GraphColoring(n=5, num_train=20, num_validation=2, num_test=2), gp.models.NodeTokens()),
    "Patches": (gp.tasks.BinarizedMNIST(num_validation=2, num_test=2), gp.models.Patches(patch=4, channels=8)),
}


@pytest.mark.parametrize("name", [*LOADABLE, *ENCODERS])
def test_whole_files_load_bit_for_bit_and_leave_the_generator_alone(
    task: gp.tasks.Sudoku, tmp_path: Path, name: str
) -> None:
    world, encoder = ENCODERS.get(name, (task, None))
    model: Any = gp.models.GRAM(world.spec, width=8, encoder=encoder) if encoder else LOADABLE[name](world.spec)
    noisy = hasattr(model, "guidance")
    guide = gp.guides.AmortizedGuide(model) if noisy else gp.guides.Empty(model)
    with torch.no_grad():
        for tensor in [*model.parameters(), *guide.parameters()]:
            tensor.normal_()
    gp.save(tmp_path, model, guide, world)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    again, its_guide, _ = gp.load(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in ((model, again), (guide, its_guide)):
        pairs = zip([*one.parameters(), *one.buffers()], [*other.parameters(), *other.buffers()], strict=True)
        assert all(torch.equal(a, b) and a.device == b.device for a, b in pairs)
    x = world.inputs("test")
    answers = (gp.rollout(m, x, num_samples=2, steps=2, seed=1).tokens for m in (model, again))
    assert torch.equal(*answers)


def test_sizes_that_agree_with_the_tensors_are_still_bounded(task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    """Many register tokens, all of them in the file: what is computed from them grows with their square."""
    model = gp.models.GRAM(task.spec, width=4, mixer=gp.nn.Attention(heads=1), registers=1)
    guide = gp.guides.AmortizedGuide(model)
    gp.save(tmp_path, model, guide, task)
    path = tmp_path / "model.safetensors"
    tensors, document = checkpoint.read(path)
    document["model"]["arguments"]["registers"] = many = 20_000
    tensors["model.encoder.extra"] = torch.zeros(many, 4)
    tensors |= {f"model.{name}": torch.zeros(many + 16, 4) for name in ("h0", "l0")}
    checkpoint.write(path, tensors, document)
    with pytest.raises(gp.CheckpointError, match=r"model\.safetensors: .*buffers of 4,80\d,\d{3},\d{3} bytes"):
        gp.load(tmp_path)
