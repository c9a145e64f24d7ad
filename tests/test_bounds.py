"""Bounds against a program with a closed form, sums over all answers, stock Pyro, and tails of known shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Importance, Predictive, Trace_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

import gram_ppl as gp
from gram_ppl.evaluation import bounds
from gram_ppl.guides import AmortizedGuide, Empty, EveryTransition, PriorGuide
from gram_ppl.models import GRAM, NoNoise
from gram_ppl.tasks import Spec

from .linear_gaussian import ExactGuide, LinearGaussian, LinearGuide

# The program with a closed form, its inputs, and answers a bit off their means.
LINEAR = LinearGaussian()
REAL = torch.randn(2, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
PREDICTED = LINEAR.predict(REAL)
REALS = PREDICTED.mean + PREDICTED.stddev * torch.tensor([0.8, -0.8])
EXACT = PREDICTED.log_prob(REALS)

# A tiny categorical one: two binary answer tokens, so four answers.
SPEC = Spec(2, 3, 2, 2)
X = torch.tensor([[0, 1], [2, 0], [1, 1]])
Y = torch.tensor([[0, 1], [1, 1], [0, 0]])
ALL = torch.cartesian_prod(torch.arange(2), torch.arange(2))


def tiny(guide: Any = AmortizedGuide, **options: Any) -> tuple[GRAM, Any]:
    model = GRAM(SPEC, **({"width": 8, "transitions": 2, "supervision": 2} | options))
    own = guide(model)
    for module in (model, own):
        if hasattr(module, "guidance"):  # heads that start at zero would hide errors
            nn.init.normal_(module.guidance.down.weight, std=0.2)
    return model, own


def plain(model: GRAM) -> Any:
    """A Pyro callable with the sites of the model, and no class."""

    def guide(x: Tensor, y: Tensor, *, latent: Any = None, steps: int | None = None) -> None:
        loc = 0.1 * y.sum(-1)[:, None, None].expand(-1, model.encoder.length, model.width)
        with pyro.plate("batch", len(y), dim=-1):
            for n in range(model.supervision if steps is None else steps):
                for t in range(model.transitions):
                    pyro.sample(f"eps_{n}_{t}", dist.Normal(loc.float(), 0.3).to_event(2))

    return guide


GUIDES = {"amortized": AmortizedGuide, "every transition": EveryTransition, "prior": PriorGuide, "plain": plain}


def z_score(values: Tensor, exact: Any) -> Tensor:
    """Standard errors between the mean of the first dimension and the truth."""
    return ((values.mean(0) - exact) / (values.std(0) / len(values) ** 0.5)).abs()


# The closed form ------------------------------------------------------------------------------------------------------


def test_the_closed_form_is_that_of_simulated_answers() -> None:
    """Mean and second moments of 40,000 of the program's own answers, under 5 standard errors."""
    num = 40_000
    with torch.no_grad():
        y = LINEAR(REAL.repeat(num, 1))[1].view(num, 2, 2) - PREDICTED.mean
    assert (z_score(y, 0.0) < 5).all()
    assert (z_score(y[..., :, None] * y[..., None, :], PREDICTED.covariance_matrix) < 5).all()


@pytest.mark.parametrize("options", [{}, {"transitions": 3, "supervision": 1}, {"shape": (1, 3), "len_out": 4}])
def test_every_bound_is_tight_under_the_exact_posterior(options: dict[str, Any]) -> None:
    model = LinearGaussian(**options)
    y = model(REAL)[1].detach() + 0.5
    exact = model.predict(REAL).log_prob(y)
    weights = bounds.log_weights(model, ExactGuide(model), REAL, y, num_particles=200)
    assert weights.shape == (200, 2)
    assert weights.dtype == torch.float64
    torch.testing.assert_close(weights, exact.expand(200, -1), rtol=0, atol=1e-4)
    for bound in (bounds.elbo, bounds.iwae):
        torch.testing.assert_close(bound(model, ExactGuide(model), REAL, y, num_particles=7), exact, rtol=0, atol=1e-4)
    assert (bounds.pareto_k(weights) < 0.2).all()


def test_iwae_of_10000_is_the_closed_form() -> None:
    """Within 0.02 nats, with a guide 8 % too wide; and the same from a coarse guide, averaged over ten draws."""
    near = bounds.iwae(LINEAR, ExactGuide(LINEAR, spread=1.08), REAL, REALS, num_particles=10_000, chunk=20_000)
    torch.testing.assert_close(near, EXACT, rtol=0, atol=0.02)
    coarse = LinearGuide(LINEAR, strength=0.4)
    weights = bounds.log_weights(LINEAR, coarse, REAL, REALS, num_particles=100_000, chunk=20_000)
    torch.testing.assert_close(bounds.from_weights(weights, 10_000), EXACT, rtol=0, atol=0.02)
    assert (EXACT - bounds.from_weights(weights, 1)).min() > 1


