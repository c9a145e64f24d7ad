"""The benchmarks measure what they say: the plain baseline is the same function, counts are right, commands work."""

from __future__ import annotations

import gzip
import json
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import gram_ppl as gp

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import gemm
import memory
import rollout
import segment_speed
import sudoku_9x9
from gpu import kernels, lattice, profile, queue, rollouts, updates
from limits import TimeUp, at_most
from plain import PlainGRAM, PlainTrainer


@pytest.mark.parametrize("relations", [True, False])
def test_plain_has_the_loss_and_the_gradients_of_the_project(relations: bool) -> None:
    segment_speed.check("sudoku4", relations)


def test_the_check_of_plain_can_fail(monkeypatch: Any) -> None:
    monkeypatch.setattr("plain.norm", lambda x: F.rms_norm(x, x.shape[-1:], eps=0.01))
    with pytest.raises(AssertionError, match="plain differs"):
        segment_speed.check("sudoku4")


def test_plain_trains_and_answers() -> None:
    task, model, guide = segment_speed.build("sudoku4")
    plain = PlainGRAM(model, guide)
    rollout.same_answers(model, plain, next(task.batches("train", 8, torch.Generator().manual_seed(0))).x)
    losses = PlainTrainer(plain, lr=3e-3).run(task.batches("train", 4, torch.Generator().manual_seed(1)), 4, 30)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_products_are_counted_and_run_again() -> None:
    x, w = torch.randn(6, 5, requires_grad=True), torch.randn(7, 5, requires_grad=True)
    batch = torch.randn(3, 4, 5)

    def work() -> None:
        F.linear(x, w).sum().backward()
        batch @ batch.mT

    replay, flop = gemm.floor(work)
    # forward [6, 5] x [5, 7], its two gradients of as many products, and three of [4, 5] x [5, 4]
    assert flop == 2 * (3 * 6 * 5 * 7 + 3 * 4 * 5 * 4)
    with gemm.Products() as again:
        replay()
    assert again.flop == flop


def test_memory_is_flat_in_the_number_of_supervision_steps() -> None:
    cpu = torch.device("cpu")
    few, many = (memory.run(number, 8, cpu, through=False, updates=1)["allocated"] for number in (1, 64))
    assert many < 1.05 * few
    two = memory.run(2, 8, cpu, through=True, updates=1)["allocated"]
    narrow, wide = (memory.run(4, 8, cpu, False, updates=1, window=window)["allocated"] for window in (1, 4))
    assert narrow < wide
    assert two > 1.3 * few


