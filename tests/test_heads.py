"""Heads: targets against the verifier, no gradient into the core, calibration against hand-made numbers, round trip."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import gram_ppl as gp
from gram_ppl.evaluation.calibration import calibration
from gram_ppl.heads import FirstToken, Heads, MeanToken, attach
from gram_ppl.inference.halt import HaltHead
from gram_ppl.inference.rollout import rollout, trajectories
from gram_ppl.models import GRAM, LearnedNoise
from gram_ppl.storage import checkpoint
from gram_ppl.training.fit_heads import HeadTrainer, fit_heads


@pytest.fixture(scope="module")
def task() -> Any:
    return gp.tasks.Sudoku(box=(2, 2), clues=(12, 14), num_validation=20, num_test=8, pool=100)


def build(task: Any, **options: Any) -> GRAM:
    return GRAM(task.spec, width=8, transitions=1, supervision=2, noise=LearnedNoise(scale=0.5), **options)


class Coin(GRAM):
    """Knows the answers, but gives one only where the last noise of the first latent token is positive."""

    right: Tensor  # [L_out]

    def answer(self, h: Tensor) -> Any:
        logits = super().answer(h).base_dist.logits
        wrong, right = torch.zeros_like(logits), nn.functional.one_hot(self.right.expand(len(h), -1), 5) * 9.0
        wrong[..., 0] = 9.0
        sure = (h[:, 0, 0] > 0)[:, None, None]
        return dist.Categorical(logits=torch.where(sure, right, wrong)).to_event(1)


def coin(task: Any) -> tuple[Coin, Tensor]:
    """The program and puzzles that all have one solution."""
    model = Coin(task.spec, width=8, transitions=1, supervision=2, noise=LearnedNoise(scale=1.0), seed=3)
    grid = task.boards(1, torch.Generator().manual_seed(0))[0]
    model.right = grid
    holes = torch.stack([torch.where(torch.arange(16) == i, 0, grid) for i in range(16)])
    return model, holes


# The module -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [MeanToken(), FirstToken()])
def test_heads_by_hand(pool: Any) -> None:
    heads = Heads(4, hidden=3, pool=pool, seed=1)
    h = torch.randn(5, 6, 4)
    seen = h[:, 0] if pool == FirstToken() else h.sum(dim=1) / 6
    first: Any = heads.mlp[0]
    last: Any = heads.mlp[2]
    inner = seen @ first.weight.T + first.bias
    out = (inner * inner.sigmoid()) @ last.weight.T + last.bias
    halt, value = heads(h)
    torch.testing.assert_close(halt, out[:, 0])
    torch.testing.assert_close(value, 1 / (1 + (-out[:, 1]).exp()))
    same, other = (Heads(4, hidden=3, pool=pool, seed=seed).state_dict()["mlp.0.weight"] for seed in (1, 2))
    assert torch.equal(first.weight, same)
    assert not torch.equal(first.weight, other)


def test_no_gradient_into_the_core_nor_from_its_objective(task: Any) -> None:
    model = build(task, heads=Heads(8))
    x, y = next(task.batches("train", 4, torch.Generator().manual_seed(0)))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    HeadTrainer(model, task, num_samples=2).step(x)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) == (not key.startswith("heads.")), key
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.heads is not None
    assert not any(parameter.requires_grad for parameter in model.heads.parameters())
    z, _ = model(x)
    assert z.h.requires_grad
    assert not any(out.requires_grad for out in model.heads(z.h))
    loss, _ = gp.SegmentELBO()(model, gp.guides.AmortizedGuide(model))(x, y)
    loss.backward()
    assert all(parameter.grad is None for parameter in model.heads.parameters())
    assert model.get_parameter("core.low.0.mlp.down.weight").grad is not None


def test_an_error_in_an_update_leaves_the_heads_without_gradients(task: Any) -> None:
    trainer = HeadTrainer(build(task), task)
    with pytest.raises(ValueError, match="size"):
        trainer.update(torch.zeros(3, 8), torch.zeros(4, 2))
    assert not any(parameter.requires_grad for parameter in trainer.model.heads.parameters())


# Targets and fitting --------------------------------------------------------------------------------------------------


def test_targets_are_the_verifiers_word(task: Any) -> None:
    """Halt: of the answer decoded there; value: of the last answer; states as trajectories pass through them."""
    model, x = coin(task)
    trainer = HeadTrainer(model, task, steps=5, num_samples=3)
    torch.manual_seed(1)
    states, targets = trainer.collect(x)
    torch.manual_seed(1)
    steps = list(trajectories(model, x, num_samples=3, steps=5))
    right = torch.stack([task.verify(x[:, None], step.tokens).flatten() for step in steps]).float()
    assert 0.2 < right.mean() < 0.8
    assert states.shape == (5 * 48, 8)
    torch.testing.assert_close(states, torch.cat([step.latent.h.mean(dim=1) for step in steps]))
    assert torch.equal(targets[:, 0], right.flatten())
    assert torch.equal(targets[:, 1], right[-1].repeat(5))


def test_updates_minimise_the_cross_entropy(task: Any) -> None:
    """On a fixed set the loss falls to the entropy of the targets, and the heads to their mean."""
    model = build(task)
    trainer = HeadTrainer(model, task, lr=0.02, weight_decay=0.0)
    states = torch.zeros(8, 8)
    targets = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 0.0]] * 5 + [[0.0, 1.0]])
    for _ in range(400):
        loss = trainer.update(states, targets)
    entropy = [-(p * math.log(p) + (1 - p) * math.log(1 - p)) for p in (2 / 8, 1 / 8)]
    assert loss.item() == pytest.approx(sum(entropy) / 2, abs=1e-3)
    assert model.heads is not None
    halt, value = model.heads(torch.zeros(1, 17, 8))
    assert halt.sigmoid().item() == pytest.approx(2 / 8, abs=0.01)
    assert value.item() == pytest.approx(1 / 8, abs=0.01)


class Puzzles:
    """A task's own puzzles in place of what it draws."""

    def __init__(self, task: Any, x: Tensor) -> None:
        self.task, self.x = task, x

    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Any:
        assert split == "train"
        rows = self.x[torch.randint(len(self.x), (batch_size,), generator=generator)]
        yield gp.Batch(rows, rows)

    def inputs(self, split: str) -> Tensor:
        assert split == "validation"
        return self.x

    def verify(self, x: Tensor, y: Tensor) -> Tensor:
        return self.task.verify(x, y)


