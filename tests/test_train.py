"""The training loop: exact resume, the averaged weights, the schedule, decay groups, and the stop at NaN."""

import math
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import gram_ppl as gp
from gram_ppl.heads import Heads
from gram_ppl.program.objective import LogLinear
from gram_ppl.storage import checkpoint
from gram_ppl.storage.folder import STATE_FILE
from gram_ppl.training.optimizer import rate
from gram_ppl.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def task() -> gp.tasks.Sudoku:
    return gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=20, num_test=20)


def tiny(task: gp.tasks.Sudoku, **options: Any) -> tuple[gp.models.GRAM, gp.guides.AmortizedGuide]:
    model = gp.models.GRAM(task.spec, width=8, mixer=gp.nn.Attention(heads=2), **options)
    return model, gp.guides.AmortizedGuide(model)


def weights(*modules: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for module in modules for parameter in module.parameters()]


def test_the_same_seed_is_the_same_run_and_another_is_not(task: gp.tasks.Sudoku) -> None:
    runs = []
    for seed in (0, 0, 1):
        model, guide = tiny(task)
        history = gp.fit(model, guide, task, updates=12, batch_size=8, seed=seed, evaluations=2, progress=False)
        runs.append((weights(model, guide), [record._replace(seconds=0) for record in history]))
    assert all(map(torch.equal, runs[0][0], runs[1][0]))
    assert runs[0][1] == runs[1][1]
    assert not all(map(torch.equal, runs[0][0], runs[2][0]))


