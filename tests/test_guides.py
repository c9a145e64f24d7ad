"""One contract for every guide, and each trap of GuideMessenger pinned."""

from __future__ import annotations

import copy
import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import Importance, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.importance import vectorized_importance_weights
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites, site_is_subsample
from torch import Tensor, nn

import gram_ppl as gp
from gram_ppl.guides import AmortizedGuide, Empty, EveryTransition, PriorGuide
from gram_ppl.models import GRAM, NoNoise, ZeroMeanNoise
from gram_ppl.tasks import Spec

ROWS, LENGTH, WIDTH, T = 3, 6, 8, 2
SPEC = Spec(LENGTH, 4, LENGTH, 5)
TOKENS = LENGTH + 1
X = torch.randint(4, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
Y = torch.randint(5, (ROWS, LENGTH), generator=torch.Generator().manual_seed(2))


class Shifted(gp.Guide):
    """A custom guide: the prior moved along an embedding of the target."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.embed = nn.Embedding(5, WIDTH)

    def posterior(self, u: Tensor, y: Tensor, prior: dist.TorchDistribution) -> dist.TorchDistribution:
        shift = nn.functional.pad(self.embed(y), (0, 0, 1, 0))
        return dist.Normal(prior.base_dist.loc + shift, prior.base_dist.scale).to_event(2)


def plain(model: GRAM) -> Callable[..., None]:
    """A Pyro callable with the sites of the model, and no class."""

    def guide(x: Any, y: Any = None, *, latent: Any = None, steps: int | None = None) -> None:
        with pyro.plate("batch", ROWS, dim=-1):
            for n in range(model.supervision if steps is None else steps):
                for t in range(T):
                    loc = torch.zeros(ROWS, TOKENS, WIDTH)
                    pyro.sample(f"eps_{n}_{t}", dist.Normal(loc, 0.2).to_event(2))

    return guide


GUIDES: dict[str, Callable[[GRAM], Any]] = {
    "amortized": AmortizedGuide,
    "every transition": EveryTransition,
    "prior": PriorGuide,
    "empty": Empty,
    "custom": Shifted,
    "plain": plain,
}
CLASSES = [name for name in GUIDES if name != "plain"]
WITH_Y = ["amortized", "every transition", "custom"]


def build(name: str, *, random: bool = True, **options: Any) -> tuple[GRAM, Any]:
    if name == "empty":
        options["noise"] = NoNoise()
    model = GRAM(SPEC, **({"width": WIDTH, "transitions": T, "supervision": 3} | options))
    guide = GUIDES[name](model)
    for module in (model, guide):
        if random and hasattr(module, "guidance"):  # heads that start at zero would hide errors
            nn.init.normal_(module.guidance.down.weight, std=0.2)
    return model, guide


def samples(trace: Any) -> dict[str, Any]:
    nodes = prune_subsample_sites(trace).nodes.items()
    return {name: site for name, site in nodes if site["type"] == "sample"}


# The contract ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GUIDES)
def test_sites_and_shapes(name: str) -> None:
    model, guide = build(name)
    ours, theirs = (samples(poutine.trace(f).get_trace(X, Y, steps=2)) for f in (guide, model))
    latents = [] if name == "empty" else [f"eps_{n}_{t}" for n in range(2) for t in range(T)]
    assert list(ours) == latents
    assert list(theirs) == [*latents, "y"]
    for site in ours.values():
        assert site["fn"].batch_shape == (ROWS,)
        assert site["fn"].event_shape == (TOKENS, WIDTH)
        assert site["value"].shape == (ROWS, TOKENS, WIDTH)
        assert [frame.name for frame in site["cond_indep_stack"]] == ["batch"]
        assert not site["is_observed"]


@pytest.mark.parametrize("name", CLASSES)
def test_a_guide_returns_its_latent_values_by_name(name: str) -> None:
    _, guide = build(name)
    trace: Any = poutine.trace(guide).get_trace(X, Y)
    returned = trace.nodes["_RETURN"]["value"]
    assert returned.keys() == samples(trace).keys()
    assert all(returned[site] is trace.nodes[site]["value"] for site in returned)


@pytest.mark.parametrize("name", GUIDES)
def test_objectives_are_finite(name: str) -> None:
    model, guide = build(name)
    loss, info = gp.SegmentELBO()(model, guide)(X, Y)
    assert loss.shape == info.nll.shape == info.kl.shape == ()
    assert loss.isfinite()
    assert loss.requires_grad
    assert info.kl_rows.shape == (ROWS,)
    assert info.latent.h.shape == info.latent.l.shape == (ROWS, TOKENS, WIDTH)
    assert (info.kl_rows > 0.1).all() if name not in ("prior", "empty") else (info.kl_rows == 0).all()
    for stock in (Trace_ELBO(), TraceMeanField_ELBO()):
        assert torch.tensor(stock.loss(model, guide, X, Y, steps=2)).isfinite()


@pytest.mark.parametrize("name", CLASSES)
def test_the_posterior_acts_where_the_guide_says(name: str) -> None:
    """Charged carry: before the last transition of a supervision step the guide is the prior."""
    model, guide = build(name)
    model_trace, guide_trace, _ = gp.SegmentELBO().run(model, guide, (X, Y), {"steps": 2})
    for site in samples(guide_trace):
        q, p = guide_trace.nodes[site]["fn"], model_trace.nodes[site]["fn"]
        acts = {"prior": False, "every transition": True}.get(name, site.endswith(f"_{T - 1}"))
        assert (not torch.equal(q.base_dist.loc, p.base_dist.loc)) == acts
        assert p.base_dist.loc.allclose(model.prior(guide_trace.nodes[site]["infer"]["proposal"]).base_dist.loc)


@pytest.mark.parametrize("options", [{}, {"noise": ZeroMeanNoise()}])
@pytest.mark.parametrize("name", ["amortized", "every transition"])
def test_training_starts_at_the_prior(name: str, options: dict[str, Any]) -> None:
    model, guide = build(name, random=False, **options)
    _, info = gp.SegmentELBO()(model, guide)(X, Y, steps=3)
    assert info.kl_rows.tolist() == [0.0] * ROWS
    for site in samples(poutine.trace(guide).get_trace(X, Y)).values():
        assert site["fn"].base_dist.loc.abs().max() == 0
        assert torch.allclose(site["fn"].base_dist.scale, torch.tensor(0.31))


def test_the_target_reaches_its_own_tokens() -> None:
    """Another target token moves the posterior at its place only, past registers and apart from the input tokens."""
    for spec, first in ((SPEC, 2), (Spec(4, 4, LENGTH, 5), 2 + 4)):
        model = GRAM(spec, width=WIDTH, registers=2)
        guide = AmortizedGuide(model)
        nn.init.normal_(guide.guidance.down.weight)
        u = torch.randn(1, model.encoder.length, WIDTH)
        other = Y[:1].clone()
        other[0, 3] = (other[0, 3] + 1) % 5
        one, two = (guide.posterior(u, y, model.prior(u)).base_dist.loc for y in (Y[:1], other))
        assert (one != two).any(-1)[0].nonzero().flatten().tolist() == [first + 3]


@pytest.mark.parametrize("name", GUIDES)
def test_deep_copies(name: str) -> None:
    model, guide = build(name)
    segment = gp.SegmentELBO()(model, guide)
    twice = copy.deepcopy(copy.deepcopy(segment))
    losses = []
    for one in (segment, twice):
        torch.manual_seed(3)
        losses.append(one(X, Y)[0])
    assert losses[0].item() == losses[1].item()
    losses[1].backward()
    assert all(p.grad is None for p in segment.parameters())
    assert any(p.grad is not None for p in twice.parameters())
    if name != "plain":
        assert twice.guide.model is twice.model
        assert copy.deepcopy(copy.deepcopy(guide)).model is not guide.model


@pytest.mark.parametrize("name", WITH_Y)
def test_a_missing_target_is_a_clear_error(name: str) -> None:
    model, guide = build(name)
    for call in (lambda: guide(X), lambda: gp.SegmentELBO()(model, guide)(X, None)):
        with pytest.raises(ValueError, match="y is missing"):
            call()


def test_a_prior_guide_needs_none() -> None:
    _, guide = build("prior")
    assert (
        list(guide(X))
        == list(samples(poutine.trace(guide).get_trace(X)))
        == [f"eps_{n}_{t}" for n in range(3) for t in range(T)]
    )


def test_empty_refuses_a_latent_site() -> None:
    model, _ = build("prior")
    with pytest.raises(ValueError, match="latent sites"):
        gp.SegmentELBO()(model, Empty(model))(X, Y)


@pytest.mark.parametrize("name", CLASSES)
def test_the_guide_of_another_model_is_a_clear_error(name: str) -> None:
    (_, guide), (model, _) = build(name), build(name)
    with pytest.raises(ValueError, match="was made for another model"):
        gp.SegmentELBO()(model, guide)(X, Y)
    with pytest.raises(ValueError, match="was made for another model"):
        gp.bounds.elbo(model, guide, X, Y, num_particles=2)


def test_a_guide_must_define_its_posterior() -> None:
    class Nothing(gp.Guide):
        pass

    model, _ = build("prior")
    with pytest.raises(NotImplementedError, match="Nothing must define posterior"):
        Nothing(model)(X, Y)


# The model that is handed over ----------------------------------------------------------------------------------------


def test_segment_elbo_honours_a_conditioned_latent() -> None:
    model, guide = build("amortized")
    value = torch.randn(ROWS, TOKENS, WIDTH)
    seen = poutine.condition(model, data={"eps_0_1": value})
    model_trace, guide_trace, (z, _) = gp.SegmentELBO().run(seen, guide, (X, Y), {"steps": 1})
    assert model_trace.nodes["eps_0_1"]["is_observed"]
    assert list(samples(guide_trace)) == ["eps_0_0"]
    before = model.core(gp.Latent(*_after(model, guide_trace.nodes["eps_0_0"])), model.encoder(X, ROWS))
    torch.testing.assert_close(z.h, before[0] + value)


def _after(model: GRAM, site: Any) -> tuple[Tensor, Tensor]:
    """State after the first transition, from the value of its site."""
    u, low = model.core(model.initial(ROWS), model.encoder(X, ROWS))
    return u + site["value"], low


def test_segment_elbo_honours_a_conditioned_answer() -> None:
    model, guide = build("amortized")
    other = (Y + 1) % 5
    seen = poutine.condition(model, data={"y": other})
    torch.manual_seed(3)
    _, info = gp.SegmentELBO()(seen, guide)(X, Y)
    answer = model.answer(info.latent.h)
    assert info.nll.item() == pytest.approx(-answer.log_prob(other).mean().item(), rel=1e-5)
    assert torch.equal(info.correct, answer.base_dist.logits.argmax(-1) == other)


def test_a_model_under_handlers_is_trained() -> None:
    model, guide = build("amortized")
    segment = gp.SegmentELBO()(poutine.condition(model, data={"y": Y}), guide)
    assert {*segment.parameters()} == {*model.parameters(), *guide.parameters()}
    twice = copy.deepcopy(copy.deepcopy(segment))
    twice(X, Y)[0].backward()
    gradient = twice.get_parameter("program.decoder.weight").grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert model.decoder.weight.grad is None


def test_a_guide_without_target_takes_the_answer_from_a_handler() -> None:
    model, guide = build("prior")
    losses = []
    for program, y in ((model, Y), (poutine.condition(model, data={"y": Y}), None)):
        torch.manual_seed(3)
        loss, info = gp.SegmentELBO()(program, guide)(X, y)
        losses.append(loss.item())
        assert info.correct.shape == Y.shape
    assert losses[0] == losses[1]


@pytest.mark.parametrize("elbo", [Trace_ELBO(), TraceMeanField_ELBO(), gp.SegmentELBO()])
@pytest.mark.parametrize("name", [*WITH_Y, "prior"])
def test_no_elbo_leaves_the_answer_unobserved(name: str, elbo: Any) -> None:
    model, guide = build(name)
    with pytest.raises(ValueError, match="y is missing" if name != "prior" else "y is not observed"):
        elbo.loss(model, guide, X)


@pytest.mark.parametrize("elbo", [Trace_ELBO(), TraceMeanField_ELBO()])
@pytest.mark.parametrize("name", [*WITH_Y, "prior"])
def test_a_conditioned_model_in_a_stock_elbo_is_a_clear_error(name: str, elbo: Any) -> None:
    model, guide = build(name)
    with pytest.raises(ValueError, match="pass"):
        elbo.loss(poutine.condition(model, data={"y": Y}), guide, X)
    # with y given the handler adds nothing and the value is right
    losses = []
    for program in (model, poutine.condition(model, data={"y": Y})):
        torch.manual_seed(3)
        losses.append(elbo.loss(program, guide, X, Y))
    assert losses[0] == losses[1]


# Importance -----------------------------------------------------------------------------------------------------------


def normal(site: Any, value: Tensor) -> Tensor:
    mu, sigma = site["fn"].base_dist.loc, site["fn"].base_dist.scale
    return (-((value - mu) ** 2) / (2 * sigma**2) - sigma.log() - 0.5 * torch.log(torch.tensor(2 * torch.pi))).sum()


@pytest.mark.parametrize("name", GUIDES)
def test_importance_weights_are_log_p_minus_log_q(name: str) -> None:
    model, guide = build(name)
    torch.manual_seed(3)
    importance = Importance(model, guide, num_samples=2).run(X, Y, steps=2)
    torch.manual_seed(3)
    for weight, trace in zip(importance.log_weights, importance.exec_traces, strict=True):
        guide_trace: Any = poutine.trace(guide).get_trace(X, Y, steps=2)
        logits = trace.nodes["y"]["fn"].base_dist.logits
        expected = -nn.functional.cross_entropy(logits.transpose(1, 2), Y, reduction="sum")
        for site in samples(guide_trace):
            value = guide_trace.nodes[site]["value"]
            assert torch.equal(value, trace.nodes[site]["value"])
            expected = expected + normal(trace.nodes[site], value) - normal(guide_trace.nodes[site], value)
        assert float(weight) == pytest.approx(expected.item(), rel=1e-4)
        if name == "prior":  # what is left of the weight is the likelihood
            assert float(weight) == pytest.approx(model.answer(_last(trace)).log_prob(Y).sum().item(), rel=1e-4)
    if name != "empty":
        assert importance.log_weights[0] != importance.log_weights[1]


def test_importance_with_the_answer_from_a_handler() -> None:
    """A guide that samples y itself would divide by its density."""
    model, guide = build("prior")
    seen = poutine.condition(model, data={"y": Y})
    for trace, weight in Importance(seen, guide, num_samples=2)._traces(X):
        assert weight.item() == pytest.approx(model.answer(_last(trace)).log_prob(Y).sum().item(), rel=1e-4)


def _last(trace: Any) -> Tensor:
    return trace.nodes["_RETURN"]["value"][0].h


@pytest.mark.parametrize("name", ["amortized", "prior", "plain"])
def test_vectorized_importance_weights(name: str) -> None:
    """Same estimator, all samples at once: the mean weights of both agree within 5 standard errors."""
    num = 50
    model, guide = build(name, width=WIDTH)
    with torch.no_grad(), warnings.catch_warnings():
        weights, _, _ = vectorized_importance_weights(
            model, guide, X, Y, steps=1, num_samples=num, max_plate_nesting=1, normalized=False
        )
        loop = torch.stack([w for _, w in Importance(model, guide, num_samples=num)._traces(X, Y, steps=1)])
    assert weights.shape == loop.shape == (num,)
    error = ((weights.var() + loop.var()) / num).sqrt()
    assert abs(weights.mean() - loop.mean()) < 5 * error
    assert error < 20  # nats, of several hundred


# What a guide keeps ---------------------------------------------------------------------------------------------------


class Watch(Messenger):
    """Weak references to all values at latent sites."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[weakref.ref[Tensor]] = []

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and not site_is_subsample(msg):
            self.seen.append(weakref.ref(msg["value"]))


@pytest.mark.parametrize("elbo", [Trace_ELBO(), TraceMeanField_ELBO(), gp.SegmentELBO()])
@pytest.mark.parametrize("name", ["amortized", "every transition", "prior", "custom"])
def test_no_eps_outlives_the_objective(name: str, elbo: Any) -> None:
    model, guide = build(name)
    with Watch() as watch:
        elbo.loss_and_grads(model, guide, X, Y, steps=3)
    gc.collect()
    assert len(watch.seen) == 3 * T
    assert [ref() for ref in watch.seen if ref() is not None] == []
    assert guide.trace.nodes == {}
    assert guide.returned is None


def test_the_trace_is_dropped_after_an_error_too() -> None:
    model, guide = build("prior")
    with pytest.raises(ValueError, match="not observed"):
        TraceMeanField_ELBO().loss(model, guide, X)
    assert guide.trace.nodes == {}


def test_the_guide_forgets_the_target_even_after_an_error() -> None:
    model, guide = build("custom")
    guide(X, Y)
    assert guide._y is None
    with pytest.raises(ValueError, match="expected tokens"):
        guide(X, Y + 100)
    assert guide._y is None
    loss, _ = gp.SegmentELBO()(model, guide)(X, Y)
    assert loss.isfinite()


@pytest.mark.parametrize("name", CLASSES)
def test_the_return_value_of_the_model_is_captured(name: str) -> None:
    model, guide = build(name)
    model_trace, _, (z, y) = gp.SegmentELBO().run(model, guide, (X, Y), {"steps": 1})
    assert y is Y
    torch.testing.assert_close(model.answer(z.h).base_dist.logits, model_trace.nodes["y"]["fn"].base_dist.logits)
    if name != "empty":
        last = model_trace.nodes[f"eps_0_{T - 1}"]
        assert torch.equal(z.h, last["infer"]["proposal"] + last["value"])
    guide(X, Y)
    assert guide.returned[1] is Y


def test_noise_heads_ignore_autocast() -> None:
    """Prior and posterior of an untrained guide agree under bf16 too, and sites keep float32 means."""
    model = GRAM(SPEC, width=16)
    guide = AmortizedGuide(model)
    torch.nn.init.normal_(model.guidance.down.weight)
    guide.guidance.load_state_dict(model.guidance.state_dict())
    torch.nn.init.zeros_(guide.target.weight)
    seen: list[Any] = []
    posterior = guide.posterior

    def note(u: Tensor, y: Tensor, prior: Any) -> Any:
        assert u.dtype == torch.float32
        seen.append((posterior(u, y, prior).base_dist, prior.base_dist))
        return posterior(u, y, prior)

    guide.posterior = note  # type: ignore[method-assign]
    with torch.autocast("cpu", torch.bfloat16):
        _, info = gp.SegmentELBO()(model, guide)(X, Y)
    assert info.kl.abs() < 1e-4
    for q, p in seen:
        assert not torch.equal(p.loc.bfloat16().float(), p.loc)  # more than 8 bits
        torch.testing.assert_close(q.loc, p.loc)
