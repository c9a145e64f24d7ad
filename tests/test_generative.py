"""The generative comparison systems: one contract for all, each against enumeration, quadrature or simulation."""

from __future__ import annotations

import inspect
import itertools
import math
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import SVI, Importance, Predictive, Trace_ELBO
from torch import Tensor, nn
from torch.nn.functional import one_hot

import gram_ppl as gp
from gram_ppl.guides import Empty, Noising, Recognition
from gram_ppl.inference.options import depth
from gram_ppl.models import D3PM, MDLM, VAE, Absorbing, Autoregressive, NodeTokens, Patches, Uniform
from gram_ppl.nn import Attention, TokenMixing
from gram_ppl.program.poutine import Temperature
from gram_ppl.tasks import Spec

ROWS, LENGTH, VOCAB = 4, 3, 4
SPEC = Spec(LENGTH, 4, LENGTH, VOCAB, torch.eye(LENGTH).roll(1, 0)[None])
X = torch.randint(4, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
Y = torch.randint(1, VOCAB, (ROWS, LENGTH), generator=torch.Generator().manual_seed(2))
SMALL: dict[str, Any] = {"width": 16, "layers": 1, "mixer": Attention(heads=2)}


def _bound() -> Any:
    return gp.SegmentELBO(beta=1.0, balance=None)


# model, its arguments, guide, objective, sites without y
SYSTEMS: dict[str, tuple[Any, dict[str, Any], Any, Any, list[str]]] = {
    "ar": (Autoregressive, {}, Empty, gp.SegmentELBO, []),
    "mdlm": (MDLM, {"denoising": 5}, Noising, gp.DenoisingELBO, ["z_4", "z_3", "z_2", "z_1"]),
    "d3pm": (D3PM, {"denoising": 5}, Noising, gp.DenoisingELBO, ["z_5", "z_4", "z_3", "z_2", "z_1"]),
    "d3pm absorbing": (
        D3PM, {"denoising": 5, "kernel": Absorbing()}, Noising, lambda: gp.DenoisingELBO(0.01),
        ["z_4", "z_3", "z_2", "z_1"],
    ),
    "vae": (VAE, {"code": 3}, Recognition, _bound, ["z"]),
}  # fmt: skip
DIFFUSIONS = ["mdlm", "d3pm", "d3pm absorbing"]
every = pytest.mark.parametrize("name", SYSTEMS)
diffusion = pytest.mark.parametrize("name", DIFFUSIONS)


def build(name: str, spec: Spec = SPEC, **options: Any) -> Any:
    """A model in double precision whose predictions are far from equal and far from sure."""
    kind, own, *_ = SYSTEMS[name]
    model = kind(spec, **(SMALL | own | options)).double()
    decoder = model.decoder if name == "ar" else model.stack.decoder
    nn.init.normal_(decoder.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    if name == "vae":
        nn.init.normal_(model.spread.weight, std=3.0, generator=torch.Generator().manual_seed(1))
    return model


def guide_of(name: str, model: Any) -> Any:
    return SYSTEMS[name][2](model).double()


@pytest.fixture(scope="module")
def task() -> gp.tasks.Sudoku:
    return gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=20, num_test=20)


# The contract ---------------------------------------------------------------------------------------------------------


@every
def test_sites_and_shapes(name: str) -> None:
    model = build(name)
    latent = SYSTEMS[name][4]
    for y in (None, Y):
        trace: Any = poutine.trace(model).get_trace(X, y)
        sites = {n: s for n, s in trace.nodes.items() if s["type"] == "sample" and n != "batch"}
        assert list(sites) == [*latent, "y"]
        assert sites["y"]["is_observed"] == (y is not None)
        assert sites["y"]["value"].shape == (ROWS, LENGTH)
        for site in sites.values():
            assert site["fn"].batch_shape == (ROWS,)
            assert [frame.name for frame in site["cond_indep_stack"]] == ["batch"]
    assert model(None, Y[:2])[1].shape == (2, LENGTH)
    assert model()[1].shape == (1, LENGTH)
    assert set(inspect.signature(type(model)).parameters) >= {"spec", "seed"}


@every
def test_guides_latents_and_stock_elbo(name: str) -> None:
    model = build(name)
    guide = guide_of(name, model)
    assert list(guide(X, Y)) == SYSTEMS[name][4]
    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 0.02}), Trace_ELBO())
    losses = [svi.step(X, Y) for _ in range(60)]
    assert sum(losses[-15:]) < 0.8 * sum(losses[:15])
    assert Predictive(model, num_samples=3)(X)["y"].shape == (3, ROWS, LENGTH)


