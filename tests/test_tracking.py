"""Tracking: what is logged and under which names, that it changes nothing, times, counted products, bad trackers."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate.tracking
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import gram_ppl as gp
from gram_ppl.cli import app
from gram_ppl.runtime import clocks
from gram_ppl.runtime.compilation import eager
from gram_ppl.training import flops, tracking
from gram_ppl.training.record import Record
from gram_ppl.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from gemm import Products

CPU = torch.device("cpu")
PARTS = ("data", "forward", "backward", "optimiser")
NO_TENSORBOARD = not any(map(importlib.util.find_spec, ("tensorboard", "tensorboardX")))


class Memory:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.closed = 0

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(scope="module")
def task() -> gp.tasks.Sudoku:
    return gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=8, num_test=8)


def parts(task: gp.tasks.Sudoku, model: Any = gp.models.GRAM, guide: Any = gp.guides.AmortizedGuide) -> tuple[Any, Any]:
    program = model(task.spec, width=8, mixer=gp.nn.Attention(heads=2))
    return program, guide(program)


def run(task: gp.tasks.Sudoku, **options: Any) -> tuple[list[torch.Tensor], Any]:
    model, guide = parts(task)
    settings: dict[str, Any] = {"updates": 8, "batch_size": 8, "evaluations": 2, "evaluate_on": 4, "heads_every": 4}
    history = gp.fit(model, guide, task, progress=False, device="cpu", **settings | options)
    random = torch.get_rng_state()
    return [*(p.detach().clone() for module in (model, guide) for p in module.parameters()), random], history


# What is logged -------------------------------------------------------------------------------------------------------


def test_every_record_is_logged_and_the_run_is_the_same_bit_for_bit(task: gp.tasks.Sudoku) -> None:
    plain, expected = run(task)
    tracker = Memory()
    tracked, history = run(task, tracker=tracking.Options(tracker, peak=0.5))  # flops are counted too
    assert all(map(torch.equal, plain, tracked))
    assert [record._replace(seconds=0) for record in history] == [record._replace(seconds=0) for record in expected]
    assert [step for step, _ in tracker.logged] == [record.update for record in history] == list(range(1, 9))
    for (_, values), record in zip(tracker.logged, history, strict=True):
        for name in ("seconds", "beta", "loss", "nll", "kl", "kl_first", "posterior_error"):
            assert values[f"train/{name}"] == getattr(record, name)
        assert values.get("validation/accuracy") == record.prior_accuracy
        assert all(type(value) is float for value in values.values())
        assert 0 < values["speed/flops_utilisation"] < 10
    assert [step for step, values in tracker.logged if "validation/accuracy" in values] == [4, 8]
    assert [step for step, values in tracker.logged if "time/heads" in values] == [1, 5]
    assert tracker.closed == 1


def test_an_update_in_parts_is_one_update(task: gp.tasks.Sudoku) -> None:
    tracker = Memory()
    plain, _ = run(task, heads_every=None, accumulate=2)
    tracked, _ = run(task, heads_every=None, accumulate=2, tracker=tracker)
    assert all(map(torch.equal, plain, tracked))
    assert {f"time/{part}" for part in PARTS} < set(tracker.logged[0][1])


def test_the_parts_make_the_step_and_the_step_the_speed(task: gp.tasks.Sudoku) -> None:
    tracker = Memory()
    start = time.perf_counter()
    run(task, tracker=tracker, heads_every=None, evaluations=0)
    passed = time.perf_counter() - start
    for _, values in tracker.logged:
        found = {name.removeprefix("time/"): value for name, value in values.items() if name.startswith("time/")}
        assert set(found) == {"step", *PARTS}
        assert min(found.values()) > 0
        assert found["step"] == pytest.approx(sum(found[part] for part in PARTS))
        assert values["speed/examples_per_second"] == pytest.approx(8 / found["step"])
        assert 0.05 < values["memory/peak_gb"] < 100  # torch alone takes more than 50 MB
        assert "speed/flops_utilisation" not in values  # nobody knows the peak of this processor
    assert sum(values["time/step"] for _, values in tracker.logged) < passed


def test_times_are_those_since_the_record_before(task: gp.tasks.Sudoku) -> None:
    class Slow(gp.tasks.Sudoku):
        def batches(self, *args: Any) -> Iterator[gp.Batch]:
            for number, batch in enumerate(super().batches(*args), 1):
                time.sleep(0.05 if number > 7 else 0)  # four for the first update, one for each further one
                yield batch

    task, tracker = Slow(**task.config), Memory()
    run(task, tracker=tracker, evaluations=0, heads_every=None)
    assert [values["time/data"] >= 0.05 for _, values in tracker.logged] == [False] * 4 + [True] * 4
    assert all(values["time/forward"] < 0.05 for _, values in tracker.logged[1:])


def test_a_resumed_run_goes_on_logging(task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    class Failing(Memory):
        def log(self, values: dict[str, float], step: int) -> None:
            super().log(values, step)
            if step == 5:
                raise RuntimeError("the tracker is gone")

    first, second = Failing(), Memory()
    with pytest.raises(RuntimeError, match="the tracker is gone"):
        run(task, tracker=first, out=tmp_path, checkpoint_every=2)
    assert first.closed == 1
    again, _ = run(task, tracker=second, out=tmp_path, checkpoint_every=2, resume=True)
    assert [step for step, _ in second.logged] == [5, 6, 7, 8]
    assert all(map(torch.equal, again, run(task)[0]))


def test_the_mean_of_a_longer_window(task: gp.tasks.Sudoku) -> None:
    class Told:
        rows, device = SimpleNamespace(batch_size=6), CPU
        clock = clocks.WallClock()

    Told.clock.updates, Told.clock.seconds = 4, {"data": 2.0, "forward": 6.0}
    told: Any = Told()
    values = tracking.Meter(told, None).read()
    assert (values["time/step"], values["time/data"], values["speed/examples_per_second"]) == (2.0, 0.5, 3.0)
    assert Told.clock.take() == (0, {})
    record = Record(3, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
    assert set(tracking.named(record)) == {f"train/{name}" for name in Record._fields[1:-1]}


# Clocks ---------------------------------------------------------------------------------------------------------------


class Event:
    """A CUDA event whose stream runs 10 ms for every event recorded."""

    stream, reads = 0, 0

    def __init__(self) -> None:
        Event.stream += 1
        self.time = Event.stream

    def synchronize(self) -> None:
        Event.reads += 1

    def elapsed_time(self, other: Event) -> float:
        Event.reads += 1
        return 10.0 * (other.time - self.time)


def test_the_clock_of_the_device_is_read_when_asked_only() -> None:
    clock = clocks.DeviceClock(Event, most=3)
    assert clock.take() == (0, {})
    before = Event.reads
    for _ in range(5):
        clock.start()
        for part in (*PARTS, "forward"):
            clock.end(part)
    assert Event.reads == before
    updates, seconds = clock.take()
    assert updates == 3  # the others are left out
    assert seconds == pytest.approx({"data": 0.03, "forward": 0.06, "backward": 0.03, "optimiser": 0.03})
    assert clock.take() == (0, {})
    clock.start()
    clock.end("data")
    assert clock.take()[1] == pytest.approx({"data": 0.01})


def test_nobody_is_timed_without_a_tracker(task: gp.tasks.Sudoku, monkeypatch: Any) -> None:
    monkeypatch.setattr(clocks, "WallClock", None)
    monkeypatch.setattr(tracking, "Meter", None)
    run(task)


# Products -------------------------------------------------------------------------------------------------------------

CASES = {
    "gram": (gp.models.GRAM, gp.guides.AmortizedGuide, gp.SegmentELBO(1.0)),
    "hrm": (gp.models.HRM, gp.guides.Empty, gp.SegmentELBO(1.0)),
    "vae": (gp.models.VAE, gp.guides.Recognition, gp.SegmentELBO(1.0, None)),
    "mdlm": (gp.models.MDLM, gp.guides.Noising, gp.DenoisingELBO()),
}


@pytest.mark.parametrize("name", CASES)
def test_products_counted_on_few_rows_are_those_of_an_update(task: gp.tasks.Sudoku, name: str) -> None:
    *kinds, objective = CASES[name]
    settings = {
        "updates": 1000, "batch_size": 8, "seed": 0, "lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.95], "clip": 1.0,
        "warmup": 5, "decay": 0.3, "final": 0.05, "ema": 0.99, "evaluations": 0, "evaluate_on": 4,
        "evaluate_steps": None,
    }  # fmt: skip
    trainer = Trainer(*parts(task, *kinds), task, objective, settings, "cpu")
    trainer.step()
    others = nullcontext() if name == "hrm" else FlopCounterMode(display=False)  # it fails on HRM
    with Products() as products, others as counter:
        trainer.step()
    gradients = [None if p.grad is None else p.grad.clone() for p in trainer.segment.parameters()]
    random = torch.get_rng_state()
    assert trainer.rows.carry is not None
    found = flops.count(trainer.segment, *trainer.rows.carry[:4])
    assert found == products.flop
    assert counter is None or found == counter.get_total_flops()
    assert torch.equal(torch.get_rng_state(), random)
    for p, gradient in zip(trainer.segment.parameters(), gradients, strict=True):
        assert p.grad is gradient or torch.equal(p.grad, gradient)  # type: ignore[arg-type]


def test_a_compiled_model_is_counted_uncompiled(task: gp.tasks.Sudoku) -> None:
    model, guide = parts(task)
    segment = gp.SegmentELBO(1.0)(model, guide)
    x, y = next(task.batches("train", 4, torch.Generator().manual_seed(0)))
    row = (x, y, model.initial(4), torch.zeros(4, dtype=torch.int64))
    expected = flops.count(segment, *row)

    def compiled(*_: Any) -> None:
        raise AssertionError("the compiled core ran")

    model.core._compiled_call_impl = compiled
    assert flops.count(segment, *row) == expected > 0
    assert model.core._compiled_call_impl is compiled
    with pytest.raises(KeyError), eager(model):
        raise KeyError
    assert model.core._compiled_call_impl is compiled


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_convolutions_are_counted_by_their_products(groups: int) -> None:
    convolution = torch.nn.Conv2d(8, 8, 3, padding=1, groups=groups)
    x = torch.randn(2, 8, 5, 4, requires_grad=True)
    with flops._Counter() as counter:
        torch.autograd.grad(convolution(x).sum(), [x, *convolution.parameters()])
    products = 2 * 5 * 4 * 8 * (8 // groups) * 9
    assert counter.total == 3 * 2 * products


def test_peaks_are_known_by_name(monkeypatch: Any) -> None:
    assert flops.peak(CPU) is None
    for name, value in (("NVIDIA H100 80GB HBM3", 989.4), ("NVIDIA H100 PCIe", 756.0), ("NVIDIA A100-SXM4", 312.0)):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert flops.peak(torch.device("cuda")) == value
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Voodoo 2")
    assert flops.peak(torch.device("cuda")) is None


# Trackers by name -----------------------------------------------------------------------------------------------------


class Registered(accelerate.tracking.GeneralTracker):
    """One of Accelerate's, as its users write them."""

    name = "registered"
    requires_logging_directory = True
    calls: list[Any]  # given anew by each test

    def __init__(self, run_name: str, logging_dir: str) -> None:
        super().__init__()
        self.calls.append(("made", run_name, logging_dir))

    @property
    def tracker(self) -> None:
        return None

    def start(self) -> None:
        self.calls.append("started")

    @accelerate.tracking.on_main_process
    def log(self, values: dict[str, float], step: int | None = None, **kwargs: Any) -> None:
        self.calls.append((step, values["train/loss"]))

    def finish(self) -> None:
        self.calls.append("finished")


