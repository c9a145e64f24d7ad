"""Presets: every one builds, settings change by dotted name, and what does not fit is one sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import gram_ppl as gp
from gram_ppl import presets
from gram_ppl.presets.settings import changed

SMALL = {
    "sudoku": {"task.num_validation": 2, "task.num_test": 2},
    "queens": {"task.n": 5, "task.num_validation": 2},
    "coloring": {"task.n": 5, "task.num_train": 50, "task.num_validation": 2, "task.num_test": 2},
    "maze": {"task.num_validation": 2, "task.num_test": 2, "task.pool": 50},
    "mnist": {"task.num_validation": 2},
    "unconditional": {"task.side": 4},
}
BUILT = [(task, name) for task, found in presets.PRESETS.items() for name in found if task != "arc"]


@pytest.mark.parametrize(("task", "name"), BUILT)
def test_preset_trains(task: str, name: str, tmp_path: Path) -> None:
    small = {"fit.updates": 1}
    if name in ("gpu", "paper"):
        small |= {"model.width": 16, "model.hidden": 16, "fit.batch_size": 16}
    pool = {"task.pool": 8} if task == "sudoku" else {}
    preset = presets.get(task, name, small | SMALL[task] | pool)
    if preset.needs:
        few = gp.tasks.Sudoku(clues=(40, 50), unique=True, num_validation=0, num_test=12, pool=1)
        pairs = zip(few.inputs("test"), few.answers("test"), strict=True)
        rows = [f"made,{few.line(x)},{few.line(y)},0" for x, y in pairs]
        (tmp_path / "few.csv").write_text("\n".join(["source,question,answer,rating", *rows]))
        preset = changed(
            preset, {"task.data": str(tmp_path / "few.csv"), "fit.batch_size": 4}, {"task": {"data": None}}
        )
    if name == "paper":  # as small as the 16 supervision steps allow
        preset = changed(preset, {"model.registers": 1})
    made, model, guide, objective, options = presets.build(preset, seed=1)
    assert options["evaluate_steps"] == preset.fit.get("evaluate_steps", preset.steps)
    assert model.config["seed"] == 1
    assert objective.beta == preset.beta(0.0)
    assert objective.balance == preset.balance
    history = gp.fit(model, guide, made, objective=objective, **options | {"evaluations": 0}, progress=False)
    assert history[-1].update == 1


def test_paper_presets_have_the_backbone_of_the_paper() -> None:
    for found in presets.PRESETS.values():
        paper = found["paper"]
        assert (paper.model["width"], paper.model["hidden"], paper.model["layers"]) == (512, 512, 2)
        assert (paper.model["transitions"], paper.model["supervision"], paper.model["registers"]) == (3, 16, 16)
        assert (paper.fit["batch_size"], paper.fit["lr"], paper.fit["weight_decay"]) == (768, 1e-4, 1.0)
    beta = {task: found["paper"].beta(0.5) for task, found in presets.PRESETS.items() if task != "maze"}
    published = {"sudoku": 0.1, "arc": 0.04, "queens": 0.07, "coloring": 0.5, "mnist": 0.07, "unconditional": 0.05}
    assert beta == pytest.approx(published)


def test_settings_reach_the_objects_and_leave_the_preset_alone() -> None:
    before = repr(presets.PRESETS)
    asked = {"task.clues": [5, 6], "model.noise.scale": 0.5, "model.mixer.heads": 2, "model.width": 16, "beta.last": 2}
    preset = presets.get("sudoku", "gram", asked | SMALL["sudoku"] | {"fit.lr": 1, "steps": None})
    task, model, *_ = presets.build(preset)
    assert set((task.inputs("test") > 0).sum(-1).tolist()) <= set(range(4, 9))
    assert task.clues == (5, 6)
    assert isinstance(model.noise, gp.models.LearnedNoise)
    assert (model.noise.scale, model.config["mixer"].heads, model.width) == (0.5, 2, 16)
    assert (preset.beta(1.0), preset.fit["lr"], preset.steps) == (2, 1, 8)
    assert repr(presets.PRESETS) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("chess",), "there is no task 'chess': expected one of sudoku, queens"),
        (("queens", "9x9"), "queens has no preset '9x9': expected one of quick, gram, paper, gpu"),
        (("sudoku", "gram", {"fit.updatez": 3}), "there is no setting 'fit.updatez': expected one of updates, batch_s"),
        (("sudoku", "gram", {"fit.out": "x"}), "there is no setting 'fit.out'"),
        (("sudoku", "gram", {"world": "x"}), "there is no setting 'world': expected one of beta, task, model, fit"),
        (("sudoku", "gram", {"task.boxes": [2, 2]}), "there is no setting 'task.boxes': expected one of box, clues"),
        (("sudoku", "gram", {"steps.n": 3}), "there is no setting 'steps.n'"),
        (("sudoku", "gram", {"fit.updates": 1.5}), "fit.updates: expected a value like 1500, found 1.5"),
        (("sudoku", "gram", {"fit.updates": True}), "fit.updates: expected a value like 1500, found True"),
        (("sudoku", "gram", {"beta": 3}), "beta: expected a value like LogLinear(first=10"),
    ],
)
def test_what_does_not_fit_is_one_sentence(arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        presets.get(*arguments)
    assert sentence in str(error.value)


def test_a_task_that_needs_data_says_so() -> None:
    with pytest.raises(ValueError, match=r"task\.root is not set, and this task needs it"):
        presets.build(presets.get("arc", "quick"))


def test_an_impossible_setting_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        presets.build(presets.get("queens", "gram", {"task.removed": 3}))
    with pytest.raises(ValueError, match="hidden must be a whole number, got 'wide'"):
        presets.build(presets.get("sudoku", "gram", {"model.hidden": "wide", **SMALL["sudoku"]}))


def test_the_default_is_the_same_on_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        assert presets.default() == "quick"
        assert presets.get("queens") == presets.get("queens", "cpu") == presets.PRESETS["queens"]["quick"]


def test_presets_for_a_gpu_are_others_with_changes() -> None:
    extreme, gpu = (presets.PRESETS["sudoku"][name] for name in ("extreme", "gpu"))
    assert gpu.model == extreme.model | {"width": 128, "layers": 2}
    assert gpu.fit == extreme.fit | {"batch_size": 512, "updates": 5000}
    assert gpu.objective["window"] == 16
    assert presets.PRESETS["queens"]["gpu"].task["n"] == 10
    assert presets.PRESETS["unconditional"]["gpu"].task["side"] == 9
    assert presets.PRESETS["queens"]["quick"].task["n"] == 8


@dataclass(frozen=True)
class Inner:
    share: float = 0.5
    name: str = "a"


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    table: dict = field(default_factory=lambda: {"depth": 3, "inner": Inner()})


def test_changed() -> None:
    outer = Outer()
    new = changed(
        outer,
        {"inner.share": 1, "table.depth": 4, "table.inner.name": "b", "table.extra": [1]},
        {"table": {"extra": None}},
    )
    assert new == Outer(Inner(1), {"depth": 4, "inner": Inner(name="b"), "extra": [1]})
    assert outer == Outer()
    for name, value in (("inner.name", 3), ("inner.share", "x"), ("table.depth", "x"), ("inner", 3), ("table", [1])):
        with pytest.raises(ValueError, match=f"^{name}: expected a value like"):
            changed(outer, {name: value})
