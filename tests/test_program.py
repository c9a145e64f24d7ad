"""One contract for every model: sites, shapes, seeds, stock Pyro; and the network's parts against slow versions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.infer import SVI, Importance, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn
from torch.distributions import kl_divergence

import gram_ppl as gp
from gram_ppl.guides import AmortizedGuide, Empty
from gram_ppl.models import GRAM, LearnedNoise, NoNoise, NoVariance, UnboundedNoise, ZeroMeanNoise
from gram_ppl.nn import Attention, Block, Convolution, SwiGLU, TokenMixing, attend, rms_norm, rotary, rotate
from gram_ppl.tasks import Spec

ROWS, LENGTH, WIDTH = 3, 6, 8
CELL = torch.arange(LENGTH)
RELATIONS = torch.stack([CELL[:, None] // 3 == CELL // 3, CELL[:, None] % 3 == CELL % 3])
SPEC = Spec(LENGTH, 4, LENGTH, 5, RELATIONS)
SLOTS = Spec(LENGTH, 4, 4, 5, RELATIONS)  # the answer has tokens of its own
X = torch.randint(4, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))

MODELS: dict[str, dict[str, Any]] = {
    "relations": {},
    "rope": {"mixer": Attention(heads=2, rope=True, relations=False)},
    "rope and relations": {"mixer": Attention(heads=4, rope=True)},
    "token mixing": {"mixer": TokenMixing(hidden=5)},
    "convolution": {"mixer": Convolution(2, 3), "registers": 0},
    "separate": {"shared": False},
    "flat": {"hierarchy": False, "low_steps": 3},
    "two layers": {"layers": 2, "hidden": 12, "low_steps": 3},
    "no registers": {"registers": 0},
    "three registers": {"registers": 3},
    "no positions": {"positions": False},
    "three transitions": {"transitions": 3, "supervision": 2},
    "answer slots": {"spec": SLOTS, "registers": 2},
    "learned noise": {"noise": LearnedNoise(floor=0.1, scale=0.2)},
    "zero mean": {"noise": ZeroMeanNoise()},
    "no variance": {"noise": NoVariance()},
    "unbounded noise": {"noise": UnboundedNoise()},
    "no noise": {"noise": NoNoise()},
}
every = pytest.mark.parametrize("name", MODELS)


def build(name: str = "relations", *, random: bool = True, **options: Any) -> GRAM:
    options = {"width": WIDTH, "transitions": 2, "supervision": 3} | MODELS[name] | options
    model = GRAM(options.pop("spec", SPEC), **options)
    if random and hasattr(model, "guidance"):  # heads that start at zero would hide errors
        nn.init.normal_(model.guidance.down.weight, std=0.2)
    return model


def target(model: GRAM, rows: int = ROWS) -> Tensor:
    return torch.randint(5, (rows, model.spec.len_out), generator=torch.Generator().manual_seed(2))


def guide_of(model: GRAM) -> Any:
    if isinstance(model.noise, NoNoise):
        return Empty(model)
    guide = AmortizedGuide(model)
    nn.init.normal_(guide.guidance.down.weight, std=0.2)
    return guide


def samples(trace: Any) -> dict[str, Any]:
    nodes = prune_subsample_sites(trace).nodes
    return {name: site for name, site in nodes.items() if site["type"] == "sample"}


# The contract ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["x", "y", "x and y"])
@every
def test_sites_and_shapes(name: str, given: str) -> None:
    model = build(name)
    y = target(model) if "y" in given else None
    trace: Any = poutine.trace(model).get_trace(X if "x" in given else None, y)
    sites = samples(trace)
    latents = [f"eps_{n}_{t}" for n in range(model.supervision) for t in range(model.transitions)]
    assert list(sites) == ([] if name == "no noise" else latents) + ["y"]
    registers = model.config["registers"]
    length = registers + LENGTH + (0 if model.spec is SPEC else model.spec.len_out)
    for site, node in sites.items():
        event = (model.spec.len_out,) if site == "y" else (length, WIDTH)
        assert node["fn"].batch_shape == (ROWS,)
        assert node["fn"].event_shape == event
        assert node["value"].shape == (ROWS, *event)
        assert [frame.name for frame in node["cond_indep_stack"]] == ["batch"]
        assert node["is_observed"] == (site == "y" and y is not None)
    z, answer = trace.nodes["_RETURN"]["value"]
    assert isinstance(z, gp.Latent)
    assert z.h.shape == z.l.shape == (ROWS, length, WIDTH)
    assert answer is sites["y"]["value"]
    assert answer.dtype == torch.int64
    assert ((answer >= 0) & (answer < 5)).all()
    if y is not None:
        assert answer is y
    first = registers + (0 if model.spec is SPEC else LENGTH)
    logits = model.decoder(z.h[:, first : first + model.spec.len_out])
    torch.testing.assert_close(sites["y"]["fn"].base_dist.logits, logits.log_softmax(-1))


@pytest.mark.parametrize("name", ["relations", "answer slots"])
def test_the_sampled_answer_follows_the_decoder(name: str) -> None:
    """Chi-square of one token's counts among 1,000 rows, error rate 1e-6."""
    model = build(name, noise=NoNoise(), supervision=1)
    _, y = model(X[:1].expand(1000, -1))
    site: Any = poutine.trace(model).get_trace(X[:1]).nodes["y"]
    expected = 1000 * site["fn"].base_dist.probs[0, 2]
    counts = torch.bincount(y[:, 2], minlength=5)
    assert ((counts - expected) ** 2 / expected).sum() < 33.4  # 4 degrees of freedom