def test_fit_heads_learns_what_the_first_token_says(task: Any) -> None:
    """The answer is right where one number of the first token is positive: a head can read that, but not the future."""
    model, x = coin(task)
    state = torch.get_rng_state()
    puzzles: Any = Puzzles(task, x)
    found = fit_heads(model, puzzles, updates=300, puzzles=60, num_samples=4, steps=4, lr=0.02, pool=FirstToken())
    assert torch.equal(torch.get_rng_state(), state)
    assert found["halt"]["brier"] < 0.25 * found["halt"]["brier_constant"]
    assert sum(found["halt"]["counts"]) == sum(found["value"]["counts"]) == 16 * 4 * 4
    assert found["value"]["brier"] > found["halt"]["brier"]
    assert model.heads is not None
    weights = [parameter.clone() for parameter in model.heads.parameters()]
    again = fit_heads(model, puzzles, updates=300, puzzles=60, num_samples=4, steps=4, lr=0.02, pool=FirstToken())
    assert again == found
    assert all(torch.equal(a, b) for a, b in zip(weights, model.heads.parameters(), strict=True))
    json.dumps(found)
    halted = rollout(model, x, num_samples=10, steps=20, halt=HaltHead(0.8))
    assert halted.steps.float().mean() < 6
    assert task.verify(x[:, None], halted.tokens).float().mean() > 0.9
    assert task.verify(x[:, None], rollout(model, x, num_samples=10, steps=20).tokens).float().mean() < 0.8


