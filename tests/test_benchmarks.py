"""The benchmarks measure what they say: the plain baseline is the same function, counts are right, commands work."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import gram_ppl as gp

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks" / "gpu"))

import correctness
import gemm
import lattice
import memory
import rollout
import segment_speed
import step
import sudoku_9x9
import train as gpu_train
from plain import PlainGRAM, PlainTrainer

NO_DATA = ["queens8", "coloring8", "queens10", "coloring10", "sudoku-grids"]


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


def test_correctness_runs_tiny_and_does_not_repeat_itself(tmp_path: Path, monkeypatch: Any) -> None:
    names = ["float32 coloring8", "bf16 sudoku-grids", "rollouts", "same_seed", "never_waiting"]
    options = ["--device", "cpu", "--results", str(tmp_path), "--tiny", "--only", *names]
    assert correctness.main(options) == 0
    found = json.loads((tmp_path / "correctness-tiny.json").read_text())["checks"]
    assert set(found) == set(names)
    monkeypatch.setattr(correctness, "segment", None)
    assert correctness.main(options) == 0
    with pytest.raises(SystemExit):
        correctness.main(["--device", "cpu"])


def test_correctness_sees_another_device() -> None:
    one, other = ([torch.ones(3), torch.ones(3) * factor] for factor in (1.0, 1.01))
    assert correctness.difference(one, one) == 0
    assert correctness.difference(other, one) == pytest.approx(0.01, rel=1e-4)


def test_step_runs_tiny(tmp_path: Path) -> None:
    options = ["--device", "cpu", "--tiny", "--worlds", "queens8", "--settings", "float32", "--peak", "1"]
    step.main([*options, "--results", str(tmp_path)])
    ((name, row),) = json.loads((tmp_path / "step-tiny.json").read_text())["rows"].items()
    assert name == "queens8, float32"
    assert row["utilisation"] == pytest.approx(row["tflop"] / row["seconds"])
    assert row["examples_per_second"] == pytest.approx(row["batch"] / row["seconds"])


@pytest.mark.parametrize("name", ["queens8", "sudoku-extreme"])
def test_training_runs_tiny_stops_and_goes_on(tmp_path: Path, name: str, capsys: Any) -> None:
    options = [name, "--tiny", "--runs", str(tmp_path / "runs"), "--results", str(tmp_path), "--checkpoint-every", "1"]
    assert gpu_train.main([*options, "--minutes", "0.0001"]) == gpu_train.NOT_FINISHED
    assert "the same command goes on" in capsys.readouterr().out
    assert gpu_train.main(options) == 0
    assert json.loads((tmp_path / f"{name}-tiny-seed0.json").read_text())["updates"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NO_DATA[1:], "mnist"])
def test_every_world_trains_tiny(tmp_path: Path, name: str) -> None:
    assert gpu_train.main([name, "--tiny", "--runs", str(tmp_path), "--results", str(tmp_path)]) == 0


def test_worlds_ask_for_their_data(tmp_path: Path) -> None:
    for name in ("mnist", "sudoku-extreme"):
        with pytest.raises(ValueError, match="needs --data"):
            gpu_train.main([name, "--runs", str(tmp_path), "--results", str(tmp_path)])
    source = tmp_path / "train.csv"
    source.write_text("source,question,answer,rating\n" + "a,1,2,3\n" * 1099)
    with pytest.raises(ValueError, match="at least 1100 puzzles, found 1099"):
        gpu_train.thousand(source, tmp_path / "few.csv")
    source.write_text("source,question,answer,rating\n" + "".join(f"a,{row},2,3\n" for row in range(1500)))
    rows = gpu_train.thousand(source, tmp_path / "thousand.csv").read_text().splitlines()
    assert len(rows) == len(set(rows)) == 1101
    assert rows[0] == gp.tasks.sudoku_csv.HEADER


def lines(rows: list[dict[str, str]], path: Path) -> Path:
    path.write_text("\n".join(["source,question,answer,rating", *(",".join(row.values()) for row in rows)]) + "\n")
    return path


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