def test_segment_speed_and_its_curves_write_what_they_measured(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    options = ["--sizes", "sudoku4", "--settings", "float32", "--repeats", "1", "--out", str(out)]
    segment_speed.main([*options, "--curves", "sudoku4", "--updates", "10", "--seeds", "2"])
    document = json.loads(out.read_text())
    found = document["cases"]["sudoku4"]["float32"]
    assert found["min"] <= found["median"] <= found["max"]
    assert 0 < found["share_of_floor"] < 1.5
    curve = document["curves"]["sudoku4"]
    assert len(curve["plain"]) == len(curve["project"]) == 2
    for own, plain in zip(curve["project"], curve["plain"], strict=True):
        assert own[0] == pytest.approx(plain[0], rel=0.1)  # the same weights at the start


def lines(rows: list[dict[str, str]], path: Path) -> Path:
    path.write_text("\n".join(["source,question,answer,rating", *(",".join(row.values()) for row in rows)]) + "\n")
    return path


def test_updates_run_tiny(tmp_path: Path) -> None:
    out, cases = tmp_path / "updates.json", ["8 queens, paper", "10 queens, deciding"]
    options = ["--cases", *cases, "--ways", "graph", "--updates", "1", "--peak", "1"]
    updates.main(["--device", "cpu", "--tiny", *options, "--result", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert list(rows) == [f"{case}, graph" for case in cases]
    for row in rows.values():
        assert row["utilisation"] == pytest.approx(1e3 * row["tflop"] / row["ms"])


def test_rollouts_run_tiny(tmp_path: Path) -> None:
    assert rollouts.main(["--device", "cpu", "--tiny", "--result", str(tmp_path / "found.json")]) == 0
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert {name: row["same_tokens"] for name, row in rows.items()} == dict.fromkeys(rows, 1.0)


def test_kernels_run_tiny_and_compute_the_same(tmp_path: Path) -> None:
    assert kernels.main(["--device", "cpu", "--tiny", "--result", str(tmp_path / "found.json")]) == 0
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    failed = [name for name, row in rows.items() if "ms" not in row]
    assert failed == [name for name in rows if "FlexAttention" in name]  # which has no gradient on a CPU
    for name, row in rows.items():
        if name not in failed:
            assert (row["difference"] < 0.02) == (name != "noise, bf16"), name


def test_lattice_prototype_runs_tiny(tmp_path: Path) -> None:
    task = gp.tasks.Sudoku(clues=(70, 75), num_validation=0, num_test=12, pool=4)
    pairs = zip(task.inputs("test"), task.answers("test"), strict=True)
    rows = [{"source": "made", "question": task.line(x), "answer": task.line(y), "rating": "0"} for x, y in pairs]
    data = lines(rows, tmp_path / "puzzles.csv")
    sizes = {
        "width": 8,
        "heads": 2,
        "layers": 1,
        "loops": 2,
        "batch": 8,
        "updates": 3,
        "chains": 2,
        "rounds": 2,
        "held": 4,
    }
    options = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    lattice.main(["--data", str(data), "--few", str(data), "--out", str(tmp_path), *options])
    found = json.loads((tmp_path / "lattice.json").read_text())
    assert found["updates"] == 3
    for name in ("extreme", "17 clues"):
        assert found[name]["puzzles"] == 4
        assert found[name]["right"] + found[name]["wrong"] == found[name]["answered"] <= 4


def test_time_is_up_even_if_a_finalizer_hears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finalizer:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGALRM)

    class Broken:
        def __del__(self) -> None:
            raise KeyError

    def work() -> None:
        with at_most(10):
            Broken()
            Finalizer()  # what it raises, Python drops
            time.sleep(60)

    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with pytest.raises(TimeUp):
        work()
    assert sys.unraisablehook == told.append
    assert [what.exc_type for what in told] == [KeyError]


def test_hard_sudoku_stops_goes_on_and_is_measured(tmp_path: Path) -> None:
    task = gp.tasks.Sudoku(clues=(70, 75), num_validation=0, num_test=12, pool=4)
    pairs = zip(task.inputs("test"), task.answers("test"), strict=True)
    rows = [{"source": "made", "question": task.line(x), "answer": task.line(y), "rating": "0"} for x, y in pairs]
    data = str(lines(rows, tmp_path / "puzzles.csv"))
    small = {"model.width": 8, "model.block": 2, "model.supervision": 8, "objective.steps": 2, "objective.window": 2}
    small |= {"fit.updates": 6, "fit.batch_size": 4, "fit.checkpoint_every": 2}
    options = [text for name, value in small.items() for text in ("--set", f"{name}={value}")]
    numbers = {"held-out": 4, "chains": 2, "rounds": 2, "keep-every": 3, "on-the-way": 2, "threads": 1}
    options += [text for name, value in numbers.items() for text in (f"--{name}", str(value))]
    result = tmp_path / "result.json"
    options += ["--extreme", data, "--seventeen", data, "--out", str(tmp_path / "run"), "--result", str(result)]
    assert sudoku_9x9.main([*options, "--minutes", "0.0001"]) == 75
    assert sudoku_9x9.main(options) == 0
    found = json.loads(result.read_text())
    assert found["updates"] == 6
    assert result.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert [part["update"] for part in found["on the way"]] == [3]
    for part in (found["Sudoku-Extreme"], found["17 clues"]):
        assert part["right"] + part["wrong"] + part["unanswered"] == part["puzzles"] == 4
        assert part["course"][-1][1] == 4 - part["unanswered"]
        assert part["course"][-1][2] == part["right"]
    assert sudoku_9x9.main([*options, "--doubt", "0"]) == 0  # every trajectory begins again at once
    found = json.loads(result.read_text())
    assert (found["doubt"], found["Sudoku-Extreme"]["unanswered"], found["17 clues"]["unanswered"]) == (0, 4, 4)


def test_lattice_symmetries_keep_grids_and_go_back() -> None:
    task = gp.tasks.Sudoku(clues=(30, 40), num_validation=0, num_test=8, pool=4)
    y = task.answers("test")
    state = F.one_hot(y - 1, 9).bool()
    cells, digits = lattice.symmetries(len(y), torch.device("cpu"))
    moved = lattice.image(state, cells, digits)
    tokens = moved.int().argmax(dim=-1) + 1
    assert task.verify(task.blank, tokens).all()
    assert (tokens - 1 == digits.gather(1, (y - 1).gather(1, cells))).all()
    assert (lattice.image(moved, cells.argsort(dim=-1), digits.argsort(dim=-1)) == state).all()


def test_lattice_fresh_states_hold_their_givens() -> None:
    task = gp.tasks.Sudoku(clues=(30, 40), num_validation=0, num_test=200, pool=4)
    x, y = task.inputs("test"), task.answers("test") - 1
    state = lattice.fresh(x, y)
    truth = F.one_hot(y, 9).bool()
    assert (state.sum(dim=-1)[x > 0] == 1).all()
    assert (state & truth).any(dim=-1)[x > 0].all()
    lost = ~(state & truth).any(dim=-1).all(dim=-1)
    assert 0.1 < lost.double().mean() < 0.35  # a quarter is corrupted, the shortest fills perhaps nowhere


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> queue.Places:
    """Of tiny rows; the data are made."""
    folder = tmp_path_factory.mktemp("queue")
    task = gp.tasks.Sudoku(clues=(70, 75), num_validation=0, num_test=12, pool=4)
    pairs = zip(task.inputs("test"), task.answers("test"), strict=True)
    rows = [{"source": "made", "question": task.line(x), "answer": task.line(y), "rating": "0"} for x, y in pairs]
    plain = lines(rows, folder / queue.EXTREME)
    (folder / queue.SEVENTEEN).write_bytes(gzip.compress(plain.read_bytes()))
    return queue.Places(folder / "runs", folder / "results", folder, tiny=True)


def perform(command: list[str], monkeypatch: Any) -> Any:
    """A command of Python in this process; its exit code."""
    monkeypatch.chdir(queue.ROOT)
    module = command[0] == "-m"
    monkeypatch.setattr(sys, "argv", command[1:] if module else command)
    try:
        runpy.run_module(command[1], run_name="__main__") if module else runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


# Others run their scripts: tests/test_examples.py, and those above.
SLOW = dict.fromkeys(("demo", "mnist", "kernels", "rollouts"), pytest.mark.slow)
TINY = [pytest.param(row, id=row.name, marks=SLOW.get(row.name, ())) for row in queue.ROWS if row.result]


@pytest.mark.parametrize("row", TINY)
def test_every_row_of_the_queue_runs_tiny(row: queue.Row, places: queue.Places, monkeypatch: Any) -> None:
    assert places.lacks(row) == []
    assert perform(places.command(row), monkeypatch) in (0, None)
    found = places.result(row)
    if row.name == "profile":
        for measured in found["rows"].values():
            assert len(measured["costliest"]) == 10
            assert 0 <= measured["idle_share"] < 1
            assert measured["examples_per_second"] == pytest.approx(measured["batch"] / measured["seconds"])
    elif row.name in ("updates", "kernels", "rollouts"):
        assert found["rows"]
    elif row.name == "extreme":
        assert found["Sudoku-Extreme"]["puzzles"] == 4
    elif row.name == "depth":
        assert all(found[f"{name}, 4 steps"]["finite"] for name in ("gram", "quick"))
    else:
        assert {"accuracy", "train_seconds"} <= found.keys()
    if row.resume:
        assert places.command(row)[-1] == "--resume"


def test_the_suite_of_cuda_is_a_row() -> None:
    (row,) = (row for row in queue.ROWS if not row.result)
    assert (queue.ROOT / "tests" / "test_cuda.py").exists()
    assert "tests/test_cuda.py" in row.command


def test_every_row_stands_in_the_table_with_its_command_and_seconds() -> None:
    text = (queue.ROOT / "benchmarks" / "gpu" / "README.md").read_text()
    table = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| `")}
    assert list(table) == [f"`{row.name}`" for row in queue.ROWS]
    for row in queue.ROWS:
        assert f"| {row.seconds} |" in table[f"`{row.name}`"]
        assert row.command[1 if row.command[0] == "-m" else 0] in table[f"`{row.name}`"]


def test_intervals_are_united() -> None:
    assert profile.union([(0, 2), (1, 3), (5, 6), (5.5, 5.75)]) == 4
    assert profile.union([]) == 0


# A row that counts to TOP in a file, a step in 20 ms; SIGTERM ends it; it goes on.
COUNTS = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
path, top = pathlib.Path(sys.argv[1]), int(sys.argv[2])
while (number := int(path.read_text()) if path.exists() else 0) < top:
    time.sleep(0.02)
    path.with_suffix(".new").write_text(str(number + 1))
    path.with_suffix(".new").replace(path)
"""
DRIVER = """
import sys
sys.path.insert(0, {folder!r})
from gpu import queue
counts = queue.Row("counts", "it goes on", 1, ["-c", {counts!r}, "{{folder}}/count", "100"], result="{{folder}}/count")
fails = queue.Row("fails", "what fails is told", 1, ["-c", "raise SystemExit('no luck')"], result="")
long = queue.Row("long", "what doesn't fit isn't begun", 10_000, ["-c", ""], whole=True)
lacks = queue.Row("lacks", "data are asked for", 1, ["-c", ""], needs=["nothing"])
sys.exit(queue.main(sys.argv[1:], (fails, long, lacks, counts)))
"""


def test_the_queue_is_killed_and_goes_on(tmp_path: Path) -> None:
    driver = DRIVER.format(folder=str(queue.ROOT / "benchmarks"), counts=COUNTS)
    command = [sys.executable, "-c", driver, "--results", str(tmp_path), "--runs", str(tmp_path / "runs")]
    count, reached = tmp_path / "runs" / "counts" / "count", 0
    for signum in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen([*command, "--minutes", "5"], stdout=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not (count.exists() and int(count.read_text()) > reached + 10) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signum)
        process.communicate(timeout=20)
        time.sleep(0.2)
        reached = int(count.read_text())
        time.sleep(0.2)
        assert int(count.read_text()) == reached  # its row is not running on
        assert 10 < reached < 100
    said = subprocess.run([*command, "--minutes", "5"], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (queue.LEFT, "")  # one fails, one is too long, one lacks its data
    assert "lacks: there is no nothing in" in said.stdout
    assert "long: no time left" in said.stdout
    found = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("counts", "fails")}
    assert (found["counts"]["done"], found["counts"]["result"], found["counts"]["calls"]) == (True, 100, 3)
    assert (found["fails"]["done"], found["fails"]["code"], found["fails"]["calls"]) == (False, 1, 3)
    assert found["fails"]["said"].endswith("no luck\n")
    again = subprocess.run([*command, "--only", "counts"], capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (0, "")


def test_a_row_ends_when_the_minutes_do(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(queue, "STOP", 1)
    row = queue.Row("counts", "", 1, ["-c", COUNTS, "{folder}/count", "100"], result="{folder}/count")
    places = queue.Places(tmp_path / "runs", tmp_path)
    assert queue.work([row], places, 2.5 / 60) == queue.LEFT
    assert places.record(row)["code"] == 143
    assert queue.work([row], places, 1) == 0
    assert places.record(row)["result"] == 100