@every
def test_without_input_the_batch_is_that_of_what_is_given(name: str) -> None:
    model = build(name)
    assert model()[1].shape == (1, model.spec.len_out)
    assert model(None, target(model, 5))[0].h.shape[0] == 5
    latent = model.initial(4).map(torch.clone)
    assert model(latent=latent)[1].shape == (4, model.spec.len_out)
    torch.manual_seed(3)
    z, _ = model(None, target(model), steps=1)
    torch.manual_seed(3)
    other, _ = model(X, target(model), steps=1)
    assert not torch.allclose(z.h, other.h)


@pytest.mark.parametrize(("name", "given"), [*((name, "x") for name in MODELS), ("relations", "nothing")])
def test_segments_from_carried_latents_are_the_whole(name: str, given: str) -> None:
    model, x = build(name).double(), X if given == "x" else None
    y = target(model)
    torch.manual_seed(3)
    whole: Any = poutine.trace(model).get_trace(x, y)
    torch.manual_seed(3)
    latent = None
    for n in range(model.supervision):
        part: Any = poutine.trace(model).get_trace(x, y, latent=latent, steps=1)
        latent = part.nodes["_RETURN"]["value"][0]
        for t in range(model.transitions if name != "no noise" else 0):
            torch.testing.assert_close(part.nodes[f"eps_0_{t}"]["value"], whole.nodes[f"eps_{n}_{t}"]["value"])
    torch.testing.assert_close(latent, whole.nodes["_RETURN"]["value"][0])


@every
def test_rows_do_not_see_each_other(name: str) -> None:
    model = build(name, noise=NoNoise()).double()
    whole = model(X)[0].h
    for row in range(ROWS):
        torch.testing.assert_close(model(X[row : row + 1])[0].h[0], whole[row])


@every
def test_double_precision_is_kept(name: str) -> None:
    model = build(name).double()
    for site, node in samples(poutine.trace(model).get_trace(X)).items():
        if site == "y":
            assert node["fn"].base_dist.logits.dtype == torch.float64
        else:
            assert node["fn"].base_dist.loc.dtype == node["fn"].base_dist.scale.dtype == torch.float64


@every
def test_seed(name: str) -> None:
    state = torch.get_rng_state()
    one, two, other = (build(name, random=False, seed=seed).state_dict() for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[key], two[key]) for key in one)
    same = {key for key in one if torch.equal(one[key], other[key]) and one[key].numel()}
    constant = {"guidance.down.weight"} | {key for key in one if key.endswith("mixer.relation")}
    assert same == constant & one.keys()
    state = torch.get_rng_state()
    guides = [AmortizedGuide(build(name, random=False), seed=seed).state_dict() for seed in (4, 4, 5)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(guides[0][key], guides[1][key]) for key in guides[0])
    assert not torch.equal(guides[0]["target.weight"], guides[2]["target.weight"])


