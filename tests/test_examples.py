"""Every example runs from its command line at its smallest size; bad input is one sentence and exit code 2."""

import csv
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import gram_ppl as gp
from gram_ppl import presets
from gram_ppl.cli import app
from gram_ppl.storage.measurement import Measurement

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def load(script: str) -> Any:
    spec = importlib.util.spec_from_file_location(script.removesuffix(".py"), EXAMPLES / script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sudoku_svi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    return load("sudoku_svi.py").main


def test_sudoku_svi(sudoku_svi: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sudoku_svi(updates=8, samples=3, steps=2, compare=True, puzzle="1..." + "." * 12)
    printed = capsys.readouterr().out
    folder = tmp_path / "runs" / "sudoku"
    metrics = json.loads((folder / "metrics.json").read_text())
    keys = {"accuracy", "selected_accuracy", "pass_at_n", "coverage", "num_test", "num_samples"}
    keys |= {"train_seconds", "updates", "parameters"}
    assert keys <= metrics.keys()
    assert keys <= metrics["deterministic"].keys()
    assert (metrics["num_test"], metrics["num_samples"], metrics["updates"]) == (500, 3, 8)
    assert keys <= metrics["GRAM"].keys()
    assert metrics["deterministic"]["parameters"] == pytest.approx(metrics["GRAM"]["parameters"], rel=0.01)
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    for text in ("500 unseen puzzles", "GRAM, deciding", "deterministic", "Your puzzle", "different verified answers"):
        assert text in printed
    model, _, task = gp.load(folder)
    again = gp.metrics.evaluate(model, task, num_samples=3, steps=2, seed=0)
    del again["seconds"]
    assert again == {key: metrics[key] for key in again}
    for part, name in (("", ""), ("GRAM", "gram"), ("deterministic", "deterministic")):
        done = CliRunner().invoke(app, ["evaluate", str(folder / name), "--json", "--samples", "3"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["accuracy"] == (metrics[part] if part else metrics)["accuracy"]


def test_sudoku_svi_takes_presets_by_name() -> None:
    settings = load("sudoku_svi.py").settings
    run = dict.fromkeys(("box", "data", "held_out", "updates", "samples", "steps", "plain", "preset"))
    assert (settings(run).task["box"], settings(run).fit["updates"]) == ((2, 2), presets.get("sudoku").fit["updates"])
    paper = settings(run | {"preset": "paper"})
    assert (paper.task["box"], paper.model["width"], paper.fit["updates"]) == ((3, 3), 512, 50_000)
    gpu = settings(run | {"preset": "gpu", "data": "puzzles.csv", "held_out": 7})
    assert (gpu.task["data"], gpu.task["num_test"], gpu.fit["batch_size"]) == ("puzzles.csv", 7, 512)
    large = run | {"box": [3, 3]}
    assert settings(large).model == presets.get("sudoku", "9x9").model
    assert settings(large | {"cuda": True}).model == paper.model  # as version 0.1 left it


def test_sudoku_svi_on_a_file_of_real_form(sudoku_svi: Callable[..., None], tmp_path: Path) -> None:
    task = gp.tasks.Sudoku(box=(3, 3), clues=(40, 45), num_validation=0, num_test=60, pool=5)
    with (tmp_path / "puzzles.csv").open("w", newline="") as file:
        pairs = zip(task.inputs("test"), task.answers("test"), strict=True)
        rows = [["made", task.line(x).replace("0", "."), task.line(y), "0"] for x, y in pairs]
        csv.writer(file).writerows([["source", "question", "answer", "rating"], *rows])
    sudoku_svi(box=(3, 3), data="puzzles.csv", updates=2, samples=1, steps=1, held_out=10, out=Path("s9"))
    assert json.loads((tmp_path / "s9" / "metrics.json").read_text())["num_test"] == 10
    assert "coverage" in json.loads((tmp_path / "s9" / "metrics.json").read_text())  # all answers unique
    assert json.loads((tmp_path / "s9" / "run.json").read_text())["asked"]["box"] == [3, 3]
    (tmp_path / "s9" / "metrics.json").unlink()
    sudoku_svi(resume=Path("s9"))
    assert json.loads((tmp_path / "s9" / "metrics.json").read_text())["num_test"] == 10


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"puzzle": "1" + "." * 14}, "has 16 characters, found 15"),
        ({"puzzle": "x" + "." * 15}, "Character 1 of the puzzle"),
        ({"puzzle": "11" + "." * 14}, "row 1"),
        ({"puzzle": "123...4" + "." * 9}, "no solution"),
        ({"box": (3, 3), "puzzle": "." * 80}, "has 81 characters, found 80"),
        ({"box": (1, 4)}, "box"),
        ({"data": "nowhere.csv"}, "nowhere.csv"),
        ({"resume": Path("nowhere")}, "nowhere"),
    ],
)
def test_bad_input_is_one_sentence_before_any_training(
    sudoku_svi: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    sentence: str,
) -> None:
    with pytest.raises(SystemExit) as stop:
        sudoku_svi(updates=10**9, **options)
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert sentence in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not printed.out
    assert not list(tmp_path.iterdir())