def test_log_prob_from_the_prior_is_the_closed_form() -> None:
    """Error under 5 standard errors (delta method), which are below 0.02 nats."""
    weights = bounds.log_weights(LINEAR, None, REAL, REALS, num_particles=100_000, chunk=20_000)
    ratio = (weights - EXACT).exp()
    assert (ratio.std(0) / len(ratio) ** 0.5).max() < 0.02
    assert (z_score(ratio, 1.0) < 5).all()
    torch.manual_seed(4)
    ours = bounds.log_prob(LINEAR, REAL, REALS, num_samples=50)
    torch.manual_seed(4)
    torch.testing.assert_close(ours, bounds.iwae(LINEAR, PriorGuide(LINEAR), REAL, REALS, num_particles=50))


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("options", [{}, {"strength": 0.5, "scale": 0.7}])
def test_elbo_kl_and_surrogate_are_their_closed_forms(options: dict[str, Any], every: bool) -> None:
    """Error under 5 standard errors of 8,000 trajectories."""
    num = 4000
    guide = LinearGuide(LINEAR, every=every, **options)
    fits, kls = LINEAR.expected(guide, REAL, REALS)
    x, y = REAL.repeat(num, 1), REALS.repeat(num, 1)

    def close(values: Tensor, exact: Tensor) -> bool:
        return bool((z_score(values.view(num, 2), exact) < 5).all())

    assert close(bounds.elbo(LINEAR, guide, x, y, num_particles=2), fits[-1] - kls.sum((0, 1)))
    assert close(bounds.surrogate(LINEAR, guide, x, y, num_particles=2), (fits - kls[:, -1]).mean(0))
    assert close(bounds.surrogate(LINEAR, guide, x, y, num_particles=2, steps=1), fits[0] - kls[0, -1])
    found = bounds.kl(LINEAR, guide, x, y, num_particles=2)
    assert list(found) == [f"eps_{n}_{t}" for n in range(2) for t in range(2) if every or t == 1]
    for name, values in found.items():
        n, t = map(int, name.split("_")[1:])
        if (n, t) == (0, 0):  # from a known state
            torch.testing.assert_close(values.view(num, 2)[0], kls[n, t])
        else:
            assert close(values, kls[n, t])


def test_bounds_rise_with_the_number_of_particles() -> None:
    """ELBO < IWAE_10 < IWAE_100 < log p, each gap at least 5 standard errors over 400 repetitions."""
    guide = LinearGuide(LINEAR, every=True)
    weights = bounds.log_weights(LINEAR, guide, REAL, REALS, num_particles=40_000, chunk=20_000)
    draws = [torch.stack([bounds.from_weights(part, k).mean() for part in weights.split(100)]) for k in (1, 10, 100)]
    for low, high in zip(draws, [*draws[1:], EXACT.mean()], strict=True):
        gap = high - low
        assert gap.mean() > 5 * gap.std() / len(gap) ** 0.5


# Groups of weights and their tails ------------------------------------------------------------------------------------