def test_names_of_the_weights() -> None:
    """They are the checkpoint's format."""
    block = ["mlp.down.weight", "mlp.gate_up.weight", "mixer.out.weight", "mixer.qkv.weight", "mixer.relation"]
    own = {"encoder.empty", "encoder.extra", "encoder.positions", "encoder.tokens.weight", "decoder.weight"}
    own |= {"guidance.down.weight", "guidance.gate_up.weight"} | {f"core.low.0.{name}" for name in block}
    model = build()
    assert {name for name, _ in model.named_parameters()} == own
    assert model.state_dict().keys() == own | {"h0", "l0"}
    assert model.h0.shape == model.l0.shape == (LENGTH + 1, WIDTH)
    separate = {f"core.high.0.{name}" for name in block}
    assert {name for name, _ in build("separate").named_parameters()} == own | separate
    guide = AmortizedGuide(model)  # it does not hold the model's weights
    assert guide.state_dict().keys() == {"target.weight", "guidance.down.weight", "guidance.gate_up.weight"}


def test_the_start_is_fixed_and_standard_normal() -> None:
    model = build(width=256)
    state = torch.stack([model.h0, model.l0]).flatten()
    assert abs(state.mean()) < 5 / len(state) ** 0.5
    assert abs(state.var() - 1) < 5 * (2 / len(state)) ** 0.5
    assert not torch.equal(model.h0, model.l0)
    torch.testing.assert_close(model.initial(2).h, model.h0.expand(2, -1, -1))


# Stock Pyro -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elbo", [Trace_ELBO(), TraceMeanField_ELBO(), gp.SegmentELBO()])
@pytest.mark.parametrize(("name", "given"), [*((name, "x") for name in MODELS), ("relations", "nothing")])
def test_svi_moves_every_parameter(name: str, elbo: Any, given: str) -> None:
    model = build(name)
    guide = guide_of(model)
    modules = {"model": model, "guide": guide}
    before = {f"{i}.{n}": t.clone() for i, m in modules.items() for n, t in m.state_dict().items()}
    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 0.01}), elbo)
    losses = [svi.step(X if given == "x" else None, target(model), steps=2) for _ in range(2)]
    after = {f"{i}.{n}": t for i, m in modules.items() for n, t in m.state_dict().items()}
    still = {n for n in before if torch.equal(before[n], after[n])}
    expected = {"model.h0", "model.l0", "model.encoder.empty" if given == "x" else "model.encoder.tokens.weight"}
    if MODELS[name].get("registers") == 0:
        expected |= {"model.encoder.extra"}  # it holds no number
    assert still == expected
    assert losses[0] != losses[1]


@pytest.mark.parametrize("stale", ["model", "guide"])
def test_a_stale_parameter_store_is_an_error(stale: str) -> None:
    """Stock Pyro would train the first module's parameters in silence."""
    model = build()
    guide = guide_of(model)
    optimizer = pyro.optim.ClippedAdam({"lr": 0.01})
    SVI(model, guide, optimizer, Trace_ELBO()).step(X, target(model))
    if stale == "model":
        model = build(seed=1)
    guide = guide_of(model)
    if stale == "model":  # only the model's name is taken
        for key in [key for key in pyro.get_param_store() if key.startswith("guide")]:
            del pyro.get_param_store()[key]
    with pytest.raises(RuntimeError, match=rf"another module named '{stale}'.*clear_param_store"):
        SVI(model, guide, optimizer, Trace_ELBO()).step(X, target(model))
    pyro.clear_param_store()
    SVI(model, guide, optimizer, Trace_ELBO()).step(X, target(model))


def test_the_objective_leaves_the_parameter_store_alone() -> None:
    def plain(x: Tensor, y: Tensor, **kwargs: Any) -> None:
        with pyro.plate("batch", ROWS, dim=-1):
            pyro.sample("eps_0_1", dist.Normal(torch.zeros(ROWS, LENGTH + 1, WIDTH), 1.0).to_event(2))

    for seed in range(2):
        model = build(seed=seed)
        for guide in (guide_of(model), plain):
            loss, _ = gp.SegmentELBO()(model, guide)(X, target(model))
            loss.backward()
        model(X)
    assert list(pyro.get_param_store()) == []


@every
def test_condition(name: str) -> None:
    model = build(name)
    y = target(model)
    trace: Any = poutine.trace(poutine.condition(model, data={"y": y})).get_trace(X)
    assert trace.nodes["y"]["is_observed"]
    z, answer = trace.nodes["_RETURN"]["value"]
    assert torch.equal(answer, y)
    trace.compute_log_prob()
    logits = model.answer(z.h).base_dist.logits
    expected = -F.cross_entropy(logits.transpose(1, 2), y, reduction="none").sum(-1)
    torch.testing.assert_close(trace.nodes["y"]["log_prob"], expected)