def test_bad_arguments(task: Any) -> None:
    for name in ("updates", "batch_size", "puzzles"):
        options: dict[str, Any] = {name: 0}
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            fit_heads(build(task), task, **options)


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_heads_are_saved_and_loaded(task: Any, tmp_path: Path) -> None:
    model = build(task)
    guide = gp.guides.AmortizedGuide(model)
    attach(model, Heads(8, hidden=5, pool=FirstToken(), seed=4))
    assert model.heads is not None
    nn.init.normal_(model.get_parameter("heads.mlp.0.weight"))
    gp.save(tmp_path, model, guide, task)
    loaded, _, _ = gp.load(tmp_path)
    x = task.inputs("test")
    one, two = (rollout(some, x, num_samples=2, seed=0) for some in (model, loaded))
    assert one.value is not None
    assert [field is None for field in one] == [field is None for field in two]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True) if a is not None and b is not None)
    assert isinstance(loaded.heads, Heads)
    assert loaded.heads.config == model.heads.config
    assert not any(parameter.requires_grad for parameter in loaded.heads.parameters())
    assert loaded.config["heads"] is loaded.heads


def test_models_without_heads_load_as_before(task: Any, tmp_path: Path) -> None:
    model = build(task)
    gp.save(tmp_path, model, gp.guides.AmortizedGuide(model), task)
    path = tmp_path / checkpoint.MODEL_FILE
    tensors, document = checkpoint.read(path)
    assert document["model"]["arguments"].pop("heads") is None  # as files were before there were heads
    checkpoint.write(path, tensors, document)
    loaded, _, _ = gp.load(tmp_path)
    assert loaded.heads is None


def test_the_deterministic_twin_has_no_heads(task: Any) -> None:
    assert build(task, heads=Heads(8)).deterministic().heads is None


# Calibration ----------------------------------------------------------------------------------------------------------


def test_calibration_by_hand() -> None:
    probability = torch.tensor([0.05, 0.15, 0.12, 0.95, 1.0, 0.92, 0.55, 0.0])
    outcome = torch.tensor([0, 1, 0, 1, 1, 0, 1, 0])
    found = calibration(probability, outcome, bins=10)
    assert found["counts"] == [2, 2, 1, 3]
    assert found["centers"] == pytest.approx([0.05, 0.15, 0.55, 0.95])
    assert found["predicted"] == pytest.approx([0.025, 0.135, 0.55, 2.87 / 3])
    assert found["observed"] == pytest.approx([0, 1 / 2, 1, 2 / 3])
    squares = [0.05**2, 0.85**2, 0.12**2, 0.05**2, 0, 0.92**2, 0.45**2, 0]
    assert found["brier"] == pytest.approx(sum(squares) / 8)
    assert found["brier_constant"] == pytest.approx(1 / 4)
    assert calibration(probability.view(2, 4), outcome.view(2, 4)) == found
    assert calibration(probability, outcome, bins=1)["observed"] == [0.5]


@pytest.mark.parametrize(
    ("probability", "outcome", "bins", "message"),
    [
        ([0.5], [1, 0], 10, "as many outcomes as probabilities"),
        ([], [], 10, "as many outcomes as probabilities"),
        ([1.5], [1], 10, r"must lie in \[0, 1\]"),
        ([math.nan], [1], 10, r"must lie in \[0, 1\]"),
        ([0.5], [2], 10, r"must lie in \[0, 1\]"),
        ([0.5], [1], 0, "bins must be at least 1, got 0"),
    ],
)
def test_bad_calibration(probability: list[float], outcome: list[int], bins: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration(torch.tensor(probability), torch.tensor(outcome), bins=bins)