@pytest.mark.parametrize("options", [{}, {"heads_every": 2}, {"scheduled_sampling": 0.5}], ids=str)
def test_resume_equals_the_uninterrupted_run(task: gp.tasks.Sudoku, tmp_path: Path, options: dict[str, Any]) -> None:
    settings = {"updates": 20, "batch_size": 8, "evaluations": 4, "checkpoint_every": 3, "progress": False} | options
    model, guide = tiny(task)
    whole = gp.fit(model, guide, task, out=tmp_path / "whole", **settings)

    class Interrupt(Exception):
        pass

    def interrupt(run: Trainer) -> None:
        if run.update == 11:
            raise Interrupt

    with pytest.raises(Interrupt):
        gp.fit(*tiny(task), task, out=tmp_path / "cut", before_update=interrupt, **settings)
    torch.manual_seed(99)  # whatever happened in between
    again, its_guide = tiny(task, seed=5)
    again.config["seed"] = 0
    resumed = gp.fit(again, its_guide, task, out=tmp_path / "cut", resume=True, **settings)
    assert all(map(torch.equal, weights(model, guide), weights(again, its_guide)))
    assert [r._replace(seconds=0) for r in whole] == [r._replace(seconds=0) for r in resumed]
    states = [load_file(tmp_path / name / STATE_FILE) for name in ("whole", "cut")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_heads_are_trained_beside_the_model(task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    model, guide = tiny(task)
    gp.fit(model, guide, task, updates=4, batch_size=8, heads_every=2, evaluations=1, progress=False, out=tmp_path)
    fresh = Heads(model.width).state_dict()
    assert model.heads is not None
    assert all(not torch.equal(value, fresh[key]) for key, value in model.heads.state_dict().items())
    loaded, _, _ = gp.load(tmp_path)
    out, again = (gp.rollout(m, task.inputs("test")[:4], num_samples=2, seed=1) for m in (model, loaded))
    assert out.value is not None
    assert again.value is not None
    assert torch.equal(out.value, again.value)


def test_killed_in_mid_run_then_resumed_bit_for_bit(tmp_path: Path) -> None:
    def command(*folder: str) -> list[str]:
        options = ["--updates", "60", "--samples", "1", "--steps", "2"]
        return [sys.executable, str(ROOT / "examples" / "sudoku_svi.py"), *options, *folder]

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run: dict[str, Any] = {"cwd": tmp_path, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    subprocess.run(command("--out", "whole"), check=True, **run)
    killed = subprocess.Popen(command("--out", "cut"), **run)
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut" / STATE_FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "cut" / "metrics.json").exists()
    assert killed.stderr is not None
    killed.stderr.close()
    subprocess.run(command("--resume", "cut"), check=True, **run)
    for name in ("model.safetensors", STATE_FILE):
        whole, cut = (load_file(tmp_path / folder / name) for folder in ("whole", "cut"))
        assert whole.keys() == cut.keys(), name
        assert all(torch.equal(whole[key], cut[key]) for key in whole), name


def test_resume_refuses_other_settings_and_other_files(task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"batch_size": 8, "progress": False, "out": tmp_path}
    gp.fit(*tiny(task), task, updates=4, **settings)
    with pytest.raises(gp.CheckpointError, match="updates was 4 and is 8"):
        gp.fit(*tiny(task), task, updates=8, resume=True, **settings)
    with pytest.raises(gp.CheckpointError, match="transitions was 2 and is 3"):
        gp.fit(*tiny(task, transitions=3), task, updates=4, resume=True, **settings)
    (tmp_path / STATE_FILE).write_bytes((tmp_path / "model.safetensors").read_bytes())
    with pytest.raises(gp.CheckpointError, match=r"state\.safetensors: not the state of a training run"):
        gp.fit(*tiny(task), task, updates=4, resume=True, **settings)
    with pytest.raises(ValueError, match="needs out="):
        gp.fit(*tiny(task), task, updates=4, resume=True, progress=False)


def test_rows_move_on_and_the_oldest_group_is_replaced(task: gp.tasks.Sudoku) -> None:
    model, guide = tiny(task, supervision=4)
    settings = {"updates": 20, "batch_size": 8, "evaluations": 0, "seed": 3, "lr": 0.0, "weight_decay": 0.0}
    trainer = Trainer(model, guide, task, gp.SegmentELBO(1.0), full(settings), "cpu")
    fresh = list(islice(task.batches("train", 2, torch.Generator().manual_seed(3)), 8))
    for update in range(5):
        trainer.step()
        assert trainer.rows.carry is not None
        x = trainer.rows.carry.x.view(4, 2, -1)
        for group in range(4):
            # the first four batches fill the rows, then update u puts batch 3 + u into group u mod 4
            replaced = [u for u in range(1, update + 1) if u % 4 == group]
            batch = 3 + replaced[-1] if replaced else group
            assert torch.equal(x[group], fresh[batch].x), (update, group)


def test_average_is_the_ramped_exponential_one(task: gp.tasks.Sudoku) -> None:
    model, guide = tiny(task)
    trainer = Trainer(model, guide, task, gp.SegmentELBO(1.0), full({"updates": 9, "batch_size": 8, "ema": 0.5}), "cpu")
    expected = weights(trainer.segment)
    for update in range(9):
        trainer.step()
        decay = min(0.5, (1 + update) / (10 + update))
        if update == 0:
            expected = weights(trainer.segment)  # AveragedModel starts as a copy
        else:
            pairs = zip(expected, weights(trainer.segment), strict=True)
            expected = [decay * old + (1 - decay) * new for old, new in pairs]
    torch.testing.assert_close(weights(trainer.average.module), expected)


def test_only_linear_weights_are_decayed(task: gp.tasks.Sudoku) -> None:
    model, guide = tiny(task, registers=2)
    trainer = Trainer(model, guide, task, gp.SegmentELBO(1.0), full({}), "cpu")
    names = {parameter: name for name, parameter in trainer.segment.named_parameters()}
    decayed, others = ({names[p] for p in group["params"]} for group in trainer.optimizer.param_groups)
    assert trainer.optimizer.param_groups[1]["weight_decay"] == 0.0
    assert {name.rsplit(".", 2)[-2] for name in decayed} == {"qkv", "out", "gate_up", "down", "decoder"}
    assert others == {
        "model.encoder.empty", "model.encoder.extra", "model.encoder.positions", "model.encoder.tokens.weight",
        "model.core.low.0.mixer.relation", "guide.target.weight",
    }  # fmt: skip


def test_learning_rate_schedule() -> None:
    settings = {"updates": 100, "warmup": 10, "decay": 0.5, "final": 0.1}
    assert rate(0, settings) == pytest.approx(0.1)
    assert rate(9, settings) == rate(49, settings) == 1.0
    assert rate(75, settings) == pytest.approx(0.1 + 0.9 * 0.5)
    assert rate(99, settings) == pytest.approx(0.1 + 0.9 * 0.02)


def full(settings: dict[str, Any]) -> dict[str, Any]:
    defaults = {
        "updates": 10, "batch_size": 8, "seed": 0, "lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.95], "clip": 1.0,
        "warmup": 5, "decay": 0.3, "final": 0.05, "ema": 0.99, "evaluations": 0, "evaluate_on": 4,
        "evaluate_steps": None,
    }  # fmt: skip
    return defaults | settings


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    task: gp.tasks.Sudoku, tmp_path: Path, bad: float
) -> None:
    def poison(run: Trainer) -> None:
        if run.update == 7:
            with torch.no_grad():
                run.segment.model.guidance.down.weight[0, 0] = bad

    settings: dict[str, Any] = {
        "updates": 12,
        "batch_size": 8,
        "checkpoint_every": 5,
        "evaluations": 0,
        "progress": False,
    }
    with pytest.raises(gp.NonFiniteLoss, match=r"update 7.*site 'eps_0_0'.*state.safetensors, update 5"):
        gp.fit(*tiny(task), task, out=tmp_path, before_update=poison, **settings)
    _, document = checkpoint.read(tmp_path / STATE_FILE)
    assert document["update"] == 5


def test_bad_arguments(task: gp.tasks.Sudoku) -> None:
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"batch_size": 6}, "multiple of the model's 4"),
        ({"updates": 0}, "at least 1"),
        ({"heads_every": 0}, "at least 1"),
    )
    for settings, message in cases:
        with pytest.raises(ValueError, match=message):
            gp.fit(*tiny(task), task, progress=False, **settings)


def test_beta_follows_the_updates_and_evaluation_leaves_the_noise_alone(task: gp.tasks.Sudoku) -> None:
    def losses(evaluations: int) -> tuple[list[float], list[float]]:
        objective = gp.SegmentELBO(LogLinear(8.0, 2.0, 0.0, 1.0))
        settings: dict[str, Any] = {"updates": 10, "batch_size": 8, "evaluations": evaluations, "progress": False}
        history = gp.fit(*tiny(task), task, objective=objective, **settings)
        return [record.loss for record in history], [record.beta for record in history]

    (measured, betas), (unmeasured, _) = losses(5), losses(0)
    assert measured == unmeasured
    assert betas == pytest.approx([8.0 * 0.25 ** (update / 10) for update in range(10)])


def test_training_learns(task: gp.tasks.Sudoku) -> None:
    model, guide = tiny(task)
    history = gp.fit(model, guide, task, updates=150, batch_size=16, lr=5e-3, evaluations=0, progress=False)
    assert history[-1].nll < 0.7 * history[0].nll
    assert history[-1].posterior_error < 0.8 * history[0].posterior_error