def test_predictive() -> None:
    model = build()
    drawn = Predictive(model, num_samples=4)(X)
    assert drawn["y"].shape == (4, ROWS, LENGTH)
    assert drawn["eps_2_1"].shape == (4, ROWS, LENGTH + 1, WIDTH)
    assert not torch.equal(drawn["eps_0_0"][0], drawn["eps_0_0"][1])
    with torch.no_grad():
        model.get_parameter("decoder.weight").mul_(1e4)  # an answer without chance: the same latents give the same one
    drawn = Predictive(model, num_samples=4)(X)
    answers = drawn.pop("y")
    assert torch.equal(Predictive(model, posterior_samples=drawn)(X)["y"], answers)
    assert not torch.equal(Predictive(model, num_samples=4)(X)["y"], answers)
    guided = Predictive(model, guide=guide_of(model), num_samples=4)(X, target(model))
    assert guided["y"].shape == (4, ROWS, LENGTH)
    assert torch.equal(guided["y"][0], target(model))


@every
def test_importance_from_the_prior_is_the_likelihood(name: str) -> None:
    model = build(name)
    y = target(model)
    for trace, weight in Importance(model, num_samples=2)._traces(X, y):
        z, _ = trace.nodes["_RETURN"]["value"]
        assert weight.item() == pytest.approx(model.answer(z.h).log_prob(y).sum().item(), rel=1e-4)


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_vectorized_particles(elbo: Any) -> None:
    """The value of one particle, where all are alike; others: tests/test_trials.py."""
    model = build("no variance")
    y = target(model)

    def plain(x: Tensor, y: Tensor, **kwargs: Any) -> None:
        with pyro.plate("batch", ROWS, dim=-1):
            for n in range(2):
                for t in range(2):
                    loc = torch.full((ROWS, LENGTH + 1, WIDTH), 0.3)
                    pyro.sample(f"eps_{n}_{t}", NoVariance()._normal(loc, torch.full_like(loc, 0.4)).to_event(2))

    many = elbo(num_particles=4, vectorize_particles=True, max_plate_nesting=2)
    one = elbo().loss(model, plain, X, y, steps=2)
    assert many.loss(model, plain, X, y, steps=2) == pytest.approx(one, rel=1e-5)
    guide = guide_of(model)
    one = elbo().loss(model, guide, X, y, steps=2)
    assert elbo(num_particles=4).loss(model, guide, X, y, steps=2) == pytest.approx(one, rel=1e-5)
    assert many.loss(model, guide, X, y, steps=2) == pytest.approx(one, rel=1e-5)


# Noise ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [LearnedNoise(0.05, 0.4), ZeroMeanNoise(0.05, 0.4), NoVariance(0.05, 0.4)])
def test_scale_is_bounded_and_starts_in_the_middle(noise: LearnedNoise) -> None:
    raw = torch.linspace(-100, 100, 2001).expand(2, 1, -1).reshape(1, 1, -1)
    sigma = noise.distribution(raw).base_dist.scale
    assert sigma.min() == pytest.approx(0.05)
    assert sigma.max() == pytest.approx(0.85)
    assert (sigma.diff() >= 0).all()
    start = noise.distribution(torch.zeros(2, 7, 16)).base_dist
    torch.testing.assert_close(start.scale, torch.full((2, 7, 8), 0.45))
    assert start.loc.abs().max() == 0
    assert noise.distribution(torch.zeros(2, 7, 16, dtype=torch.bfloat16)).base_dist.loc.dtype == torch.float32


def test_learned_noise_has_the_moments_it_says() -> None:
    normal = LearnedNoise(0.05, 0.4).distribution(torch.tensor([[[0.7, -1.0]]]))
    drawn = normal.sample((20_000,)).flatten()
    sigma = 0.05 + 0.8 / (1 + math.e)
    assert drawn.mean().item() == pytest.approx(0.7, abs=5 * sigma / 20_000**0.5)
    assert drawn.std().item() == pytest.approx(sigma, rel=5 / (2 * 20_000) ** 0.5)


