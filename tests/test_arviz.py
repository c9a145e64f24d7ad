"""Trajectories for ArviZ against rollouts, the verifier and log weights; with whichever ArviZ is installed."""

from __future__ import annotations

from typing import Any

import arviz
import numpy as np
import pytest
import torch
import xarray
from torch import nn

import gram_ppl as gp
from gram_ppl.evaluation import bounds
from gram_ppl.guides import AmortizedGuide, PriorGuide
from gram_ppl.models import GRAM

B, N, S, T = 3, 4, 2, 2
Program = tuple[GRAM, AmortizedGuide]
Pairs = tuple[torch.Tensor, torch.Tensor]
TASK = gp.tasks.Sudoku((2, 2), (4, 8), num_validation=4, num_test=B)


@pytest.fixture
def program() -> Program:
    model = GRAM(TASK.spec, width=8, transitions=T, supervision=S)
    guide = AmortizedGuide(model)
    for module in (model, guide):
        nn.init.normal_(module.guidance.down.weight, std=0.2)
    return model, guide


@pytest.fixture
def pairs() -> Pairs:
    x = TASK.inputs("test")
    return x, torch.stack([TASK.solutions(row)[0] for row in x])


def group(data: Any, name: str) -> Any:
    """A group of either container, as a dataset."""
    found = data[name]
    return found.to_dataset() if isinstance(found, xarray.DataTree) else found


def test_container_is_that_of_the_installed_version(program: Program, pairs: Pairs) -> None:
    data = gp.to_arviz(*program, TASK, *pairs, num_samples=2)
    expected = xarray.DataTree if int(arviz.__version__.split(".")[0]) >= 1 else arviz.InferenceData
    assert isinstance(data, expected)
    table = arviz.summary(data, group="posterior", var_names=["residual"])  # reads the container
    assert len(table) == B * S


def test_groups_dimensions_and_coordinates(program: Program, pairs: Pairs) -> None:
    data = gp.to_arviz(*program, TASK, *pairs, num_samples=N)
    per_step = ("chain", "draw", "example", "step")
    for name in ("prior", "posterior"):
        found = group(data, name)
        assert set(found.data_vars) == {"tokens", "violations", "log_prob", "residual"}
        assert found["tokens"].dims == (*per_step, "token")
        assert found["tokens"].shape == (1, N, B, S, 16)
        for variable in ("violations", "log_prob", "residual"):
            assert found[variable].dims == per_step
        assert found["step"].values.tolist() == [1, 2]
    stats = group(data, "sample_stats")
    assert stats["kl"].dims == (*per_step, "transition")
    assert stats["transition"].values.tolist() == [1, 2]
    assert stats["log_likelihood"].dims == per_step
    assert stats["log_weight"].dims == ("chain", "draw", "example")
    assert np.array_equal(group(data, "constant_data")["x"], pairs[0])
    assert np.array_equal(group(data, "observed_data")["y"], pairs[1])


def test_prior_holds_the_rollouts_of_its_seed(program: Program, pairs: Pairs) -> None:
    found = group(gp.to_arviz(*program, TASK, pairs[0], num_samples=N, seed=5), "prior")
    for step in range(1, S + 1):
        out = gp.rollout(program[0], pairs[0], num_samples=N, steps=step, seed=5)
        here = found.sel(step=step, chain=0)
        assert np.array_equal(here["tokens"].transpose("example", "draw", "token"), out.tokens)
        np.testing.assert_allclose(here["log_prob"].transpose("example", "draw"), out.log_prob, rtol=1e-4)
        np.testing.assert_allclose(here["residual"].transpose("example", "draw"), out.residual, rtol=1e-4)
        valid = TASK.verify(pairs[0][:, None], out.tokens).numpy()
        assert np.array_equal(here["violations"].transpose("example", "draw") == 0, valid)


def test_without_answers_there_is_a_prior_alone(program: Program, pairs: Pairs) -> None:
    data = gp.to_arviz(*program, TASK, pairs[0], num_samples=2)
    names = set(data.children) if isinstance(data, xarray.DataTree) else set(data.groups())
    assert names == {"prior", "constant_data"}


def test_prior_guide_costs_nothing_and_its_weight_is_the_likelihood(program: Program, pairs: Pairs) -> None:
    model = program[0]
    stats = group(gp.to_arviz(model, PriorGuide(model), TASK, *pairs, num_samples=N), "sample_stats")
    assert not stats["kl"].any()
    np.testing.assert_allclose(stats["log_weight"], stats["log_likelihood"].sel(step=S), rtol=1e-5)


def test_mean_weight_is_likelihood_less_divergence(program: Program, pairs: Pairs) -> None:
    """ELBO = E[log p(y | h)] − KL, whose parts are estimated apart; 5 standard errors of the difference."""
    stats = group(gp.to_arviz(*program, TASK, *pairs, num_samples=600), "sample_stats").sel(chain=0)
    assert (stats["kl"] >= 0).all()
    assert (stats["kl"].sum() > 0).item()
    gap = stats["log_weight"] - (stats["log_likelihood"].sel(step=S) - stats["kl"].sum(("step", "transition")))
    assert (abs(gap.mean("draw")) < 5 * gap.std("draw") / 600**0.5).all()
    weights = bounds.log_weights(*program, *pairs, num_particles=600).double()
    error = (stats["log_weight"].var("draw").values + weights.var(dim=0).numpy()) / 600
    assert (abs(stats["log_weight"].mean("draw").values - weights.mean(dim=0).numpy()) < 5 * error**0.5).all()


def test_heads_appear_as_probabilities(program: Program, pairs: Pairs) -> None:
    model, guide = program
    gp.fit_heads(model, TASK, updates=1, batch_size=4, steps=S)
    data = gp.to_arviz(model, guide, TASK, *pairs, num_samples=2)
    for name in ("prior", "posterior"):
        for head in ("halt", "value"):
            assert ((group(data, name)[head] >= 0) & (group(data, name)[head] <= 1)).all()


def test_chunks_and_the_global_generator(program: Program, pairs: Pairs) -> None:
    state = torch.get_rng_state()
    whole, parts = (gp.to_arviz(*program, TASK, *pairs, num_samples=N, chunk=chunk) for chunk in (None, 4))
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("tokens", "violations"):
        assert group(whole, "prior")[name].dims == group(parts, "prior")[name].dims
        assert group(whole, "posterior")[name].shape == group(parts, "posterior")[name].shape


@pytest.mark.parametrize("y", [torch.zeros(B - 1, 16, dtype=torch.int64), torch.zeros(16, dtype=torch.int64)])
def test_answers_that_do_not_fit(program: Program, pairs: Pairs, y: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"y must have shape \[B, L_out\] with B = 3"):
        gp.to_arviz(*program, TASK, pairs[0], y)