@every
def test_training_learns_saves_loads_and_resumes(name: str, task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    kind, own, guide, objective, _ = SYSTEMS[name]

    def train(folder: Path, **options: Any) -> tuple[Any, Any]:
        model = kind(task.spec, **(SMALL | own))
        settings: dict[str, Any] = {"batch_size": 32, "lr": 1e-2, "evaluations": 1, "progress": False}
        history = gp.fit(
            model, guide(model), task, updates=60, objective=objective(), out=folder, **settings, **options
        )
        return model, history

    def interrupt(run: Any) -> None:
        if run.update == 40:  # the second state has been written
            raise KeyboardInterrupt

    model, history = train(tmp_path / "whole")
    assert history[-1].loss < 0.9 * history[0].loss
    loaded, made, _ = gp.load(tmp_path / "whole")
    assert type(loaded) is kind
    assert type(made) is guide
    assert loaded.config == model.config
    x = task.inputs("test")[:4]
    one, two, chunked = (
        gp.rollout(m, x, num_samples=3, seed=1, chunk=chunk) for m, chunk in ((model, 99), (loaded, 99), (model, 2))
    )
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.tokens, chunked.tokens)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", checkpoint_every=20, before_update=interrupt)
    again, _ = train(tmp_path / "cut", checkpoint_every=20, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


@every
def test_rollouts_run_to_the_end_of_the_chain(name: str) -> None:
    model = build(name)
    end = {"ar": LENGTH, "vae": 1}.get(name, 5)
    assert depth(model) == end
    whole, longer = (gp.rollout(model, X, num_samples=8, steps=steps, seed=3) for steps in (None, end + 4))
    assert whole.steps.unique().tolist() == [end]
    assert torch.equal(whole.tokens, longer.tokens)
    assert not torch.equal(whole.tokens[:, 0], whole.tokens[:, 1])
    steps = list(gp.trajectories(model, X, num_samples=8, seed=3))
    assert len(steps) == end
    assert torch.equal(steps[-1].tokens, whole.tokens)
    assert gp.generate(model, num_samples=5).shape == (5, LENGTH)


@every
def test_rollouts_sample_the_program(name: str) -> None:
    """Frequencies of rollouts from per-row streams against those of the bare program."""
    model, num = build(name), 4000
    if name == "vae":
        return  # its rollouts decode the most probable tokens, and the program draws them
    options = {"sample": True} if name in DIFFUSIONS else {}
    rolled = gp.rollout(model, X[:1], num_samples=num, seed=1, **options).tokens[0]
    torch.manual_seed(2)
    drawn = model(X[:1].expand(num, -1))[1]
    weights = VOCAB ** torch.arange(LENGTH)
    one, two = (torch.bincount(y @ weights, minlength=VOCAB**LENGTH) / num for y in (rolled, drawn))
    assert (one - two).abs().sum() < 0.15
    assert one.max() < 0.9


# Autoregressive -------------------------------------------------------------------------------------------------------


def all_answers(length: int = LENGTH, vocab: int = VOCAB) -> Tensor:
    return torch.tensor(list(itertools.product(range(vocab), repeat=length)))


def test_probabilities_of_all_sequences_sum_to_one() -> None:
    model, answers = build("ar"), all_answers()
    for x in (X[:1].expand(len(answers), -1), None):
        site: Any = poutine.trace(model).get_trace(x, answers).nodes["y"]
        total = site["fn"].log_prob(answers).exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-9)


