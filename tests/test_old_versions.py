"""What the first version wrote is read by this one: models, training states, runs of the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import gram_ppl as gp
from gram_ppl.cli import app
from gram_ppl.storage.measurement import Measurement

OLD = Path(__file__).parent / "data" / "version_0_1"
SETTINGS: dict[str, Any] = {
    "updates": 12, "batch_size": 8, "evaluations": 2, "heads_every": 4, "progress": False, "checkpoint_every": 5,
    "device": "cpu", "compile": False,
}  # fmt: skip


def total(module: torch.nn.Module) -> float:
    return sum(parameter.double().sum().item() for parameter in module.parameters())


def test_a_model_loads() -> None:
    model, guide, task = gp.load(OLD / "sudoku")
    assert type(model) is gp.models.GRAM
    assert type(guide) is gp.guides.AmortizedGuide
    assert isinstance(task, gp.tasks.Sudoku)
    assert (total(model), total(guide)) == pytest.approx((16.391222901923356, -1.2530895187760507), abs=1e-9)
    tokens = gp.rollout(model, task.inputs("test"), num_samples=1, steps=4, seed=3).tokens[:2, 0]
    expected = [[2, 0, 2, 0, 1, 3, 4, 0, 3, 4, 4, 0, 1, 4, 4, 4], [4, 4, 0, 0, 0, 4, 4, 0, 0, 4, 4, 0, 2, 0, 4, 4]]
    assert (tokens == torch.tensor(expected)).float().mean() > 0.9  # ties may fall otherwise on another processor


def test_a_state_goes_on_to_where_the_first_version_got(tmp_path: Path) -> None:
    (tmp_path / gp.STATE_FILE).write_bytes((OLD / "sudoku" / gp.STATE_FILE).read_bytes())
    task = gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=4, num_test=4)
    model = gp.models.GRAM(task.spec, width=8, hidden=8, mixer=gp.nn.Attention(heads=2))
    guide = gp.guides.AmortizedGuide(model)
    started: list[int] = []
    history = gp.fit(
        model, guide, task, out=tmp_path, resume=True, before_update=lambda run: started.append(run.update), **SETTINGS
    )
    assert started == list(range(5, 12))
    assert history[-1].update == 12
    ended, its_guide, _ = gp.load(OLD / "sudoku")
    for one, other in ((model, ended), (guide, its_guide)):
        expected = other.state_dict()
        assert one.state_dict().keys() == expected.keys()
        for name, value in one.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=5e-3, msg=name)  # bf16 on some processors


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / gp.STATE_FILE).write_bytes((OLD / "sudoku" / gp.STATE_FILE).read_bytes())
    task = gp.tasks.Sudoku(box=(2, 2), clues=(4, 9), num_validation=4, num_test=4)
    model = gp.models.GRAM(task.spec, width=8, hidden=8, mixer=gp.nn.Attention(heads=2))
    with pytest.raises(gp.CheckpointError, match=r"other settings: task.arguments.clues.1 was 8|clues was \[4, 8\]"):
        gp.fit(model, gp.guides.AmortizedGuide(model), task, out=tmp_path, resume=True, **SETTINGS)


def test_a_run_of_the_command_line_is_evaluated_as_ever(tmp_path: Path) -> None:
    shutil.copytree(OLD / "queens", tmp_path / "run")
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["task"], found["num_test"], found["num_samples"], found["steps"]) == ("NQueens", 4, 3, 4.0)
    assert found["network_calls"] == 144
    assert found["conflicts"] == pytest.approx(125.0, abs=6)
    assert found["selected_conflicts"] == pytest.approx(128.0, abs=8)


def test_a_run_of_the_command_line_goes_on_as_what_it_was(tmp_path: Path) -> None:
    """The preset that it names decides by now."""
    shutil.copytree(OLD / "queens", tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    done = CliRunner().invoke(app, ["train", "queens", "--out", str(tmp_path / "run"), "--resume"])
    assert done.exit_code == 0, done.stderr
    model, guide, task = gp.load(tmp_path / "run")
    assert type(model) is gp.models.GRAM
    assert isinstance(guide, gp.guides.AmortizedGuide)
    assert task.tokens == "cells"


def test_an_example_that_left_its_measurement_open(tmp_path: Path) -> None:
    asked = dict.fromkeys(("box", "data", "held_out", "updates", "samples", "steps", "preset")) | {"seed": 0}
    (tmp_path / "run.json").write_text(json.dumps(asked))
    assert Measurement.stored(tmp_path) == Measurement()
