"""The paper's tables: every system through one tiny run, what is finished stays, text and figures by hand."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode

import gram_ppl as gp
from gram_ppl import presets
from gram_ppl.storage.card import Card
from gram_ppl.storage.places import WEIGHTS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import arc
import digits
import figure_text
import overview
import table_runs
import table_text
import tables
import uniformity
from table_columns import DIGITS, FIGURE, LAPTOP, TABLES, Column, Table, with_data
from table_runs import Run, perform
from table_systems import SYSTEMS

TINY = {"model.width": 8, "fit.updates": 2, "fit.batch_size": 16, "fit.evaluations": 1, "fit.evaluate_on": 2}
WORLDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "sudoku": ("sudoku", {"task.num_validation": 2, "task.num_test": 4, "task.pool": 20}, {"samples": 3, "steps": 2}),
    "coloring": ("coloring", {"task.n": 5, "task.num_train": 20}, {"samples": 3, "steps": 2, "held_out": 3}),
    "grids": ("unconditional", {}, {"samples": 5, "steps": 2}),
}


def tiny(name: str) -> presets.Preset:
    task, changes, test = WORLDS[name]
    return replace(presets.get(task, "gram" if "gram" in presets.PRESETS[task] else "quick", TINY | changes), **test)


def run(root: Path, world: str, system: str, **options: Any) -> Run:
    return Run(root, world, tiny(world), system, 0, **options)


@pytest.mark.parametrize("system", [name for name in SYSTEMS if SYSTEMS[name].weights is None])
def test_every_system_runs(system: str, tmp_path: Path) -> None:
    world = "grids" if system == "VAE" else "sudoku"
    folder = perform(run(tmp_path, world, system))
    config, metrics = (json.loads((folder / name).read_text()) for name in ("config.json", "metrics.json"))
    assert config["updates"] == 2
    assert config["parameters"] > 0
    assert 0 <= metrics["accuracy"] <= 1
    assert metrics["num_samples"] == (5 if world == "grids" else 3)
    assert metrics["train_seconds"] > 0


@pytest.mark.parametrize("system", [name for name in SYSTEMS if SYSTEMS[name].weights is not None])
def test_systems_with_anothers_weights(system: str, tmp_path: Path) -> None:
    trained = perform(run(tmp_path, "sudoku", str(SYSTEMS[system].weights)))
    folder = perform(run(tmp_path, "sudoku", system))
    assert not (folder / "model.safetensors").exists()
    one, two = (json.loads((where / "metrics.json").read_text()) for where in (trained, folder))
    assert one["train_seconds"] == two["train_seconds"]
    updates = [json.loads((where / "config.json").read_text())["updates"] for where in (trained, folder)]
    assert updates[0] == updates[1]


def test_without_deep_supervision_a_segment_is_the_whole_trajectory() -> None:
    preset = tiny("sudoku")
    task = preset.world(**preset.task)
    model, _, objective = SYSTEMS["without deep supervision"].make(preset, task, 0)
    assert (model.supervision, objective.steps, objective.window) == (1, 4, False)
    model, _, objective = SYSTEMS["GRAM"].make(preset, task, 0)
    assert (model.supervision, objective.steps, objective.window) == (4, 1, True)


def test_graphs_and_boards_from_nothing(tmp_path: Path) -> None:
    graphs = run(tmp_path, "coloring", "GRAM")
    perform(graphs)
    found = graphs.metrics()
    assert found is not None
    assert found["num_test"] == 3
    boards = run(tmp_path, "grids", "GRAM")
    perform(boards)
    found = boards.metrics()
    assert found is not None
    assert found["network_calls"] == 5 * 2 * 6  # samples, steps, T (K + 1)


def test_what_is_finished_stays_and_the_budget_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_runs, "_flops_an_update", lambda run, task: 10**9)
    one = run(tmp_path, "sudoku", "GRAM", teraflop=0.006)
    assert one.metrics() is None
    perform(one)
    found = one.metrics()
    assert found is not None
    assert found["updates"] == 6
    monkeypatch.setattr(table_runs, "judge", lambda *_, **__: pytest.fail("measured again"))
    perform(one)
    (one.folder / "metrics.json").unlink()
    monkeypatch.setattr(table_runs, "_flops_an_update", lambda run, task: pytest.fail("budget measured again"))
    monkeypatch.setattr(table_runs, "judge", lambda *_, **__: {"accuracy": 0.25})
    perform(one)
    again = one.metrics()
    assert again is not None
    assert (again["updates"], again["accuracy"]) == (6, 0.25)
    assert again["train_seconds"] == pytest.approx(found["train_seconds"])


@pytest.mark.parametrize("system", ["Direct, 8 layers", "GRAM", "Autoregressive", "MDLM"])
def test_flops_of_an_update_are_those_that_torch_counts_in_training(system: str, tmp_path: Path) -> None:
    one = run(tmp_path, "coloring", system)
    task = one.preset.world(**one.preset.task)
    flop = []
    for updates in (1, 3):
        made = SYSTEMS[system].make(one.preset, task, 0)
        options = {**one.preset.fit, "updates": updates, "evaluations": 0, "progress": False}
        with FlopCounterMode(display=False) as counter:
            gp.fit(made.model, made.guide, task, objective=made.objective, **options)
        flop.append(counter.get_total_flops())
    assert flop[1] - flop[0] == 2 * table_runs._flops_an_update(one, task) > 0


def test_records_name_no_folder_of_a_machine(tmp_path: Path) -> None:
    task = {
        "arguments": {"root": str(tmp_path / "mnist"), "data": [str(tmp_path / "rows.csv"), "few.csv"], "box": [3, 3]}
    }
    found = table_runs._without_places(task)
    assert found == {"arguments": {"root": "mnist", "data": ["rows.csv", "few.csv"], "box": [3, 3]}}
    for path in tables.RESULTS.glob("*.json"):
        assert '"/' not in path.read_text(), path


def test_every_row_is_a_system_and_every_figure_has_a_name(tmp_path: Path) -> None:
    for table in TABLES.values():
        assert pickle.loads(pickle.dumps(tables.runs_of(table, tmp_path, 1, None)))  # for the processes
        assert set(table.systems) <= set(SYSTEMS)
        assert len({column.name for column in table.columns}) == len(table.columns)
        for column in table.columns:
            assert set(column.metrics) <= set(table_text.METRICS)


def test_text_by_hand() -> None:
    assert table_text.number([], 2) == ""
    assert table_text.number([1234.5], 1) == "1,234.5"
    assert table_text.number([0.1, 0.3], 2) == "0.20 ± 0.14"
    assert table_text.number([7, 7], 0) == "7"
    text = table_text.column("8 queens", {"GRAM": [{"accuracy": 0.5}, {"accuracy": 0.7}], "HRM": []}, ["accuracy"])
    lines = text.splitlines()
    assert lines[0] == "### 8 queens"
    assert lines[4] == "| GRAM | 0.600 ± 0.141 | 2 | 99.7 / 90.3 |"
    assert lines[5] == "| HRM |  | 0 | 78.7 / 26.7 |"
    assert "| Looped Flows (published) |  |  | 99.9 / 91.4 |" in lines


def test_insert_replaces_its_own_part_only() -> None:
    document = table_text.insert("# Results\n\nwords\n", "one", "a")
    document = table_text.insert(document, "two", "b")
    document = table_text.insert(document + "\nmore words\n", "one", "c")
    assert "a" not in document.split("<!-- one -->")[1].split("<!-- end of one -->")[0]
    for part in ("words", "c", "b", "more words"):
        assert part in document
    assert document.count("<!-- one -->") == document.count("<!-- two -->") == 1


def test_the_command_makes_the_table_from_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    column = Column("sudoku", "4×4 Sudoku", tiny("sudoku"), ("accuracy", "parameters"))
    monkeypatch.setitem(TABLES, ("1", "cpu"), Table("Tiny", ("GRAM", "no guidance"), (column,), None))
    places = {name: tmp_path / name for name in ("out", "results", "document")}
    arguments = ["tables.py", "1", *(str(part) for name in places for part in (f"--{name}", places[name]))]
    perform(Run(places["out"] / "cpu", "sudoku", column.preset, "GRAM", 0))
    monkeypatch.setattr(sys, "argv", [*arguments, "--collect"])
    tables.main()
    out = capsys.readouterr().out
    assert "| GRAM | 0." in out
    assert "no guidance" not in out  # it has no run yet
    (record,) = json.loads((places["results"] / "table_1_cpu.json").read_text())
    assert record["system"] == "GRAM"
    assert "<!-- table 1 cpu -->" in places["document"].read_text()


def test_weights_of_the_package_stand_in_a_table_once(tmp_path: Path) -> None:
    preset = replace(LAPTOP[0].preset, held_out=3)
    column = replace(LAPTOP[0], preset=preset, systems=("GRAM", "GRAM, deciding"))
    table = Table("Two", (), (column,), None)
    runs = tables.runs_of(table, tmp_path, seeds=2, teraflop=None)
    assert [(run.system, run.seed, run.packaged) for run in runs] == [
        ("GRAM", 0, None), ("GRAM, deciding", 0, "queens8"), ("GRAM", 1, None),
    ]  # fmt: skip
    perform(runs[1])
    found = runs[1].metrics()
    assert found is not None
    card = Card.read(WEIGHTS / "queens8")
    assert card is not None
    assert (found["updates"], found["parameters"], found["weights"]) == (card.updates, card.parameters, "queens8")
    assert found["operations"] == card.flops / 1e12
    assert (found["num_test"], found["num_samples"]) == (3, 20)
    assert found["selected_accuracy"] == 1


def test_a_column_has_rows_and_a_budget_of_its_own_and_a_row_a_preset(tmp_path: Path) -> None:
    quick = presets.get("sudoku", "quick", TINY | WORLDS["sudoku"][1])
    quick = replace(quick, samples=3, steps=4, held_out=2)
    own = Column(
        "own", "Own", tiny("sudoku"), (), systems=("PTRM", "GRAM, deciding"), own={"GRAM, deciding": quick}, teraflop=7
    )
    plain = Column(
        "plain", "Plain", tiny("sudoku"), (), systems=("GRAM", "HRM"), budgets={"HRM": None},
        changes={"HRM": {"fit.lr": 0.25}},
    )  # fmt: skip
    table = Table("Two", (), (own, plain), 3)
    runs = tables.runs_of(table, tmp_path, 1, None)
    assert sorted((run.column, run.system, run.teraflop) for run in runs) == [
        ("own", "GRAM, deciding", 7), ("own", "PTRM", 7), ("own", "TRM", 7), ("plain", "GRAM", 3),
        ("plain", "HRM", None),
    ]  # fmt: skip
    assert {run.teraflop for run in tables.runs_of(table, tmp_path, 1, 1.5)} == {1.5}
    assert [run.system for run in runs if run.preset.fit.get("lr") == 0.25] == ["HRM"]
    (decided,) = (replace(run, teraflop=None) for run in runs if run.whole)
    perform(decided)
    found = decided.metrics()
    assert found is not None
    assert (found["updates"], found["num_samples"], found["num_test"]) == (2, 3, 2)
    assert found["model"]["class"] == "gram_ppl.models.Deciding"
    assert {"block": 2, "width": 8}.items() <= found["model"]["arguments"].items()


@pytest.mark.parametrize("column", [column for column in LAPTOP if column.name.startswith("queens")])
def test_the_package_answers_the_boards_of_the_laptops_table(column: Column) -> None:
    """One token a row there, one a cell where plain GRAM trains long."""
    rows = gp.pretrained(column.packaged["GRAM, deciding"]).task.inputs("test")
    n = rows.shape[1]
    assert column.preset.world(**column.preset.task).inputs("test").equal(rows)
    long = column.own["GRAM, trained long"]
    queens = long.world(**long.task).inputs("test").view(-1, n, n) == 2
    assert (queens.int().argmax(-1) + queens.any(-1)).equal(rows)


def test_uniformity_of_each_system_beside_an_ideal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    column = Column("sudoku", "4×4 Sudoku", tiny("sudoku"), ("accuracy",))
    systems = ("TRM", "PTRM", "MDLM", "GRAM, deciding")
    monkeypatch.setitem(TABLES, ("1", "cpu"), Table("Tiny", systems, (column,), None))
    document = tmp_path / "document.md"
    document.write_text("# Results\n")
    places = {"runs": tmp_path / "runs", "results": tmp_path / "results", "document": document}
    arguments = ["uniformity.py", *(str(part) for name in places for part in (f"--{name}", places[name]))]
    monkeypatch.setattr(sys, "argv", [*arguments, "--samples", "20"])
    uniformity.main()
    (found,) = json.loads((places["results"] / "uniformity.json").read_text()).values()
    assert list(found) == ["ideal sampler", *systems]
    assert found["TRM"]["rejected"] == 1  # one answer, twenty times, or none that holds
    assert len({one["inputs"] for one in found.values()}) == 1
    assert found["ideal sampler"]["accuracy"] == 1
    assert "| 4×4 Sudoku | MDLM |" in document.read_text()
    assert (tmp_path / "uniformity_sudoku.png").exists()


def mnist(folder: Path, size: int = 28) -> Path:
    """A few black pictures with a white dot, as MNIST's four files."""
    folder.mkdir()
    for name, number in (("train", 40), ("t10k", 20)):
        pictures = bytearray(number * size * size)
        for n in range(number):
            pictures[n * size * size + n] = 255
        labels = bytes(n % 10 for n in range(number))
        sizes = [number.to_bytes(4, "big"), *[size.to_bytes(4, "big")] * 2]
        (folder / f"{name}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + b"".join(sizes) + pictures)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + sizes[0] + labels)
    return folder


def test_pictures_are_judged_with_the_files_that_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = TINY | {"samples": 100, "steps": 2, "task.num_validation": 5, "model.encoder.channels": 2}
    column = replace(DIGITS, preset=presets.get("mnist", "quick", changes))
    table = Table("Tiny", ("VAE", "GRAM"), (column,), None)
    monkeypatch.setitem(TABLES, ("2", "cpu"), table)
    places = {name: tmp_path / name for name in ("out", "results", "document")}
    arguments = ["tables.py", "2", *(str(part) for name in places for part in (f"--{name}", places[name]))]
    for wrong, message in (
        ([], "--data mnist=PATH must say"),
        (["--data", "digits=x"], "no column 'digits'"),
        (["--data", "mnist"], "expected COLUMN=PATH, found 'mnist'"),
    ):
        monkeypatch.setattr(sys, "argv", [*arguments, *wrong])
        with pytest.raises(SystemExit, match="2"):
            tables.main()
        assert message in capsys.readouterr().err
    data = mnist(tmp_path / "files")
    column = with_data(column, str(data))
    for system in table.systems:
        perform(Run(places["out"] / "cpu", column.name, column.preset, system, 0))
    monkeypatch.setattr(sys, "argv", [*arguments, "--data", f"mnist={data}"])
    tables.main()
    for record in json.loads((places["results"] / "table_2_cpu.json").read_text()):
        assert record["fid"] > 0
        assert 1 <= record["inception_score"] <= 10
        assert record["task"]["arguments"]["root"] == "files"
    assert len(list((places["out"] / "cpu" / "features").iterdir())) == 1
    runs = places["out"] / "cpu"
    picture, given = tmp_path / "digits.png", {"data": data, "runs": runs, "results": places["results"]}
    given["weights"] = runs / "mnist" / "gram" / "seed-0"
    named = [str(part) for name, value in given.items() for part in (f"--{name}", value)]
    monkeypatch.setattr(sys, "argv", ["digits.py", *named, "--picture", str(picture)])
    monkeypatch.setattr(digits.by_depth, "__defaults__", ((1, 2),))
    digits.main()
    assert [one["steps"] for one in json.loads((places["results"] / "digits.json").read_text())] == [1, 2]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_model_for_each_small_task_of_arc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, names in (("training", ["a"]), ("evaluation", ["b", "c", "large"])):
        (tmp_path / "data" / part).mkdir(parents=True)
        for k, name in enumerate(names):
            grids = [[[k, n], [1 + n, 2]] if name != "large" else [[n] * 11] for n in range(3)]
            pairs = [{"input": grid, "output": grid[::-1]} for grid in grids]
            task = {"train": pairs[:2], "test": pairs[2:]}
            (tmp_path / "data" / part / f"{name}.json").write_text(json.dumps(task))
    made = arc.runs_of(tmp_path / "data", 10, tmp_path / "runs", 1e-6)
    assert [(run.column, run.system) for run in made] == [("b", "TRM"), ("b", "GRAM"), ("c", "TRM"), ("c", "GRAM")]
    assert made[0].task().num_puzzles > 1  # its augmentations
    assert made[0].task().spec.len_out == 10 * 10
    for run in made:
        perform(replace(run, preset=run.preset.changed({"fit.compile": False})))
    (tmp_path / "document.md").write_text("# Results\n")
    places = {"data": "data", "out": "runs", "results": ".", "document": "document.md"}
    arguments = [str(part) for name in places for part in (f"--{name}", tmp_path / places[name])]
    monkeypatch.setattr(sys, "argv", ["arc.py", *arguments, "--teraflop", "1e-6"])
    arc.main()
    found = json.loads((tmp_path / "arc.json").read_text())
    assert [(one["column"], one["system"], one["updates"]) for one in found] == [
        ("b", "TRM", 1), ("b", "GRAM", 1), ("c", "TRM", 1), ("c", "GRAM", 1)
    ]  # fmt: skip
    assert all(0 <= one["pass_at_1"] <= one["pass_at_2"] <= 1 for one in found)
    shown = (tmp_path / "document.md").read_text()
    assert "| GRAM | 2 of 2 | " in shown
    shutil.rmtree(tmp_path / "runs")
    arc.main()  # nothing to run: the figures stand there
    assert not (tmp_path / "runs").exists()
    assert (json.loads((tmp_path / "arc.json").read_text()), (tmp_path / "document.md").read_text()) == (found, shown)
    monkeypatch.setattr(sys, "argv", ["arc.py", *arguments, "--teraflop", "1e-6", "--tasks", "0", "--again"])
    arc.main()
    assert json.loads((tmp_path / "arc.json").read_text()) == found
    for others, sentence in (
        (["--teraflop", "2e-6"], "has figures of other operations or grids"),
        (["--teraflop", "1e-6", "--largest", "5"], "has figures of other operations or grids"),
        (["--teraflop", "1e-6", "--jobs", "0"], "expected a whole number, at least 1, found '0'"),
        (["--teraflop", "1e-6", "--data", "nowhere"], "--data: "),
    ):
        monkeypatch.setattr(sys, "argv", ["arc.py", *arguments, *others])
        with pytest.raises(SystemExit) as stopped:
            arc.main()
        assert stopped.value.code == 2
        assert sentence in capsys.readouterr().err
    assert json.loads((tmp_path / "arc.json").read_text()) == found


def test_what_was_written_elsewhere_is_kept_and_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    column = Column("sudoku", "4×4 Sudoku", tiny("sudoku"), ("accuracy",))
    table = Table("Tiny", ("TRM", "PTRM", "GRAM"), (column,), None)
    monkeypatch.setitem(TABLES, ("1", "cpu"), table)
    places = {name: tmp_path / name for name in ("out", "results", "document")}
    elsewhere = [
        {"title": column.title, "column": "sudoku", "system": system, "seed": 0, "accuracy": accuracy}
        for system, accuracy in (("TRM", 0.25), ("GRAM", 0.75))
    ]
    places["results"].mkdir()
    (places["results"] / "table_1_cpu.json").write_text(json.dumps(elsewhere))
    arguments = ["tables.py", "1", *(str(part) for name in places for part in (f"--{name}", places[name]))]
    asked: list[Run] = []

    def note(run: Run, threads: int = 1) -> Path:
        asked.append(run)
        return run.folder

    class Here:
        """A pool that performs at once, in this process."""

        def __init__(self, **_: Any) -> None: ...
        def __enter__(self) -> Here:
            return self

        def __exit__(self, *_: Any) -> None: ...
        def submit(self, work: Any, run: Run) -> Future[Path]:
            future: Future[Path] = Future()
            future.set_result(work(run))
            return future

    monkeypatch.setattr(tables, "perform", note)
    monkeypatch.setattr(tables, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(sys, "argv", arguments)
    tables.main()
    assert [run.system for run in asked] == ["TRM", "PTRM"]  # PTRM needs TRM's weights
    assert "| GRAM | 0.750 | 1 |" in capsys.readouterr().out
    assert len(json.loads((places["results"] / "table_1_cpu.json").read_text())) == 2
    for more in (["--again"], ["--teraflop", "2"]):  # figures of another budget don't count
        asked.clear()
        monkeypatch.setattr(sys, "argv", [*arguments, *more])
        tables.main()
        assert [run.system for run in asked] == ["TRM", "GRAM", "PTRM"]


def test_a_row_has_one_budget(tmp_path: Path) -> None:
    column = Column("sudoku", "4×4 Sudoku", tiny("sudoku"), ("accuracy",))
    table = Table("Tiny", ("TRM", "GRAM"), (column,), 2)
    written = [("TRM", 0, 0.25, 2.0), ("TRM", 1, 0.5, 1.0), ("GRAM", 0, 0.75, 1.0), ("GRAM", 1, 0.25, 1.0)]
    records = [
        {"column": "sudoku", "system": system, "seed": seed, "accuracy": accuracy, "teraflop": teraflop}
        for system, seed, accuracy, teraflop in written
    ]
    (tmp_path / "table_1_cpu.json").write_text(json.dumps(records))
    runs = tables.runs_of(table, tmp_path / "out", 2, 2)
    text = tables.write("1", "cpu", table, runs, tmp_path, tmp_path / "document.md")
    assert "| TRM | 0.250 | 1 |" in text
    assert "| GRAM | 0.500 ± 0.354 | 2 |" in text
    kept = json.loads((tmp_path / "table_1_cpu.json").read_text())
    assert [record["system"] for record in kept] == ["TRM", "GRAM", "GRAM"]


@pytest.mark.parametrize(("number", "scale"), list(TABLES))
def test_the_written_tables_are_those_of_their_records(number: str, scale: str, tmp_path: Path) -> None:
    kind = "figure" if number == FIGURE else "table"
    record = tables.RESULTS / f"{kind}_{number}_{scale}.json"
    if not record.exists():
        pytest.skip("not run yet")
    shutil.copy(record, tmp_path)
    document = Path(shutil.copy(tables.DOCUMENT, tmp_path))
    table = TABLES[number, scale]
    if number == FIGURE:
        figure_text.write(scale, table, [], tmp_path, document)
    else:
        text = tables.write(number, scale, table, [], tmp_path, document)
        assert text == record.with_suffix(".md").read_text()
    assert document.read_text() == tables.DOCUMENT.read_text()


def test_the_written_uniformity_is_that_of_its_records() -> None:
    found = json.loads((tables.RESULTS / "uniformity.json").read_text())
    text = tables.DOCUMENT.read_text()
    assert table_text.insert(text, "uniformity", uniformity.table(found)) == text
    rows = ["ideal sampler", *TABLES["1", "cpu"].systems]
    assert all(list(systems) == rows for systems in found.values())


def test_the_written_tasks_of_arc_are_those_of_their_records() -> None:
    records = list(table_text.written(tables.RESULTS, "arc").values())
    text = tables.DOCUMENT.read_text()
    assert table_text.insert(text, "arc", arc.table(records, 77)) == text
    tasks = [{one["column"] for one in records if one["system"] == system} for system in arc.SYSTEMS]
    assert tasks[0] == tasks[1]


def test_the_picture_shows_what_the_table_says() -> None:
    text = (tables.RESULTS / "table_1_cpu.md").read_text().partition("### 8 queens, rows")[2].partition("###")[0]
    rows = [[cell.split()[0] if cell.strip() else "" for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    shown = overview.points(tables.RESULTS)["8 queens, rows"]
    assert [f"{value:.3f}" for value in shown["MDLM"]] == next([r[1], r[4], r[5]] for r in rows if r[:1] == ["MDLM"])
    assert sorted(shown) == sorted(name for _, _, names in overview.KINDS.values() for name in names)


def test_depth_and_width_from_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_text, "STEPS", 4)
    monkeypatch.setattr(figure_text, "SAMPLES", 3)
    made = run(tmp_path, "sudoku", "GRAM")
    table = Table("Depth and width", ("TRM", "GRAM"), (Column("sudoku", "4×4", made.preset, ()),), None)
    places = (tmp_path / "results", tmp_path / "document.md")
    assert "GRAM" not in figure_text.write("cpu", table, [made], *places)
    perform(made)
    text = figure_text.write("cpu", table, [made], *places)
    (record,) = json.loads((places[0] / "figure_4_cpu.json").read_text())
    assert (record["depths"], record["widths"]) == ([1, 2, 4], [1, 2, 3])
    assert f"| GRAM | {' | '.join(f'{value:.3f}' for value in record['one'])} |" in text
    assert record["selected"][-1][0] == pytest.approx(record["one"][-1], abs=1e-6)
    assert (made.folder / "depth_and_width.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["9", "--scale", "laptop"], "there is no table 9 at the scale laptop"),
        (["1", "--system", "Oracle"], "there is no system 'Oracle' in this table: expected one of"),
        (["1", "--column", "chess"], "there is no column 'chess' in this table: expected one of sudoku4"),
    ],
)
def test_bad_arguments(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tables.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        tables.main()
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