def test_one_pass_is_the_chain_rule() -> None:
    """The density of teacher forcing against the logits that writing token by token meets."""
    model = build("ar")
    with poutine.trace() as trace:
        tokens = model(X, latent=model.initial(ROWS))[1]
    tokens_sites: list[Any] = [site for name, site in trace.trace.nodes.items() if name.startswith("token_")]
    written = torch.stack([site["value"] for site in tokens_sites], dim=1)
    assert torch.equal(written, tokens)
    chain = torch.stack([site["fn"].log_prob(site["value"]) for site in tokens_sites]).sum(0)
    whole: Any = poutine.trace(model).get_trace(X, tokens).nodes["y"]
    free: Any = poutine.trace(poutine.condition(model, data={"y": tokens})).get_trace(X).nodes["y"]
    assert free["is_observed"]
    for site in (whole, free):
        assert torch.allclose(site["fn"].log_prob(tokens), chain, atol=1e-9)


def test_a_token_never_sees_itself_or_what_follows() -> None:
    model = build("ar")
    e = model.encoder(X, ROWS)
    before = model.logits(e, None, Y)
    for place in range(LENGTH):
        other = Y.clone()
        other[:, place] = (other[:, place] + 1) % VOCAB
        changed = (model.logits(e, None, other) - before).abs().amax(dim=(0, 2)) > 1e-12
        assert changed.tolist() == [p > place for p in range(LENGTH)]


def test_autoregressive_on_graphs_and_with_slots() -> None:
    graphs = gp.tasks.GraphColoring(n=5, num_train=20, num_validation=0, num_test=4)
    for encoder in (NodeTokens(), gp.models.Tokens()):
        model = Autoregressive(graphs.spec, **SMALL, encoder=encoder)
        x = graphs.inputs("test")
        answers = all_answers(5, 4)[::7]
        for rows in (x[:1], x[1:2]):
            assert model(rows.expand(len(answers), -1), answers)[0].h.shape == (len(answers), 5, 4)
        assert gp.rollout(model, x, num_samples=2).tokens.shape == (4, 2, 5)


def test_autoregressive_relations_join_what_tokens_stand_for() -> None:
    model = build("ar", registers=2)
    wide = model._relations()
    length, first = model.encoder.length, 2
    assert wide.shape == (3, length + LENGTH, length + LENGTH)
    for asks, holds in itertools.product(range(LENGTH), range(1, LENGTH)):
        assert wide[0, length + asks, length + holds] == SPEC.relations[0, asks, holds - 1]  # type: ignore[index]
        assert wide[0, length + asks, first + holds] == SPEC.relations[0, asks, holds]  # type: ignore[index]
        assert wide[2, length + asks, length + holds] == (asks == holds)
    assert torch.equal(wide[1, length:, first:length], torch.eye(LENGTH))
    assert not wide[0, :, length].any()


def test_autoregressive_needs_attention_and_a_token_an_answer() -> None:
    with pytest.raises(ValueError, match="needs attention"):
        Autoregressive(SPEC, width=16, mixer=TokenMixing(8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="4 tokens are decoded to 16 answers"):
        Autoregressive(Spec(16, 3, 16, 3), width=16, encoder=Patches(2, 4))  # type: ignore[arg-type]


# Diffusion ------------------------------------------------------------------------------------------------------------

KERNELS = [Uniform(), Absorbing()]
kernels = pytest.mark.parametrize("kernel", KERNELS, ids=["uniform", "absorbing"])


def one_step(kernel: Any, near: float, far: float, vocab: int) -> Tensor:
    """The matrix of q(z_t | z_s) written down from its definition, ``[S, S]``."""
    size, keep = kernel.states(vocab), far / near
    matrix = keep * torch.eye(size, dtype=torch.float64)
    if isinstance(kernel, Uniform):
        return matrix + (1 - keep) / size
    matrix[:, -1] += 1 - keep
    return matrix


def alphas(kernel: Any, steps: int) -> list[float]:
    return kernel.alpha(torch.arange(steps + 1, dtype=torch.float64) / steps).tolist()


@kernels
def test_alpha_falls_from_one_to_zero(kernel: Any) -> None:
    found = alphas(kernel, 50)
    assert found[0] == pytest.approx(1)
    assert found[-1] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in itertools.pairwise(found))


