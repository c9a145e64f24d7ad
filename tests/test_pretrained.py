"""Weights that come with the library, and models on the hub: cards, checksums, figures, errors."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from typer.testing import CliRunner

import gram_ppl as gp
from gram_ppl.cli import app
from gram_ppl.cli.folders import thinking
from gram_ppl.storage import checkpoint, descriptions, places
from gram_ppl.storage.card import Card, digest
from gram_ppl.storage.measurement import Measurement

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import pretrained

NAMES = places.names()
PUZZLE = "1... .... ...2 ...."


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_their_card(name: str) -> None:
    folder = places.WEIGHTS / name
    card = Card.read(folder)
    assert card is not None
    model, _, task, options = gp.pretrained(name)
    assert digest(folder / "model.safetensors") == card.sha256
    assert sum(weights.numel() for weights in model.parameters()) == card.parameters
    assert (folder / "README.md").read_text() == card.text(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    assert len(task.inputs("test")) >= 1
    assert options["num_samples"] == Measurement.stored(folder).samples


def test_all_weights_together_are_small() -> None:
    assert NAMES
    assert sum(path.stat().st_size for path in places.WEIGHTS.rglob("*")) < 8_000_000


def test_documents_have_the_figures_of_the_cards() -> None:
    text = pretrained.RESULTS.read_text(encoding="utf-8")
    assert text.split("<!-- weights -->")[1].split("<!-- end of weights -->")[0].strip() == pretrained.table().strip()
    assert set(NAMES) <= set(pretrained.RECIPES)


@pytest.mark.parametrize("name", NAMES)
def test_weights_name_no_folder_of_the_machine_that_made_them(name: str, tmp_path: Path) -> None:
    """Their task is built from files that come with them, wherever that is."""
    description = checkpoint.read(places.WEIGHTS / name / checkpoint.MODEL_FILE)[1]
    assert '"/' not in json.dumps(description)
    away = tmp_path / "moved"
    shutil.copytree(places.WEIGHTS / name, away)
    task = gp.load(away)[2]
    assert all(
        Path(path).parent == away for path in [*(task.config.get("data") or []), *(task.config.get("test_data") or [])]
    )
    gp.save(away, *gp.load(away))
    assert '"/' not in json.dumps(checkpoint.read(away / checkpoint.MODEL_FILE)[1])


@pytest.mark.parametrize("change", [descriptions.beside, descriptions.by_name])
def test_words_of_a_task_that_are_no_names_of_files_stay(change: Callable[..., Any], tmp_path: Path) -> None:
    arguments = {"text": "word " * 1000, "root": "/", "names": ["", "."]}
    assert change(arguments, tmp_path) == arguments


def test_weights_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "queens8"
    shutil.copytree(places.WEIGHTS / "queens8", out)
    recipe = pretrained.RECIPES["queens8"]
    brief = {"held_out": 2, "samples": 3, "model.certain": 0.4}
    monkeypatch.setitem(pretrained.RECIPES, "queens8", replace(recipe, measured=brief, limits="none"))
    pretrained.main(["queens8", "--again", "--out", str(out)])
    card, before = Card.read(out), Card.read(places.WEIGHTS / "queens8")
    assert card is not None
    assert before is not None
    assert (card.limits, card.figures["num_test"], card.figures["num_samples"]) == ("none", 2, 3)
    assert replace(card, limits=before.limits, figures=before.figures, sha256=before.sha256) == before
    model, other = (gp.load(folder)[0] for folder in (out, places.WEIGHTS / "queens8"))
    assert model.certain == 0.4
    for name, weights in other.state_dict().items():
        assert torch.equal(model.state_dict()[name], weights)


def test_digits_are_measured_and_made_without_the_files_of_their_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "digits"
    shutil.copytree(places.WEIGHTS / "digits", out)
    recipe = pretrained.RECIPES["digits"]
    monkeypatch.setitem(pretrained.RECIPES, "digits", replace(recipe, measured={"steps": 2, "samples": 3}))
    monkeypatch.setattr("gram_ppl.tasks.mnist.task.draw_digits", lambda *_: pytest.fail("digits were drawn"))
    pretrained.main(["digits", "--again", "--out", str(out)])
    card = Card.read(out)
    assert card is not None
    assert (card.figures["num_samples"], card.figures["steps"]) == (3, 2)
    done = call("generate", str(out), "--samples", "2", "--json")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert (made["steps"], made["verified"], [len(one["tokens"]) for one in made["answers"]]) == (2, 2, [784, 784])


def test_weights_are_trained_and_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"model.width": 8, "fit.batch_size": 32, "task.num_validation": 2, "task.num_test": 2, "samples": 2}
    recipe = replace(pretrained.RECIPES["sudoku4"], settings=small | {"fit.updates": 2})
    for start in (None, str(tmp_path / "0" / "run")):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        monkeypatch.setitem(pretrained.RECIPES, "sudoku4", replace(recipe, start=start))
        pretrained.main(["sudoku4", "--out", str(folder / "out"), "--run", str(folder / "run")])
        card = Card.read(folder / "out")
        assert card is not None
        assert (card.updates, card.figures["num_test"]) == (2, 2)
        assert card.command.startswith(f"gram-ppl train sudoku {'' if start is None else f'--start {start} '}--set ")
        assert digest(folder / "out" / "model.safetensors") == card.sha256


def test_figures_are_those_of_the_card() -> None:
    """Of 20 test inputs: accuracy and coverage as the card has them, within what so few tell."""
    card = Card.read(places.WEIGHTS / "sudoku4")
    assert card is not None
    done = call("evaluate", "pretrained:sudoku4", "--held-out", "20", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["num_test"] == 20
    assert abs(found["accuracy"] - card.figures["accuracy"]) < 0.02
    assert abs(found["coverage"] - card.figures["coverage"]) < 0.05


def test_solve_finds_every_completion() -> None:
    done = call("solve", "pretrained:sudoku4", PUZZLE, "--all", "--json")
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["puzzles"]
    assert (result["solutions"], result["complete"]) == (18, True)
    model, _, task, options = gp.pretrained("sudoku4")
    assert gp.solve(model, task, task.parse(PUZZLE), **options, seed=0).verified.all()


def test_every_completion_of_a_board_that_is_read_again_elsewhere() -> None:
    """Seven completions of three queens: a second reading, which makes single answers surer, refuses one of them."""
    model, _, task, _ = gp.pretrained("queens10")
    options = thinking(Path("pretrained:queens10"), model, task, mode="coverage", every=True)
    assert (options["views"], options["first_answer"]) == (1, False)
    assert thinking(Path("pretrained:queens10"), model, task, mode="accuracy")["views"] == 8
    x = next(x for x in task.inputs("test")[:2000] if (x > 0).sum() == 3 and task.num_solutions(x) == 7)
    done = call("solve", "pretrained:queens10", task.line(x), "--all", "--json")
    assert done.exit_code == 0, done.output
    (result,) = json.loads(done.stdout)["puzzles"]
    assert (result["solutions"], result["complete"]) == (7, True)


def test_list_names_them_all() -> None:
    done = call("list", "--json")
    assert sorted(json.loads(done.stdout)) == NAMES
    assert all(name in call("list").stdout for name in NAMES)


def test_the_full_name_will_do() -> None:
    assert gp.pretrained("pretrained:sudoku4").options == gp.pretrained("sudoku4").options


def test_several_puzzles_and_a_selector_by_name() -> None:
    model, _, task, options = gp.pretrained("sudoku4")
    rows: Any = [task.parse(PUZZLE), task.parse("12.. 34.. 2143 4321")]
    brief = options | {"num_samples": 4, "seed": 0}
    found = gp.solve(model, task, rows, **brief, select="vote")
    same = gp.solve(model, task, torch.stack(rows), **brief, select=gp.select.MajorityVote())
    assert torch.equal(found.tokens, same.tokens)
    with pytest.raises(ValueError, match="select: expected one of first, vote"):
        gp.solve(model, task, rows, select="worst")
    with pytest.raises(ValueError, match=r"expected the spec of a task, found Sudoku: is it task\.spec\?"):
        gp.models.GRAM(task)


def test_what_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"pretrained:chess: there are no such weights; there are .*sudoku4"):
        gp.pretrained("chess")
    done = call("solve", "pretrained:chess", PUZZLE)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_weights_that_are_not_those_of_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(places.WEIGHTS / "sudoku4", tmp_path / "sudoku4")
    monkeypatch.setattr(places, "WEIGHTS", tmp_path)
    model, guide, task = gp.load("pretrained:sudoku4")
    with torch.no_grad():
        next(model.parameters()).add_(1)
    gp.save(tmp_path / "sudoku4", model, guide, task)
    with pytest.raises(gp.CheckpointError, match="not the weights that the card tells of"):
        gp.pretrained("sudoku4")
    (tmp_path / "sudoku4" / "card.json").write_text('{"about": "nothing"}')
    with pytest.raises(ValueError, match=r"card.json: the file is damaged"):
        gp.pretrained("sudoku4")


def test_data_beside_the_model(tmp_path: Path) -> None:
    """A task whose file lies in the folder is built from there, wherever the folder is."""
    task = gp.tasks.Sudoku(num_validation=0, num_test=2)
    rows = [
        f"made,{task.line(x)},{task.line(y)},0" for x, y in zip(task.inputs("test"), task.answers("test"), strict=True)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["source,question,answer,rating", *rows]))
    stored = gp.tasks.Sudoku((2, 2), data=str(tmp_path / "rows.csv"), num_validation=0, num_test=1)
    stored.config["data"] = ["rows.csv"]
    model = gp.models.GRAM(stored.spec, width=8)
    gp.save(tmp_path, model, gp.guides.AmortizedGuide(model), stored)
    (tmp_path / "moved").mkdir()
    for name in ("rows.csv", "model.safetensors"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    _, _, found = gp.load(tmp_path / "moved")
    assert torch.equal(found.inputs("test"), stored.inputs("test"))


def test_to_the_hub_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub: dict[str, Path] = {}

    class Api:
        def create_repo(self, name: str, exist_ok: bool) -> None:
            assert exist_ok
            (tmp_path / name).mkdir(parents=True)

        def upload_folder(self, *, repo_id: str, folder_path: Path) -> str:
            hub[repo_id] = tmp_path / repo_id
            shutil.copytree(folder_path, hub[repo_id], dirs_exist_ok=True)
            return repo_id

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        if name not in hub:
            raise FileNotFoundError("404")
        assert "model.safetensors" in allow_patterns
        return str(hub[name])

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    model, guide, task, _ = gp.pretrained("sudoku4")
    card = Card.read(places.WEIGHTS / "sudoku4")
    gp.save("hub:someone/four", model, guide, task, card=card)
    assert (hub["someone/four"] / "README.md").read_text().startswith("---\nlibrary_name: gram_ppl\n")
    again, _, same = gp.load("hub:someone/four")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert torch.equal(same.inputs("test"), task.inputs("test"))
    with pytest.raises(
        ValueError, match=r"hub:someone/five: the hub did not answer as hoped \(FileNotFoundError: 404\)"
    ):
        gp.load("hub:someone/five")
    with pytest.raises(ValueError, match="expected hub:OWNER/NAME"):
        gp.load("hub:someone")