def test_zero_mean_learns_its_scale_only() -> None:
    model = build("zero mean")
    model_trace, guide_trace, _ = gp.SegmentELBO().run(model, guide_of(model), (X, target(model)), {"steps": 1})
    for trace in (model_trace, guide_trace):
        site = trace.nodes["eps_0_1"]["fn"].base_dist
        assert site.loc.abs().max() == 0
        assert site.scale.std() > 0
    assert model_trace.nodes["eps_0_1"]["value"].std() > 0
    gp.SegmentELBO()(model, guide_of(model))(X, target(model))[0].backward()
    gradient = model.guidance.down.weight.grad
    assert gradient is not None
    mean, scale = gradient.chunk(2)
    assert mean.abs().max() == 0
    assert scale.abs().max() > 0


def test_no_variance_adds_the_mean_and_pays_the_normals_kl() -> None:
    model = build("no variance")
    one, two = (model(X, target(model))[0].h for _ in range(2))
    assert torch.equal(one, two)
    model_trace, guide_trace, _ = gp.SegmentELBO().run(model, guide_of(model), (X, target(model)), {"steps": 1})
    q, p = (trace.nodes["eps_0_1"]["fn"] for trace in (guide_trace, model_trace))
    assert torch.equal(guide_trace.nodes["eps_0_1"]["value"], q.base_dist.loc)
    normals = [dist.Normal(d.base_dist.loc, d.base_dist.scale).to_event(2) for d in (q, p)]
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(*normals))
    assert (kl_divergence(q, p) > 0).all()
    value = torch.randn_like(q.base_dist.loc)
    torch.testing.assert_close(q.log_prob(value), normals[0].log_prob(value))
    assert torch.equal(q.expand((4, ROWS))().mean(0), q.base_dist.loc)
    assert q.rsample().requires_grad


def test_no_noise_is_deterministic_and_has_no_head() -> None:
    model = build("no noise")
    assert torch.equal(model(X, target(model))[0].h, model(X, target(model))[0].h)
    assert not hasattr(model, "guidance")


# The parts of the network against slow versions -----------------------------------------------------------------------


def test_flat_recursion_updates_h_alone() -> None:
    model = build("flat")
    z, e = model.initial(ROWS), model.encoder(X, ROWS)
    u, low = model.core(z, e)
    h = z.h
    for _ in range(4):
        h = model.core.low[0](h + e)
    torch.testing.assert_close(u, h)
    assert low is z.l
    with pytest.raises(ValueError, match="one network"):
        build("flat", shared=False)


def test_unbounded_scale() -> None:
    noise = UnboundedNoise(floor=0.1, scale=0.5)
    raw = torch.tensor([[0.0, 0.0], [0.0, 20.0]])
    sigma = noise.distribution(raw[None]).base_dist.scale
    torch.testing.assert_close(sigma.flatten(), torch.tensor([0.6, 0.1 + 0.5 * 20 / math.log(2)]))


def test_relations_start_with_a_head_each_and_a_free_one() -> None:
    mixer = Attention(heads=8, relation_init=4.0).build(16, LENGTH, RELATIONS)
    expected = torch.tensor([[4.0, 0], [0, 4], [0, 0]]).repeat(3, 1)[:8]
    assert mixer.relation is not None
    assert torch.equal(mixer.relation.detach(), expected)
    assert Attention(heads=8, relations=False).build(16, LENGTH, RELATIONS).relation is None
    assert Attention(heads=8).build(16, LENGTH, None).relation is None
    with pytest.raises(ValueError, match="not a multiple"):
        Attention(heads=3).build(16, LENGTH, None)