@kernels
@given(vocab=st.integers(2, 6), steps=st.integers(1, 12))
def test_marginals_are_those_of_the_chain(kernel: Any, vocab: int, steps: int) -> None:
    alpha = alphas(kernel, steps)
    matrix = torch.eye(kernel.states(vocab), dtype=torch.float64)[:vocab]
    for near, far in itertools.pairwise(alpha):
        matrix = matrix @ one_step(kernel, near, far, vocab)
        closed = kernel.marginal(torch.eye(vocab, dtype=torch.float64), torch.tensor([far], dtype=torch.float64))
        assert torch.allclose(closed, matrix, atol=1e-9)
    assert torch.allclose(matrix, kernel.start(matrix), atol=1e-9)


@kernels
def test_marginals_of_simulated_chains(kernel: Any) -> None:
    torch.manual_seed(0)
    vocab, steps, num = 3, 6, 20_000
    alpha = alphas(kernel, steps)
    z = torch.full((num,), 1)
    for near, far in itertools.pairwise(alpha[:5]):
        keep = torch.rand(num) < far / near
        noise = torch.randint(vocab, (num,)) if isinstance(kernel, Uniform) else torch.full((num,), vocab)
        z = torch.where(keep, z, noise)
    size = kernel.states(vocab)
    closed = kernel.marginal(one_hot(torch.tensor(1), vocab).double(), torch.tensor([alpha[4]]))
    assert torch.allclose(torch.bincount(z, minlength=size) / num, closed.float(), atol=0.015)


@kernels
@given(vocab=st.integers(2, 5), steps=st.integers(2, 9), data=st.data())
def test_the_posterior_is_bayes_rule(kernel: Any, vocab: int, steps: int, data: Any) -> None:
    """q(z_s | z_t, y) ∝ q(z_t | z_s) q(z_s | y), all s, t, y enumerated; and its mixture over a prediction of y."""
    alpha = alphas(kernel, steps)
    t = data.draw(st.integers(1, steps))
    s = data.draw(st.integers(0, t - 1))
    near, far = (torch.tensor([alpha[k]], dtype=torch.float64) for k in (s, t))
    clean, size = torch.eye(vocab, dtype=torch.float64), kernel.states(vocab)
    forward, marginal = one_step(kernel, alpha[s], alpha[t], vocab), kernel.marginal(clean, near)
    weights = torch.tensor(data.draw(st.lists(st.floats(0.05, 1), min_size=vocab, max_size=vocab))).double()
    weights /= weights.sum()
    for z in range(size):
        joint = marginal * forward[:, z]  # [V, S]: y, z_s
        mixed = torch.zeros(size, dtype=torch.float64)
        for y in range(vocab):
            if joint[y].sum() > 1e-12:
                found = kernel.backward(one_hot(torch.tensor(z), size).double(), clean[y], near, far)
                assert torch.allclose(found, joint[y] / joint[y].sum(), atol=1e-9)
                mixed += weights[y] * found
        if isinstance(kernel, Uniform) or z == vocab:  # elsewhere a prediction that differs from z is impossible
            found = kernel.backward(one_hot(torch.tensor(z), size).double(), weights, near, far)
            assert torch.allclose(found, mixed, atol=1e-9)


