"""Pyro's conventions and inputs of every kind: what ``benchmarks/trials.py`` tries is right, or one clear sentence."""

from __future__ import annotations

import copy
import io
import math
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, RenyiELBO, ReweightedWakeSleep, Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoNormal
from pyro.infer.inspect import get_model_relations
from pyro.poutine import Trace
from torch import Tensor

import gram_ppl as gp
from gram_ppl.guides import AmortizedGuide, Empty, Noising, Plain, Recognition, Revealing
from gram_ppl.models import D3PM, GRAM, MDLM, TRM, VAE, Deciding, LearnedNoise, NodeTokens
from gram_ppl.tasks import Spec

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import trials

ROOT = Path(__file__).resolve().parents[1]
ROWS, LENGTH, WIDTH = 3, 6, 8
LEAVES = torch.eye(5, dtype=torch.bool).index_fill(0, torch.tensor(0), True)  # 0 is a blank
SPEC = Spec(LENGTH, 5, LENGTH, 5, None, LEAVES)
Y = torch.randint(1, 5, (ROWS, LENGTH), generator=torch.Generator().manual_seed(2))
X = Y * torch.tensor([1, 0, 1, 0, 0, 1])

KINDS: dict[str, tuple[Callable[[], Any], Any]] = {
    "gram": (lambda: GRAM(SPEC, width=WIDTH, supervision=2), AmortizedGuide),
    "nodes": (lambda: GRAM(Spec(6, 3, 4, 5), width=WIDTH, supervision=1, encoder=NodeTokens()), AmortizedGuide),
    "deciding": (lambda: Deciding(SPEC, width=WIDTH, supervision=2, block=1), Revealing),
    "both": (
        lambda: Deciding(SPEC, width=WIDTH, supervision=4, block=2, anew=True, noise=LearnedNoise()),
        AmortizedGuide,
    ),
    "vae": (lambda: VAE(SPEC, width=WIDTH, code=2), Recognition),
    "mdlm": (lambda: MDLM(SPEC, width=WIDTH, denoising=2), Noising),
    "d3pm": (lambda: D3PM(SPEC, width=WIDTH, denoising=2), Noising),
    "trm": (lambda: TRM(SPEC, width=WIDTH, supervision=1), Empty),
}
FIRST = ["gram", "deciding"]