def test_a_tracker_that_accelerate_knows(task: gp.tasks.Sudoku, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(Registered, "calls", [], raising=False)
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "registered", Registered)
    plain, _ = run(task)
    tracked, history = run(task, tracker="registered", out=tmp_path / "run")
    assert all(map(torch.equal, plain, tracked))
    made = ("made", "registered", str(tmp_path / "run"))
    assert Registered.calls == [made, "started", *((record.update, record.loss) for record in history), "finished"]
    with pytest.raises(ValueError, match="'registered' writes files: it needs out="):
        run(task, tracker="registered")


@pytest.mark.skipif(NO_TENSORBOARD, reason="TensorBoard is not installed")
@pytest.mark.filterwarnings("ignore")  # its own
def test_tensorboard_reads_what_was_written(task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, history = run(task, tracker="tensorboard", out=tmp_path)
    events = reader.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert found == [(record.update, pytest.approx(record.loss, rel=1e-6)) for record in history]
    assert {f"time/{part}" for part in PARTS} < set(events.Tags()["scalars"])


def test_bad_trackers_are_one_sentence(task: gp.tasks.Sudoku, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [])
    for tracker, sentence in (
        ("tensorboard", "tracker 'tensorboard' needs its package: pip install tensorboard"),
        ("comet_ml", "needs its package: pip install comet-ml"),
        ("chalk", "there is no tracker 'chalk': expected one of "),
        (3, "a name or an object with log"),
        (tracking.Options(Memory(), peak=0.0), "peak must be positive"),
    ):
        with pytest.raises(ValueError, match=sentence):
            run(task, tracker=tracker, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


# The command line -----------------------------------------------------------------------------------------------------


def train(folder: Path, *more: str) -> Any:
    small = ["--set", "task.num_test=4", "--set", "model.width=8", "--set", "samples=1", "--set", "steps=1"]
    asked = [] if "--resume" in more else ["--preset", "cpu", "--updates", "4", *small]
    return CliRunner().invoke(app, ["train", "sudoku", "--out", str(folder), *asked, *more])


def test_the_command_refuses_before_it_writes(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [])
    done = train(tmp_path / "run", "--tracker", "tensorboard")
    sentence = "error: tracker 'tensorboard' needs its package: pip install tensorboard\n"
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", sentence)
    assert not list(tmp_path.iterdir())


def test_the_command_tracks_and_goes_on_tracking(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(Registered, "calls", [], raising=False)
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "registered", Registered)
    folder = tmp_path / "run"
    done = train(folder, "--tracker", "registered")
    assert done.exit_code == 0, done.output
    assert json.loads((folder / "run.json").read_text())["tracker"] == "registered"
    assert [call[0] for call in Registered.calls if isinstance(call, tuple)] == ["made", 1, 2, 3, 4]
    (folder / "state.safetensors").unlink()  # as if interrupted before the first state
    Registered.calls.clear()
    assert train(folder, "--resume").exit_code == 0
    assert [call[0] for call in Registered.calls if isinstance(call, tuple)] == ["made", 1, 2, 3, 4]