def enumerated(model: Any, guide: Any, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Minus the ELBO, and log p(y | x), of one example: the sum over every path of the chain."""
    names, size = list(guide(x, y)), model.kernel.states(model.spec.vocab_out)
    paths = list(itertools.product(all_answers(model.spec.len_out, size), repeat=len(names)))
    values = {name: torch.stack([path[place] for path in paths]) for place, name in enumerate(names)}
    rows = (x.expand(len(paths), -1), y.expand(len(paths), -1))
    nodes: Any = poutine.trace(poutine.condition(model, data=values)).get_trace(*rows).nodes
    clean = one_hot(rows[1], model.spec.vocab_out).double()
    log_p = nodes["y"]["fn"].log_prob(rows[1])
    log_q = torch.zeros(len(paths), dtype=torch.float64)
    for name, value in values.items():
        log_p = log_p + nodes[name]["fn"].log_prob(value)
        log_q = log_q + nodes[name]["infer"]["given"](clean).log_prob(value)
    assert log_q.exp().sum().item() == pytest.approx(1, abs=1e-6)
    return (log_q.exp() * (log_q - log_p)).sum().item(), log_p.logsumexp(0).item()


@diffusion
def test_the_bound_is_exact_on_two_tokens(name: str) -> None:
    """The bound by enumeration of all paths: at least −log p(y | x), and the mean of all three estimates."""
    spec = Spec(2, 3, 2, 2)
    model = build(name, spec, denoising=3)
    guide = Noising(model)
    x, answers = torch.tensor([[0, 2]]), all_answers(2, 2)
    found = [enumerated(model, guide, x, y[None]) for y in answers]
    assert sum(math.exp(log_p) for _, log_p in found) == pytest.approx(1, abs=1e-6)
    assert all(bound >= -log_p >= 0 for bound, log_p in found)
    y, bound = answers[2:3], found[2][0]
    torch.manual_seed(0)
    num = 4000
    rows = (x.expand(num, -1), y.expand(num, -1))
    one_step = gp.DenoisingELBO()(model, guide)(*rows)[0].item() * 2
    whole = gp.SegmentELBO(balance=None, steps=model.depth)(model, guide)(*rows)[0].item() * 2
    stock = Trace_ELBO().loss(model, guide, *rows) / num
    assert one_step == pytest.approx(bound, rel=0.05)  # its last noise is pure, so that the KL of z_T is 0
    assert whole == pytest.approx(bound, rel=0.05)
    assert stock == pytest.approx(bound, rel=0.05)


def test_mdlm_is_a_weighted_cross_entropy() -> None:
    """T · KL of a step is T (alpha_s − alpha_t) / (1 − alpha_t) = T / t times the cross-entropy of masked tokens."""
    model = build("mdlm", denoising=7)
    torch.manual_seed(0)
    objective = gp.DenoisingELBO()
    seen: dict[str, Any] = {}
    noised = model.noised

    def spy(y: Tensor, age: Tensor) -> Any:
        seen["age"], seen["latent"] = age, noised(y, age)
        return seen["latent"]

    model.noised = spy
    loss = objective(model, Noising(model))(X, Y)[0]
    t, z = 7 - seen["age"], seen["latent"].l
    logits = model.stack.logits(
        model.stack(model.stack.encoder(X, ROWS) + model.stack.place(model.noisy(z.argmax(-1))), None)
    )
    entropy = nn.functional.cross_entropy(logits.transpose(1, 2), Y, reduction="none")
    expected = (7 / t[:, None] * entropy * z[..., -1]).sum(dim=1).mean() / LENGTH
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_times_are_uniform_for_each_row() -> None:
    torch.manual_seed(0)
    ages = torch.stack([gp.DenoisingELBO().times(4, 8, torch.device("cpu")) for _ in range(4000)])
    assert ages.min() == 0
    assert ages.max() == 7
    for row in ages.unbind(1):
        assert torch.allclose(torch.bincount(row, minlength=8) / 4000, torch.full((8,), 1 / 8), atol=0.03)
    assert ((ages.sort(dim=1).values // 2) == torch.arange(4)).all()  # one in each quarter


def test_the_auxiliary_loss_is_added_at_every_time() -> None:
    model = build("d3pm", denoising=6)
    losses = []
    for auxiliary in (0.0, 0.5):
        torch.manual_seed(3)
        losses.append(gp.DenoisingELBO(auxiliary)(model, Noising(model))(X, Y))
    torch.manual_seed(3)
    age = gp.DenoisingELBO().times(ROWS, 6, torch.device("cpu"))
    z = model.noised(Y, age).l
    logits = model.predict(model.stack.encoder(X, ROWS), None, z, 6 - age)
    extra = nn.functional.cross_entropy(logits.transpose(1, 2), Y, reduction="none").sum(dim=1).mean() / LENGTH
    assert (losses[1][0] - losses[0][0]).item() == pytest.approx(0.5 * extra.item(), rel=1e-6)


@diffusion
def test_another_number_of_steps_shares_the_weights(name: str) -> None:
    model = build(name)
    other = model.respaced(3)
    assert (model.depth, other.depth, depth(other)) == (5, 3, 3)
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert gp.rollout(other, X, num_samples=2).steps.unique().tolist() == [3]
    for bad in (lambda: model.respaced(0), lambda: build(name, denoising=0)):
        with pytest.raises(ValueError, match="denoising must be at least 1"):
            bad()


def test_temperature_sharpens_categorical_sites() -> None:
    model = build("mdlm", denoising=40)

    def spread(factor: float) -> int:
        out = gp.rollout(model, X[:1], num_samples=200, noise=Temperature(factor), seed=0).tokens[0]
        return len(out.unique(dim=0))

    assert spread(0.0) < spread(0.3) < spread(1.0)


# VAE ------------------------------------------------------------------------------------------------------------------


def quadrature(model: Any, guide: Any, x: Tensor, y: Tensor) -> tuple[float, float]:
    """log p(y | x) and the ELBO of a model with a code of one dimension, by the trapezoidal rule."""
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    rows = (x.expand(len(grid), -1), y.expand(len(grid), -1))
    trace: Any = poutine.trace(poutine.condition(model, data={"z": grid[:, None]})).get_trace(*rows)
    likelihood = trace.nodes["y"]["fn"].log_prob(rows[1])
    prior = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0).log_prob(grid)
    exact = torch.trapezoid((likelihood + prior).exp(), grid).log().item()
    e = model.stack.encoder(x, 1)
    q = guide.posterior(e, y, None).base_dist
    log_q = q.log_prob(grid[:, None])[:, 0]
    bound = torch.trapezoid(log_q.exp() * (likelihood + prior - log_q), grid).item()
    return exact, bound


def test_vae_bound_against_integration() -> None:
    spec = Spec(4, 3, 4, 3)
    model = VAE(spec, code=1, **SMALL).double()
    nn.init.normal_(model.spread.weight, std=3.0, generator=torch.Generator().manual_seed(1))
    guide = Recognition(model).double()
    x, y = torch.tensor([[0, 1, 2, 0]]), torch.tensor([[1, 2, 2, 1]])
    exact, bound = quadrature(model, guide, x, y)
    assert bound < exact - 1e-3
    torch.manual_seed(0)
    num = 20_000
    rows = (x.expand(num, -1), y.expand(num, -1))
    loss = _bound()(model, guide)(*rows)[0].item() * 4
    assert -loss == pytest.approx(bound, abs=0.03)
    assert -Trace_ELBO().loss(model, guide, *rows) / num == pytest.approx(bound, abs=0.03)
    assert gp.bounds.iwae(model, guide, x, y, num_particles=20_000).item() == pytest.approx(exact, abs=0.03)


def test_two_colours_are_bernoulli() -> None:
    model = VAE(Spec(4, 3, 4, 3), code=2, **SMALL).double()
    h = torch.randn(2, 5, 16, dtype=torch.float64)
    logits = model.stack.logits(h)
    black_white = torch.tensor([[1, 2, 2, 1], [2, 2, 1, 1]])
    coin = torch.distributions.Bernoulli(logits=logits[..., 2] - logits[..., 1])
    expected = coin.log_prob((black_white == 2).double()).sum(dim=-1)
    assert torch.allclose(model.answer(h).log_prob(black_white), expected)
    padded = VAE(Spec(4, 3, 4, 3), code=2, padding=True, **SMALL)
    assert padded.answer(torch.randn(2, 5, 16)).log_prob(torch.zeros(2, 4, dtype=torch.long)).min() > -50


def test_importance_with_stock_pyro() -> None:
    """``Importance`` with the recognition network agrees with quadrature."""
    model = VAE(Spec(4, 3, 4, 3), code=1, **SMALL).double()
    guide = Recognition(model).double()
    x, y = torch.tensor([[0, 1, 2, 0]]), torch.tensor([[1, 2, 2, 1]])
    exact, _ = quadrature(model, guide, x, y)
    torch.manual_seed(0)
    found = Importance(model, guide, num_samples=400).run(x, y).get_log_normalizer().item()
    assert found == pytest.approx(exact, abs=0.1)


@pytest.mark.parametrize("name", ["mdlm", "d3pm", "vae"])
def test_pictures(name: str) -> None:
    spec = Spec(64, 3, 64, 3)
    kind, own, guide, objective, _ = SYSTEMS[name]
    model = kind(spec, **(SMALL | own), encoder=Patches(2, 4))
    y = torch.randint(1, 3, (4, 64))
    loss, _ = objective()(model, guide(model))(None, y)
    loss.backward()
    assert gp.generate(model, num_samples=3).shape == (3, 64)