def build(kind: str) -> tuple[Any, Any, Tensor, Tensor]:
    make, guide_of = KINDS[kind]
    model = make()
    guide = guide_of(model)
    for name, parameter in guide.named_parameters():  # heads that start at zero would hide errors
        if name.endswith("down.weight"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model, guide, X.clamp(max=model.spec.vocab_in - 1), Y[:, : model.spec.len_out]


def latents(trace: Any) -> dict[str, Tensor]:
    kinds = ("_Subsample",)
    return {
        name: site["value"]
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and type(site["fn"]).__name__ not in kinds
    }


# The picture ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FIRST)
def test_relations_of_a_fresh_model(kind: str) -> None:
    model, guide, x, y = build(kind)
    found = get_model_relations(model, (x, y))
    chain = ["eps_0_0", "eps_0_1", "eps_1_0", "eps_1_1"]
    sites = [*(chain if kind == "gram" else ["order_0", "decision_0", "order_1", "decision_1"]), "y"]
    assert found["sample_sample"][sites[2]] == (chain[:2] if kind == "gram" else [])
    assert found["plate_sample"] == {"batch": sites}
    assert found["observed"] == ["y"]
    assert found["sample_sample"]["y"] == sites[:-1]  # all that went before, by way of the state
    assert found["sample_dist"]["y"] == ("Categorical" if kind == "gram" else "Among")
    assert list(get_model_relations(guide, (x, y))["sample_sample"]) == sites[:-1]
    Trace_ELBO().loss_and_grads(model, guide, x, y)


@pytest.mark.parametrize(("name", "kind"), [("program.svg", "gram"), ("program_deciding.svg", "deciding")])
def test_the_drawing_in_the_documents_is_of_the_program(name: str, kind: str) -> None:
    model, _, x, y = build(kind)
    titles = re.findall(r"<title>(.*?)</title>", (ROOT / "docs" / name).read_text().replace("&#45;&gt;", "->"))
    found = get_model_relations(model, (x, y))["sample_sample"]
    edges = {f"{above}->{site}" for site, upstream in found.items() for above in upstream}
    assert {*titles} - {"%3", "distribution_description_node"} == {*found, *edges, "cluster_batch"}


# Copies ---------------------------------------------------------------------------------------------------------------


def saved(thing: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("through", [lambda thing: pickle.loads(pickle.dumps(thing)), saved, copy.deepcopy])
@pytest.mark.parametrize("kind", [*FIRST, "vae", "trm"])
def test_model_guide_and_segment_travel(kind: str, through: Any) -> None:
    model, guide, x, y = build(kind)
    svi = SVI(model, guide, pyro.optim.PyroOptim(torch.optim.SGD, {"lr": 0.0}), Trace_ELBO())
    for stage in ("fresh", "after SVI", "after the store was read"):
        one, two = through((model, guide))
        assert not vars(next(one.parameters())).keys() & {"unconstrained"}
        both = through(gp.SegmentELBO()(model, guide))
        losses = []
        for segment in (gp.SegmentELBO()(model, guide), gp.SegmentELBO()(one, two), both):
            pyro.set_rng_seed(1)
            losses.append(segment(x, y)[0].item())
        assert losses[0] == losses[1] == losses[2], stage
        svi.step(x, y)
        if stage == "after SVI":
            assert len(list(pyro.get_param_store().values())) == len([*model.parameters(), *guide.parameters()])


# Particles ------------------------------------------------------------------------------------------------------------


def weight(model: Any, guide: Any, values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """log p(y, τ | x) − log q(τ | x, y) of one trajectory, ``[B]``."""
    given = Trace()
    for name, value in values.items():
        given.add_node(name, name=name, type="sample", is_observed=False, value=value, infer={})
    total = torch.zeros(len(y))
    for sign, program in ((1, poutine.condition(model, data=values)), (-1, poutine.replay(guide, trace=given))):
        trace = poutine.trace(program).get_trace(x, y)
        trace.compute_log_prob()
        sites = [site for name, site in trace.nodes.items() if site["type"] == "sample" and name != "batch"]
        total = total + sign * sum(site["log_prob"] for site in sites)
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_vectorized_particles_are_those_one_by_one(kind: str) -> None:
    model, guide, x, y = build(kind)
    options: dict[str, Any] = {"num_particles": 3, "vectorize_particles": True, "max_plate_nesting": 1}
    elbo = Trace_ELBO(**options)
    pyro.set_rng_seed(1)
    ((model_trace, guide_trace),) = elbo._get_traces(model, guide, (x, y), {})
    assert model_trace.nodes["y"]["log_prob"].shape == (3, ROWS)
    values = latents(guide_trace)
    alone = [{name: value[n] for name, value in values.items()} for n in range(3)]
    weights = torch.stack([weight(model, guide, particle, x, y) for particle in alone])
    if kind != "trm":
        assert weights.std(dim=0).min() > 1e-4  # there is something to compare
    for alpha, bound in ((1, elbo), (0.5, RenyiELBO(0.5, **options)), (0, RenyiELBO(0, **options))):
        power = (1 - alpha) * weights
        expected = weights.mean(dim=0) if alpha == 1 else (power.logsumexp(dim=0) - math.log(3)) / (1 - alpha)
        pyro.set_rng_seed(1)
        assert bound.loss(model, guide, x, y) == pytest.approx(-expected.sum().item(), rel=1e-4)


@pytest.mark.parametrize("kind", [*FIRST, "both", "vae"])
def test_predictions_side_by_side(kind: str) -> None:
    model, _, x, _ = build(kind)
    drawn = Predictive(model, num_samples=4, parallel=True)(x)
    assert drawn["y"].shape == (4, ROWS, LENGTH)
    assert (drawn["y"] != drawn["y"][0]).any()


OBJECTIVES = {
    "Rényi": lambda: RenyiELBO(alpha=0.5, num_particles=4, vectorize_particles=True),
    "IWAE": lambda: RenyiELBO(alpha=0, num_particles=2),
    "wake-sleep": lambda: ReweightedWakeSleep(num_particles=4),
    "sleep": lambda: ReweightedWakeSleep(num_particles=4, insomnia=0.5),
}


@pytest.mark.parametrize("kind", FIRST)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_of_pyro_train(name: str, kind: str) -> None:
    model, guide, x, y = build(kind)
    model.supervision = 1
    before = gp.bounds.log_prob(model, x, y, num_samples=20).mean()
    svi = SVI(model, Plain(guide), pyro.optim.ClippedAdam({"lr": 0.05}), OBJECTIVES[name]())
    for _ in range(12):
        svi.step(x, y)
    assert gp.bounds.log_prob(model, x, y, num_samples=20).mean() > before + 1


def test_wake_sleep_without_plain_is_refused() -> None:
    model, guide, x, y = build("gram")
    with pytest.raises(NotImplementedError, match="does not support detach"):
        ReweightedWakeSleep(num_particles=2).loss(model, guide, x, y)


@pytest.mark.parametrize("auto", [AutoNormal, AutoDelta])
def test_auto_guides_fit_the_rows_they_began_with(auto: Any) -> None:
    model, _, x, y = build("gram")
    model.supervision = 1
    guide = auto(model)
    svi = SVI(model, guide, pyro.optim.PyroOptim(torch.optim.Adam, {"lr": 0.05}), Trace_ELBO())
    losses = [svi.step(x, y) for _ in range(12)]
    assert losses[-1] < losses[0] - 20
    with pytest.raises(ValueError, match=r"plate\('batch'\).*3 vs 2"):
        svi.step(x[:2], y[:2])
    model, _, x, y = build("deciding")
    model.name = "deciding"
    with pytest.raises(ValueError, match="cannot handle discrete sample site 'decision_0'"):
        auto(model)(x, y)


# Handlers around a guide ----------------------------------------------------------------------------------------------


def loss(model: Any, guide: Any, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Loss of a segment in nats of the whole batch, and that of the stock ELBO with the same noise."""
    pyro.set_rng_seed(3)
    ours = gp.SegmentELBO(balance=None)(model, guide)(x, y)[0].item() * y.numel()
    pyro.set_rng_seed(3)
    return ours, Trace_ELBO().loss(model, guide, x, y, steps=1)


@pytest.mark.parametrize("kind", FIRST)
def test_scale_and_mask_around_a_guide(kind: str) -> None:
    """They act on the KL: twice of it, none of it."""
    model, guide, x, y = build(kind)
    off: Any = torch.tensor(False)
    once, twice, none = (
        loss(model, worn, x, y) for worn in (guide, poutine.scale(guide, scale=2.0), poutine.mask(guide, mask=off))
    )
    for a, b, c in zip(once, twice, none, strict=True):
        assert a - c > 1
        assert b - a == pytest.approx(a - c, rel=1e-4)
    assert {*gp.SegmentELBO()(model, poutine.scale(guide, scale=2.0)).parameters()} == {
        *model.parameters(),
        *guide.parameters(),
    }
    with pytest.raises(ValueError, match=r"scales or masks .* so this is no bound"):
        gp.bounds.elbo(model, poutine.scale(guide, scale=2.0), x, y)


@pytest.mark.parametrize("kind", FIRST)
def test_block_replay_and_condition_around_a_guide(kind: str) -> None:
    model, guide, x, y = build(kind)
    trace = poutine.trace(guide).get_trace(x, y, steps=1)
    values: dict[str, Any] = latents(trace)
    model_trace, guide_trace, _ = gp.SegmentELBO().run(model, poutine.block(guide), (x, y), {"steps": 1})
    assert latents(guide_trace) == {}  # the prior acts
    assert latents(model_trace).keys() == values.keys()
    replayed = poutine.replay(guide, trace=trace)
    found = latents(gp.SegmentELBO().run(model, replayed, (x, y), {"steps": 1})[1])
    assert all(torch.equal(found[name], value) for name, value in values.items())
    assert Trace_ELBO().loss(model, replayed, x, y, steps=1) == Trace_ELBO().loss(model, replayed, x, y, steps=1)
    for handler in (poutine.condition, poutine.do):
        for objective in (gp.SegmentELBO(), Trace_ELBO()):
            with pytest.raises(ValueError, match=r"around the guide observes .* condition the model"):
                objective.loss(model, handler(guide, data=values), x, y, steps=1)


def test_a_site_that_the_model_lacks() -> None:
    model, guide, x, y = build("gram")
    with pytest.raises(ValueError, match="the guide samples 'extra_eps_0_0', which the model doesn't have"):
        gp.SegmentELBO()(model, gp.poutine.ExtraNoise(0.1)(guide))(x, y)


@pytest.mark.parametrize("kind", FIRST)
def test_a_step_of_svi_is_a_segment(kind: str) -> None:
    model, guide, x, y = build(kind)
    for elbo in (gp.SegmentELBO(0.3), gp.SegmentELBO(0.3, steps=2, every_step=True, window=2)):
        pyro.set_rng_seed(3)
        expected = elbo(model, guide)(x, y)[0].item()
        pyro.set_rng_seed(3)
        still = pyro.optim.PyroOptim(torch.optim.SGD, {"lr": 0.0})
        assert SVI(model, guide, still, elbo).step(x, y) == pytest.approx(expected, rel=1e-5)


# Parameters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FIRST)
def test_two_models_under_names_of_their_own(kind: str) -> None:
    pairs = [build(kind) for _ in range(2)]
    pairs[1][0].name, pairs[1][1].name = "other", "other_guide"
    before = [pair[0].decoder.weight.clone() for pair in pairs]
    for model, guide, x, y in pairs:
        SVI(model, guide, pyro.optim.PyroOptim(torch.optim.Adam, {"lr": 0.1}), Trace_ELBO()).step(x, y)
    assert all((pair[0].decoder.weight != old).any() for pair, old in zip(pairs, before, strict=True))
    names = {name.split("$$$")[0] for name in pyro.get_param_store()}
    assert names == {"model", "other"} | ({"guide", "other_guide"} if kind == "gram" else set())


def test_lifted_parameters_are_refused() -> None:
    model, _, x, y = build("gram")
    with pytest.raises(RuntimeError, match=r"a handler gives 'encoder.empty' of 'model' another value"):
        poutine.trace(poutine.lift(model, prior=dist.Normal(0.0, 1.0))).get_trace(x, y)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(kind: str, dtype: torch.dtype) -> None:
    model, guide, x, y = build(kind)
    pyro.set_rng_seed(3)
    expected = gp.bounds.elbo(model, guide, x, y, num_particles=2)
    model, guide = model.to(dtype), guide.to(dtype)
    pyro.set_rng_seed(3)
    torch.testing.assert_close(gp.bounds.elbo(model, guide, x, y, num_particles=2), expected, rtol=0.1, atol=1.0)
    assert gp.rollout(model, x, num_samples=2, steps=1).tokens.shape == (ROWS, 2, model.spec.len_out)
    assert all(parameter.dtype == torch.float32 for parameter in guide.parameters())
    if kind == "gram":
        assert model.guidance.down.weight.dtype == torch.float32
        assert model.decoder.weight.dtype == dtype


# Inputs ---------------------------------------------------------------------------------------------------------------


WRONG = {
    "float": (lambda x: x.float(), r"x: expected integer tokens of shape \[B, 6\], found torch.float32 of \[3, 6\]"),
    "bool": (lambda x: x.bool(), r"x: expected integer tokens .* found torch.bool"),
    "short": (lambda x: x[:, :5], r"x: expected integer tokens of shape \[B, 6\], found torch.int64 of \[3, 5\]"),
    "no rows": (lambda x: x[:0], "x: expected one row at least, found none"),
    "high": (
        lambda x: x.clone().index_fill_(1, torch.tensor(4), 5),
        r"x: expected tokens 0 \.\. 4, found 5 in row 0, pl",
    ),
    "low": (
        lambda x: x - torch.eye(ROWS, LENGTH).long() * 9,
        r"x: expected tokens 0 \.\. 4, found -\d in row 0, place 0",
    ),
    "three dimensions": (lambda x: x[None], r"\[B, 6\], found torch.int64 of \[1, 3, 6\]"),
    "words": (lambda x: "123", "x: expected integer tokens, found str of other things"),
    "objects": (lambda x: x.numpy().astype(object), "x: expected integer tokens, found ndarray of other things"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("kind", [*FIRST, "vae", "mdlm", "trm"])
def test_wrong_inputs(kind: str, name: str) -> None:
    model, guide, x, y = build(kind)
    change, message = WRONG[name]
    for call in (
        model,
        lambda x: gp.rollout(model, x, num_samples=2, steps=1),
        lambda x: gp.solve(model, trials.TASK, x, num_samples=2, steps=1),
        lambda x: next(gp.trajectories(model, x, num_samples=2, steps=1)),
        lambda x: gp.bounds.elbo(model, guide, x, y, num_particles=2),
    ):
        with pytest.raises(ValueError, match=message):
            call(change(x))


@pytest.mark.parametrize("kind", FIRST)
def test_wrong_answers_and_states(kind: str) -> None:
    model, guide, x, y = build(kind)
    wrong = {
        r"y: expected integer tokens of shape \[B, 6\], found torch.float32": y.float(),
        r"y: expected tokens 0 \.\. 4, found 9 in row 2, place 5": y.index_put(
            (torch.tensor(2), torch.tensor(5)), torch.tensor(9)
        ),
        "y: expected 3 rows, one for each of x, found 2": y[:2],
        r"y: .* found torch.int64 of \[6\]": y[0],
    }
    for message, answer in wrong.items():
        for call in (model, guide):
            with pytest.raises(ValueError, match=message):
                call(x, answer)
    with pytest.raises(ValueError, match="latent: expected 3 rows, one for each of x, found 2"):
        model(x, y, latent=model.begin(x[:2], 2))
    with pytest.raises(ValueError, match=r"latent: expected a gp\.Latent, found tuple"):
        model(x, y, latent=(model.h0, model.l0))


@pytest.mark.parametrize("kind", FIRST)
def test_arrays_lists_and_narrow_integers_are_taken(kind: str) -> None:
    model, guide, x, y = build(kind)
    expected = None
    for change in (lambda t: t, lambda t: t.numpy(), lambda t: t.tolist(), lambda t: t.to(torch.uint8)):
        pyro.set_rng_seed(1)
        found = [
            Trace_ELBO().loss(model, guide, change(x), change(y)),
            *gp.rollout(model, change(x), seed=1).tokens.tolist(),
        ]
        expected = expected or found
        assert found == expected


def test_without_validation_no_value_is_looked_at(monkeypatch: Any) -> None:
    """On CUDA each look would wait for the device."""
    model, guide, x, y = build("gram")
    monkeypatch.setattr("gram_ppl.program.model.check_range", lambda *args: pytest.fail("looked"))
    with pyro.validation_enabled(False):
        gp.SegmentELBO()(model, guide)(x, y)


def test_puzzle_numbers_have_a_range_of_their_own() -> None:
    spec = Spec(5, 3, 4, 3)
    model = GRAM(spec, width=WIDTH, supervision=1, encoder=gp.models.PuzzleTokens(7))
    x = torch.tensor([[6, 0, 1, 2, 0]])
    assert model(x)[1].shape == (1, 4)
    with pytest.raises(ValueError, match=r"tokens 0 \.\. 6, found 7 in row 0, place 0"):
        model(x + torch.tensor([1, 0, 0, 0, 0]))
    with pytest.raises(ValueError, match=r"tokens 0 \.\. 2, found 3 in row 0, place 3"):
        model(x + torch.tensor([0, 0, 0, 1, 0]))


def test_symmetric_views_keep_what_has_no_answer() -> None:
    t = trials.fresh("Deciding")
    answers = gp.solve(t.model, trials.TASK, t.x, num_samples=4, steps=4, select=gp.select.SymmetryVote())
    assert answers.rollouts.answered is not None
    none = ~answers.rollouts.answered
    assert none.any()
    assert (answers.rollouts.tokens[none] == -1).all()


# What is said ---------------------------------------------------------------------------------------------------------


SAID = {
    "a second model in the store": r"another module named '(guide|model)'.*such as module.name = '(guide|model)_2'",
    "a second model, named": r"^\d+\.",
    'solve, device="cuda"': r"a rollout runs where its model is and takes num_samples, .*; not device",
    'fit, device="cuda"': "device: expected one of cpu, found 'cuda'",
    "solve, 5 tokens": r"x: expected integer tokens of shape \[B, 16\], found torch.int64 of \[8, 5\]",
}


@pytest.mark.parametrize("model", trials.MODELS)
@pytest.mark.parametrize("trial", SAID)
def test_trials_say_it(trial: str, model: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 0)
    assert re.search(SAID[trial], trials.said(trial, model))