def test_a_bad_puzzle_on_the_command_line_loses_nothing_of_an_earlier_run(
    sudoku_svi: Callable[..., None], tmp_path: Path
) -> None:
    sudoku_svi(updates=4, samples=1, steps=2)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    command = [sys.executable, "-W", "error", str(EXAMPLES / "sudoku_svi.py"), "--puzzle", "12"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: A 4 x 4 puzzle has 16 characters, found 2.\n"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_custom_guide(capsys: pytest.CaptureFixture[str]) -> None:
    load("custom_guide.py").main(updates=4, samples=2)
    printed = capsys.readouterr().out
    assert "AmortizedGuide" in printed
    assert "LowRankGuide" in printed


def test_custom_task(capsys: pytest.CaptureFixture[str]) -> None:
    """Its task is checked in tests/test_testing.py."""
    load("custom_task.py").main(updates=4, samples=2)
    assert "coverage_all" in capsys.readouterr().out


def test_the_guide_of_the_example_is_short_and_right() -> None:
    source = (EXAMPLES / "custom_guide.py").read_text()
    body = source[source.index("class LowRankGuide") :].split("\n\n\n")[0]
    assert len(body.splitlines()) <= 20
    task = gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=2, num_test=2)
    model = gp.models.GRAM(task.spec, width=8)
    guide = load("custom_guide.py").LowRankGuide(model)
    with torch.no_grad():
        guide.head.down.weight.normal_()
    u, y = torch.randn(3, model.encoder.length, 8), torch.randint(1, 5, (3, 16))
    q = guide.posterior(u, y, model.prior(u))
    assert q.batch_shape == (3,)
    assert q.event_shape == (model.encoder.length, 8)
    # the covariance within one token has the rank that the class promises
    off_diagonal = q.base_dist.covariance_matrix[0, 0] - torch.diag(q.base_dist._unbroadcasted_cov_diag[0, 0])
    assert torch.linalg.matrix_rank(off_diagonal, atol=1e-4) == guide.parts - 2


@pytest.mark.parametrize(
    ("script", "folder", "options", "picture"),
    [
        ("queens_svi.py", "queens", {"n": 5, "removed": [2, 3, 4], "held_out": 4}, "boards.png"),
        ("queens_svi.py", "queens", {"n": 5, "tokens": "rows", "relations": False, "held_out": 4}, "boards.png"),
        ("coloring_svi.py", "coloring", {"nodes": 5, "p": 0.3}, "graphs.png"),
        ("coloring_svi.py", "coloring", {"nodes": 5, "tokens": "edges"}, "graphs.png"),
        ("unconditional_svi.py", "boards", {}, "boards.png"),
        ("unconditional_svi.py", "boards", {"task": "queens", "side": 5}, "boards.png"),
        ("maze_svi.py", "maze", {"side": 5, "held_out": 5}, "mazes.png"),
        ("mnist_svi.py", "mnist", {}, "pictures.png"),
    ],
)
def test_example_of_a_task(
    script: str,
    folder: str,
    options: dict[str, Any],
    picture: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    samples = 4
    load(script).main(updates=4, samples=samples, steps=1, **options)
    metrics = json.loads((tmp_path / "runs" / folder / "metrics.json").read_text())
    assert {"accuracy", "num_samples", "train_seconds", "updates"} <= metrics.keys()
    assert (metrics["num_samples"], metrics["updates"]) == (samples, 4)
    for name in (picture, "training.png"):
        assert (tmp_path / "runs" / folder / name).read_bytes().startswith(b"\x89PNG")
    assert f"runs/{folder}" in capsys.readouterr().out.replace("\n", "")
    how = Measurement.stored(tmp_path / "runs" / folder)  # what later commands go by
    assert (how.samples, how.steps) == (samples, 1)
    gp.load(tmp_path / "runs" / folder)


@pytest.mark.parametrize(
    ("script", "options", "sentence"),
    [
        ("queens_svi.py", {"n": 3}, "n: expected a board of side 4 to 12, found 3."),
        ("coloring_svi.py", {"tokens": "faces"}, "--tokens: expected nodes or edges"),
        ("unconditional_svi.py", {"side": 5}, "side: expected 4, 6 or 9"),
        ("maze_svi.py", {"root": Path("nowhere")}, "nowhere"),
        ("mnist_svi.py", {"root": Path("nowhere")}, "nowhere"),
    ],
)
def test_bad_input_of_a_task_is_one_sentence(
    script: str,
    options: dict[str, Any],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        load(script).main(updates=10**9, **options)
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert sentence in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def arc_folder(tmp_path: Path) -> Path:
    grids = [[[1, 2], [3, 4]], [[4, 3], [2, 1]]]
    pair = {"input": grids[0], "output": grids[1]}
    for part, name in (("training", "00000001"), ("evaluation", "00000002")):
        folder = tmp_path / "arc" / "data" / part
        folder.mkdir(parents=True)
        other = {"input": [[int(name[-1])]], "output": [[5]]}
        (folder / f"{name}.json").write_text(json.dumps({"train": [pair, other], "test": [pair]}))
    return tmp_path / "arc"


def test_arc_svi(arc_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main = load("arc_svi.py").main
    main(arc_folder, copy=True)
    scored = json.loads((tmp_path / "runs" / "arc" / "metrics.json").read_text())
    assert (scored["pass_at_2"], scored["tasks"]) == (0, 1)
    main(arc_folder, only=["00000002"], updates=2, samples=2, steps=1, augmentations=1)
    metrics = json.loads((tmp_path / "runs" / "arc" / "metrics.json").read_text())
    assert {"accuracy", "pass_at_2", "train_seconds"} <= metrics.keys()
    assert (tmp_path / "runs" / "arc" / "grids.png").read_bytes().startswith(b"\x89PNG")


def test_arc_svi_wants_one_task_or_a_preset(arc_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load("arc_svi.py").main(arc_folder)
    assert capsys.readouterr().err == "error: --only: name one task; a whole set takes --preset paper and a GPU\n"