def test_from_weights_by_hand() -> None:
    weights = np.random.default_rng(0).normal(size=(7, 3)) * 3 - 900  # where exp would be zero
    shifted = np.exp(weights + 900)
    for k in range(1, 8):
        groups = [shifted[i * k : (i + 1) * k].mean(0) for i in range(7 // k)]
        expected = np.log(groups).mean(0) - 900
        np.testing.assert_allclose(bounds.from_weights(torch.tensor(weights), k), expected)
    for k in (0, 8):
        with pytest.raises(ValueError, match=f"between 1 and the 7 weights given, got {k}"):
            bounds.from_weights(torch.tensor(weights), k)


@pytest.mark.parametrize("shift", [0.0, -5000.0])
def test_pareto_k_of_known_tails(shift: float) -> None:
    """Weights u^(-k), with u at the quantiles of a uniform, have a generalized Pareto tail of shape k."""
    shapes = torch.tensor([0.1, 0.4, 0.7, 1.0, 1.6], dtype=torch.float64)
    quantiles = (torch.randperm(10_000).double() + 0.5) / 10_000
    heavy = -shapes * quantiles.log()[:, None] + shift
    torch.testing.assert_close(bounds.pareto_k(heavy), shapes, rtol=0, atol=0.07)  # the fit leans towards 0.5


def test_pareto_k_where_there_is_nothing_to_fit() -> None:
    normal = torch.randn(1000, dtype=torch.float64)
    weights = torch.stack([torch.full_like(normal, -7.0), 1e-5 * normal, 2000 * normal, normal], dim=1)
    k = bounds.pareto_k(weights)
    assert k[:3].tolist() == [-math.inf, -math.inf, math.inf]
    assert -0.5 < k[3] < 0.7
    assert bounds.pareto_k(weights[:, :1]).tolist() == [-math.inf]
    weights[3, 3] = torch.nan
    assert bounds.pareto_k(weights.float())[3].isnan()


def test_a_bad_guide_is_seen_by_pareto_k() -> None:
    def k(guide: gp.Guide) -> Tensor:
        return bounds.pareto_k(bounds.log_weights(LINEAR, guide, REAL, REALS, num_particles=4000))

    assert (k(LinearGuide(LINEAR, strength=0.4)) < 0.7).all()
    assert (k(LinearGuide(LINEAR, scale=0.3)) > 0.7).all()


# Stock Pyro -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [None, 1, 3])
@pytest.mark.parametrize("name", GUIDES)
def test_one_particle_is_the_stock_elbo(name: str, steps: int | None) -> None:
    model, guide = tiny(GUIDES[name])
    torch.manual_seed(3)
    ours = bounds.elbo(model, guide, X, Y, num_particles=1, steps=steps)
    torch.manual_seed(3)
    assert ours.sum().item() == pytest.approx(-Trace_ELBO().loss(model, guide, X, Y, steps=steps), abs=1e-3)


@pytest.mark.parametrize("name", ["amortized", "every transition", "plain"])
def test_importance_has_the_same_weights(name: str) -> None:
    """One by one for one seed, and the same log evidence from a batch of particles, under 5 standard errors."""
    model, guide = tiny(GUIDES[name])
    torch.manual_seed(3)
    stock = torch.stack(list(Importance(model, guide, num_samples=20).run(X[:1], Y[:1]).log_weights)).detach()
    torch.manual_seed(3)
    single = bounds.log_weights(model, guide, X[:1], Y[:1], num_particles=20, chunk=1)[:, 0]
    torch.testing.assert_close(single, stock, rtol=0, atol=1e-3)
    folded = bounds.log_weights(model, guide, X[:1], Y[:1], num_particles=4000)[:, 0]
    for one, two in ((folded, stock), (folded.exp(), stock.exp())):
        error = (one.var() / len(one) + two.var() / len(two)).sqrt()
        assert abs(one.mean() - two.mean()) < 5 * error


def test_sites_that_a_guide_leaves_out_are_the_prior() -> None:
    model, _ = tiny()
    torch.manual_seed(3)
    found = bounds.log_weights(model, lambda x, y, **options: None, X, Y, num_particles=5)
    torch.manual_seed(3)
    torch.testing.assert_close(found, bounds.log_weights(model, None, X, Y, num_particles=5))


def shares(answers: Tensor) -> Tensor:
    """How often each of the four answers comes, ``[..., 2] -> [4]``."""
    codes = (answers @ torch.tensor([2, 1])).flatten()
    return torch.bincount(codes, minlength=4) / len(codes)


def test_predictive_answers_as_often_as_log_prob_says() -> None:
    """Each of the four answers; error under 5 standard errors of 2,000 draws."""
    rows, num = X[:1].expand(200, -1), 2000
    model, _ = tiny(noise=gp.models.LearnedNoise(scale=1.0))
    found = shares(Predictive(model, num_samples=num // 200)(rows)["y"])
    p = bounds.log_prob(model, X[:1].expand(4, -1), ALL, num_samples=5000).exp()
    assert p.min() > 0.02
    assert ((found - p).abs() < 5 * (p * (1 - p) / num).sqrt()).all()


def test_predictive_answers_as_often_as_rollouts() -> None:
    """A decoder without chance: the answers are those of the rollouts, error under 5 standard errors of 2,000 draws."""
    rows, num = X[:1].expand(200, -1), 2000
    model, _ = tiny(noise=gp.models.LearnedNoise(scale=1.0))
    with torch.no_grad():
        model.get_parameter("decoder.weight").mul_(1e4)
    stock = shares(Predictive(model, num_samples=num // 200)(rows)["y"])
    ours = shares(gp.rollout(model, X[:1], num_samples=10_000).tokens)
    assert (stock > 0.03).sum() > 1
    assert ((stock - ours).abs() < 5 * (ours * (1 - ours) / num).sqrt() + 1e-3).all()


# The categorical program ----------------------------------------------------------------------------------------------


def test_probabilities_of_all_answers_add_up_to_one() -> None:
    model, _ = tiny()
    total = torch.zeros(3)
    for y in ALL:
        torch.manual_seed(5)
        total += bounds.log_prob(model, X, y.expand(3, -1), num_samples=30).exp()
    torch.testing.assert_close(total, torch.ones(3), rtol=0, atol=1e-5)


def test_iwae_lies_below_monte_carlo() -> None:
    """Every row; the gaps of IWAE_1 and IWAE_10 are at least 5 standard errors, IWAE_1000 comes near or stays below."""
    model, guide = tiny()
    exact = bounds.log_prob(model, X, Y, num_samples=40_000)
    weights = bounds.log_weights(model, guide, X, Y, num_particles=4000)
    for k in (1, 10):
        draws = torch.stack([bounds.from_weights(part, k) for part in weights.split(40)])
        assert (exact - draws.mean(0) > 5 * draws.std(0) / 100**0.5).all()
    assert (bounds.from_weights(weights, 1000) < exact + 0.02).all()


@pytest.mark.parametrize("chunk", [None, 1, 4, 7, 100])
def test_particles_and_rows_keep_their_places(chunk: int | None) -> None:
    """Without noise every weight is the likelihood of its row, from the program itself."""
    model, guide = tiny(Empty, noise=NoNoise())
    with torch.no_grad():
        exact = model.answer(model(X, Y)[0].h).log_prob(Y)
    assert len(exact.unique()) == 3
    for own in (guide, None):
        weights = bounds.log_weights(model, own, X, Y, num_particles=5, chunk=chunk)
        torch.testing.assert_close(weights, exact.expand(5, -1))
        assert bounds.kl(model, own, X, Y, chunk=chunk) == {}
        torch.testing.assert_close(bounds.surrogate(model, own, X, Y, steps=1), bounds.elbo(model, own, X, Y, steps=1))


def test_chunks_bound_the_batch() -> None:
    model, guide = tiny()
    seen: list[int] = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[1])))
    bounds.log_weights(model, guide, X, Y, num_particles=5, chunk=4)
    assert seen == [4, 4, 4, 3]


def test_nothing_given_is_the_unconditional_model() -> None:
    model, guide = tiny()
    for own in (guide, None):
        found = []
        for x in (None, torch.zeros(3, 0, dtype=torch.int64)):
            torch.manual_seed(3)
            found.append(bounds.log_weights(model, own, x, Y, num_particles=4, chunk=5))
        assert torch.equal(*found)
        assert found[0].shape == (4, 3)


class Still(Messenger):
    """Noise without spread at the prior's mean."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"].startswith("eps"):
            msg["fn"] = dist.Delta(msg["fn"].base_dist.loc, event_dim=2)


def test_handlers_over_the_model_are_kept() -> None:
    model, _ = tiny()
    with Still(), torch.no_grad():
        exact = model.answer(model(X, Y)[0].h).log_prob(Y)
    for guide in (None, PriorGuide(model)):
        torch.testing.assert_close(bounds.elbo(Still()(model), guide, X, Y, num_particles=3), exact)
        assert not torch.allclose(bounds.elbo(model, guide, X, Y, num_particles=3), exact)


def test_full_precision_without_gradients_whatever_is_set_outside() -> None:
    model, guide = tiny()
    torch.manual_seed(3)
    exact = bounds.elbo(model, guide, X, Y)
    torch.set_float32_matmul_precision("medium")
    try:
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16):
            found = bounds.elbo(model, guide, X, Y)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(found, exact)
    assert found.dtype == torch.float32
    assert not found.requires_grad


# Errors ---------------------------------------------------------------------------------------------------------------


def stray(x: Tensor, y: Tensor, **options: Any) -> None:
    with pyro.plate("batch", len(y), dim=-1):
        pyro.sample("eps_9_9", dist.Normal(torch.zeros(len(y)), 1.0))


def fixed(x: Tensor, y: Tensor, **options: Any) -> None:
    pyro.sample("eps_0_1", dist.Normal(torch.zeros(1, 3, 8), 1.0).to_event(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 0}, "num_particles must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"chunk": 0}, "chunk must be at least 1, got 0"),
        ({"y": Y[0]}, r"y: expected integer tokens of shape \[B, 2\], found torch.int64 of \[2\]"),
        ({"x": X[0]}, r"x: expected integer tokens of shape \[B, 2\], found torch.int64 of \[2\]"),
        ({"x": X[:2]}, "y: expected 2 rows, one for each of x, found 3"),
        ({"guide": stray}, "the guide samples 'eps_9_9', which the model doesn't have"),
        ({"guide": fixed}, r"batch at 'eps_0_1' is \[1\], expected \[6\].*folded"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    model, guide = tiny()
    given = {"guide": guide, "x": X, "y": Y, "num_particles": 2} | options
    for bound in (bounds.log_weights, bounds.elbo, bounds.iwae, bounds.kl):
        with pytest.raises(ValueError, match=message):
            bound(
                model,
                given["guide"],
                given["x"],
                given["y"],
                **{k: v for k, v in given.items() if k not in ("guide", "x", "y")},
            )


@pytest.mark.parametrize("shape", [(99, 3), (200,), (2, 200, 3)])
def test_pareto_k_needs_weights(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[K, B\] with K at least 100, got \["):
        bounds.pareto_k(torch.zeros(shape))