@pytest.mark.parametrize("rope", [False, True])
@pytest.mark.parametrize(("spec", "registers"), [(SPEC, 0), (SPEC, 2), (SLOTS, 2)])
def test_attention_is_the_slow_one(spec: Spec, registers: int, rope: bool) -> None:
    """Loops over rows, heads and pairs of tokens; only input tokens are related."""
    heads, width = 4, 16
    model = GRAM(spec, width=width, registers=registers, mixer=Attention(heads=heads, rope=rope)).double()
    mixer: Any = model.get_submodule("core.low.0.mixer")
    length, d = model.encoder.length, width // heads
    nn.init.normal_(mixer.relation)
    x = torch.randn(2, length, width).double()
    q, k, v = (x @ weight.T for weight in mixer.qkv.weight.chunk(3))

    def turned(vector: Tensor, place: int) -> Tensor:
        angle = place * 10_000.0 ** (-torch.arange(0, d, 2).double() / d)
        turn = torch.complex(vector[: d // 2], vector[d // 2 :]) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([turn.real, turn.imag])

    expected = torch.zeros_like(x)
    for b in range(2):
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            for i in range(length):
                logits = torch.zeros(length).double()
                for j in range(length):
                    one, two = q[b, i, part], k[b, j, part]
                    if rope:
                        one, two = turned(one, i), turned(two, j)
                    logits[j] = one @ two / d**0.5
                    a, c = i - registers, j - registers
                    if 0 <= a < LENGTH and 0 <= c < LENGTH:
                        logits[j] += sum(mixer.relation[head, r] * RELATIONS[r, a, c] for r in range(2))
                expected[b, i, part] = logits.softmax(0) @ v[b, :, part]
    tolerance = 1e-5 if rope else 1e-9  # the table of angles was made in float32
    torch.testing.assert_close(mixer(x), expected @ mixer.out.weight.T, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(mixer(x[None]), mixer(x)[None])


@pytest.mark.parametrize("bias", [None, (4, 5, 5), (3, 4, 5, 5)])
def test_explicit_attention_is_the_fused_one(bias: tuple[int, ...] | None) -> None:
    q, k, v = torch.randn(3, 3, 4, 5, 6).double().requires_grad_()
    mask = None if bias is None else torch.randn(bias).double()
    ours, fused = attend(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(ours, fused, rtol=1e-9, atol=1e-9)
    weight = torch.randn_like(ours)
    grads = (torch.autograd.grad((out * weight).sum(), (q, k, v), retain_graph=True) for out in (ours, fused))
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


def test_rope_sees_differences_of_places_only() -> None:
    q, k = torch.randn(2, 8).double()
    table = rotary(12, 8).double()
    logits = rotate(q.expand(12, -1), table) @ rotate(k.expand(12, -1), table).T
    for shift in range(-11, 12):
        diagonal = logits.diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-5, atol=1e-5)
    assert logits.diagonal(0)[0].item() == pytest.approx((q @ k).item(), abs=1e-6)
    assert logits[0].std() > 0.1
    torch.testing.assert_close(rotate(q.expand(12, -1), table).norm(dim=-1), q.norm().expand(12))


def test_norm_and_gate() -> None:
    x = torch.randn(4, 5, 8).double()
    torch.testing.assert_close(rms_norm(x), F.rms_norm(x, (8,)), rtol=1e-4, atol=1e-4)
    assert rms_norm(torch.zeros(2, 8)).abs().max() == 0
    net = SwiGLU(8, 3, 2).double()
    gate, up = net.gate_up.weight[:3], net.gate_up.weight[3:]
    h = x @ gate.T
    torch.testing.assert_close(net(x), (h * torch.sigmoid(h) * (x @ up.T)) @ net.down.weight.T)
    assert SwiGLU(8, 3, 2, zero=True)(x.float()).abs().max() == 0


def test_convolution_adds_up_what_is_around_a_cell() -> None:
    mixer: Any = Convolution(3, 4, kernel=3).build(2, 12, None)
    x = torch.randn(5, 2, 12, 2)
    kernel, out = mixer.cells.weight, mixer.out.weight  # [D, 1, 3, 3], [D, D]
    expected = torch.zeros(5, 2, 3, 4, 2)
    board = x.view(5, 2, 3, 4, 2)
    for row, column, down, right in itertools.product(range(3), range(4), (-1, 0, 1), (-1, 0, 1)):
        if 0 <= row + down < 3 and 0 <= column + right < 4:
            weight = kernel[:, 0, down + 1, right + 1]
            expected[..., row, column, :] += weight * board[..., row + down, column + right, :]
    torch.testing.assert_close(mixer(x), expected.view(x.shape) @ out.T)
    for length, kernel_size in ((13, 3), (12, 2), (12, 0)):
        with pytest.raises(ValueError, match=r"registers=0|odd number"):
            Convolution(3, 4, kernel_size).build(2, length, None)


@pytest.mark.parametrize("mixer", [Attention(heads=2), TokenMixing(hidden=4)])
def test_block_mixes_tokens_and_ends_in_a_norm(mixer: Any) -> None:
    block = Block(mixer.build(8, 5, None), 8, 12)
    x = torch.randn(2, 5, 8, requires_grad=True)
    out = block(x)
    torch.testing.assert_close(out.square().mean(-1), torch.ones(2, 5), rtol=1e-3, atol=1e-3)
    reach = torch.autograd.grad(out[0, 0, 0], x)[0].abs().sum(-1)
    assert (reach[0] > 0).all()  # every token of the row
    assert reach[1].sum() == 0
