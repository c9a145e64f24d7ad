"""Decisions: bounds against enumeration, what policies may do, stock Pyro, files."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor

import gram_ppl as gp
from gram_ppl.models import AllSure, Both, Deciding, Drop, LearnedNoise, RandomCells, RuleOut, SurestCells, View
from gram_ppl.models.decisions import Among, Policy, masses, parts
from gram_ppl.tasks.base import Spec

L, V = 3, 3
X = torch.tensor([[0, 0, 0]])
EVERY_Y = torch.tensor(list(itertools.product(range(V), repeat=L)))
POLICIES: dict[str, Policy] = {
    "random": RandomCells(),
    "two at a time": RandomCells(2),
    "surest": SurestCells(),
    "all sure": AllSure(0.4),
    "rule out": RuleOut(0.3),
    "sure and random": Both(AllSure(0.4), RandomCells()),
    "rule out and surest": Both(RuleOut(0.3), SurestCells()),
}


def toy(policy: Any, *, sharpen: float = 2.0, **options: Any) -> Deciding:
    """A model of three tokens in float64 whose decoder is neither sure nor indifferent."""
    shape: dict[str, Any] = {"width": 8, "low_steps": 1, "transitions": 1, "block": 1, "supervision": L}
    model = Deciding(Spec(L, V, L, V), policy=policy, **{**shape, **options}).double()
    with torch.no_grad():
        model.get_parameter("decoder.weight").mul_(sharpen)
    return model


def in_order(model: Any, order: tuple[int, ...]) -> Any:
    """The model, told which token to take first, second and third where it takes random ones."""
    scores = torch.zeros(len(order), L, dtype=torch.float64)
    for number, place in enumerate(order):
        scores[number, place] = 1.0
    data = {f"order_{number}": scores[number] for number in range(len(order))}

    def told(x: Any = None, y: Any = None, **options: Any) -> Any:
        rows = len(x if y is None else y)
        return poutine.condition(model, data={name: value.expand(rows, -1) for name, value in data.items()})(
            x, y, **options
        )

    return told


def weights(model: Any, ys: Tensor, order: tuple[int, ...] | None) -> Tensor:
    """log p(y, decisions | x, order) of each y, by traces of Pyro: the posterior is certain of the decisions."""
    handled = model if order is None else in_order(model, order)
    guide = gp.guides.Revealing(model)
    with torch.no_grad():
        guide.run(handled, X.expand(len(ys), -1), ys)
        model_trace, _ = guide.get_traces()
        model_trace.compute_log_prob()
    found: Tensor = sum(
        site["log_prob"]
        for name, site in model_trace.nodes.items()
        if site["type"] == "sample" and (name == "y" or name.startswith("decision"))
    )  # type: ignore[assignment]
    return found


def by_hand(model: Deciding, y: Tensor, order: tuple[int, ...]) -> Tensor:
    """log p(y_σ1 | C_0) + log p(y_σ2 | C_1) + ..., with the network's own modules and no site."""
    candidates = torch.ones(1, L, V, dtype=torch.bool)
    e, z, total = model.encoder(X, 1), model.initial(1), torch.zeros((), dtype=torch.float64)
    first = model.encoder.first_out
    for place in order:
        seen = e.clone()
        seen[:, first : first + L] += model.shown(2 * candidates.double() - 1)
        z = gp.Latent(*model.core(z, seen))
        logits = model.decoder(z.h)[0, first : first + L].masked_fill(~candidates[0], -torch.inf)
        total = total + logits.log_softmax(-1)[place, y[place]]
        candidates[0, place] = torch.arange(V) == y[place]
    return total


def test_a_random_order_is_the_chain_rule_in_that_order() -> None:
    model = toy(RandomCells())
    for order in itertools.permutations(range(L)):
        expected = torch.stack([by_hand(model, y, order) for y in EVERY_Y])
        assert torch.allclose(weights(model, EVERY_Y, order), expected, atol=1e-9)


def test_densities_of_a_random_order_add_up_to_one() -> None:
    orders = list(itertools.permutations(range(L)))
    every = torch.stack([weights(toy(RandomCells()), EVERY_Y, order) for order in orders])
    p = (every.logsumexp(0) - math.log(len(orders))).exp()
    assert abs(p.sum() - 1) < 1e-9


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("block", [1, 3])
def test_densities_given_the_order_add_up_to_one(name: str, block: int) -> None:
    """Whatever is told apart, in blocks or at once, nothing of y is lost or charged twice."""
    model = toy(POLICIES[name], block=block)
    for order in itertools.permutations(range(L)):
        assert abs(weights(model, EVERY_Y, order).exp().sum() - 1) < 1e-9


@pytest.mark.parametrize("anew", [False, True])
def test_bounds_are_those_of_the_enumeration(anew: bool) -> None:
    """ELBO: mean over the orders of log p; IWAE below log p; both from the library's particles."""
    model, y = toy(RandomCells(), anew=anew), EVERY_Y[5:6]
    orders = list(itertools.permutations(range(L)))
    exact = torch.cat([weights(model, y, order) for order in orders])
    torch.manual_seed(0)
    found = gp.bounds.log_weights(model, gp.guides.Revealing(model), X, y, num_particles=3000)[:, 0]
    assert set(found.mul(1e6).round().tolist()) == set(exact.mul(1e6).round().tolist())
    assert abs(found.mean() - exact.mean()) < 5 * found.std() / 3000**0.5
    p = found.exp()
    assert abs(p.mean() - exact.exp().mean()) < 5 * p.std() / 3000**0.5


def test_one_step_estimates_the_whole_bound() -> None:
    """L / (open tokens) times what a segment scores, at a random step of a random order, has the bound as its mean."""
    model, y = toy(RandomCells(), anew=True), EVERY_Y[7:8]
    guide, orders = gp.guides.Revealing(model), list(itertools.permutations(range(L)))
    bound = torch.stack([weights(model, y, order)[0] for order in orders]).mean()
    estimates = []
    for order in orders:
        for step in range(L):
            z = model.begin(X, 1).map(torch.clone)
            assert z.candidates is not None
            for place in order[:step]:
                z.candidates[0, place] = torch.arange(V) == y[0, place]
            _, info = gp.SegmentELBO(steps=1)(model, guide)(X, y, latent=z)
            estimates.append(-L / (L - step) * info.nll.item())
    assert sum(estimates) / len(estimates) == pytest.approx(bound.item(), abs=1e-9)


def test_a_segment_scores_all_of_y() -> None:
    """What is decided costs no more than it did: decision and rest together are log p(y | h, C)."""
    model = toy(Both(RuleOut(0.3), RandomCells()))
    z, y = model.begin(X.expand(len(EVERY_Y), -1), len(EVERY_Y)), EVERY_Y
    _, info = gp.SegmentELBO(steps=1)(model, gp.guides.Revealing(model))(X.expand(len(y), -1), y, latent=z)
    latent, _ = toy(RandomCells(), block=3)(X, latent=model.begin(X, 1), steps=1)
    nll = -model.answer(latent.h).log_prob(y).mean()
    assert info.nll.item() == pytest.approx(nll.item(), abs=1e-9)
    assert info.kl == 0


def test_surest_first_has_one_order_and_model_and_guide_share_it() -> None:
    model, y = toy(SurestCells()), EVERY_Y[11:12]
    found = gp.bounds.log_weights(model, gp.guides.Revealing(model), X, y, num_particles=20)
    assert found.max() - found.min() < 1e-12
    guide = gp.guides.Revealing(model)
    guide.run(model, X, y)
    model_trace, guide_trace = guide.get_traces()
    for n in range(L):
        sites: list[Any] = [trace.nodes[f"decision_{n}"] for trace in (model_trace, guide_trace)]
        ours, theirs = (site["infer"]["labels"] for site in sites)
        assert torch.equal(ours, theirs)
        separate = [len(set(row) - {-1}) for row in ours[0].tolist()]
        assert sorted(separate) == [1, 1, V]


def test_a_truth_that_is_excluded_has_no_density_and_no_gradient() -> None:
    model = toy(Both(Drop(0.9), RandomCells()), keep=True)  # the head of an untrained model keeps about half
    found = weights(model, EVERY_Y, (0, 1, 2))
    assert found.isneginf().any()
    assert not found.isnan().any()
    z = model.begin(X, 1).map(torch.clone)
    assert z.candidates is not None
    z.candidates[0, 1, EVERY_Y[4, 1]] = False
    loss, info = gp.DecidingELBO(every_step=True, window=False, steps=3)(model, gp.guides.Revealing(model))(
        X, EVERY_Y[4:5], latent=z
    )
    loss.backward()
    assert loss.isfinite()
    assert info.nll == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_no_candidate_at_all_is_no_density() -> None:
    none = Among(torch.randn(2, 3, V), torch.zeros(2, 3, V, dtype=torch.bool))
    assert none.log_prob(torch.zeros(2, 3, dtype=torch.long)).isneginf().all()
    assert none.sample().shape == (2, 3)
    assert none.expand((4, 2, 3)).log_prob(torch.zeros(4, 2, 3, dtype=torch.long)).shape == (4, 2, 3)


@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(POLICIES)))
@settings(max_examples=60, deadline=None)
def test_parts_partition_the_candidates(seed: int, name: str) -> None:
    torch.manual_seed(seed)
    candidates = torch.rand(4, 5, 6) < 0.6
    candidates[..., 0] |= ~candidates.any(-1)
    log_prob = (3 * torch.randn(4, 5, 6)).masked_fill(~candidates, -torch.inf).log_softmax(-1).double()
    view = View(log_prob, candidates, torch.randn(4, 5), torch.rand(4, 5, 6))
    for policy in (POLICIES[name], Both(Drop(0.2), POLICIES[name])):
        numbers = parts(policy(view), candidates)
        assert ((numbers == -1) | candidates).all()
        mass = masses(log_prob, numbers).exp()
        kept = log_prob.exp().masked_fill(numbers == -1, 0).sum(-1)
        assert torch.allclose(mass.sum(-1), kept, atol=1e-9)
        for number in range(6):
            inside = (numbers == number) & candidates
            assert torch.allclose(mass[..., number], (log_prob.exp() * inside).sum(-1), atol=1e-9)


def test_both_lets_the_second_see_what_the_first_leaves() -> None:
    log_prob = torch.tensor([[[0.9995, 0.0004, 0.0001], [0.5, 0.3, 0.2], [1.0, 0.0, 0.0]]]).log()
    candidates = torch.tensor([[[True] * 3, [True] * 3, [True, False, False]]])
    order = torch.tensor([[0.0, 1.0, 2.0]])
    labels = parts(Both(AllSure(), RandomCells())(View(log_prob, candidates, order, None)), candidates)
    assert labels.tolist() == [[[0, 1, 1], [0, 1, 2], [0, -1, -1]]]
    keep = torch.tensor([[[0.9, 0.05, 0.9], [0.9, 0.05, 0.05], [0.01, 0.9, 0.9]]])
    labels = parts(Both(Drop(), RandomCells())(View(log_prob, candidates, order, keep)), candidates)
    assert labels.tolist() == [[[0, -1, 2], [0, -1, -1], [0, -1, -1]]]


def test_candidates_only_shrink_and_givens_stay() -> None:
    task = gp.tasks.Sudoku()
    model = Deciding(task.spec, block=2, supervision=8)
    x = task.inputs("test")[:20]
    trace: Any = poutine.trace(model).get_trace(x)
    before = model.candidates(x, len(x))
    assert torch.equal(before.sum(-1) == 1, x > 0)
    for n in (1, 3, 5, 7):
        now = trace.nodes[f"decision_{n}"]["infer"]["candidates"]
        assert (now <= before).all()
        before = now
    assert torch.where(x > 0, x, trace.nodes["y"]["value"]).equal(trace.nodes["y"]["value"])


@dataclass(frozen=True)
class FirstOpen:
    """A stranger's policy: the first open token, which the documentation shows."""

    def __call__(self, view: View) -> Tensor:
        first = view.open & (view.open.int().cumsum(-1) == 1)
        return view.apart(first)


def test_a_policy_of_a_stranger() -> None:
    model = toy(FirstOpen())
    found = weights(model, EVERY_Y, None)
    expected = torch.stack([by_hand(model, y, (0, 1, 2)) for y in EVERY_Y])
    assert torch.allclose(found, expected, atol=1e-9)


def test_with_gaussian_guidance_besides() -> None:
    model = toy(RandomCells(), noise=LearnedNoise())
    guide = gp.guides.AmortizedGuide(model).double()
    names = set(guide(X, EVERY_Y[:1]))
    assert {"eps_0_0", "decision_0", "order_2"} <= names
    _, info = gp.SegmentELBO(steps=1)(model, guide)(X, EVERY_Y[:1])
    torch.nn.init.normal_(guide.guidance.down.weight)
    _, other = gp.SegmentELBO(steps=1)(model, guide)(X, EVERY_Y[:1])
    assert info.kl < 1e-9 < other.kl
    bound = gp.bounds.elbo(model, guide, X, EVERY_Y[:1], num_particles=4)
    assert bound.isfinite().all()


@pytest.mark.parametrize("elbo", [Trace_ELBO, TraceMeanField_ELBO])
def test_stock_pyro_agrees_and_trains(elbo: Any) -> None:
    pyro.clear_param_store()
    model, y = toy(SurestCells()), EVERY_Y[3:4]  # one order, so that one particle is exact
    guide = gp.guides.Revealing(model)
    svi = SVI(model, guide, pyro.optim.PyroOptim(torch.optim.Adam, {"lr": 0.01}), elbo())
    exact = -gp.bounds.elbo(model, guide, X, y, num_particles=1).item()
    assert svi.evaluate_loss(X, y) == pytest.approx(exact, abs=1e-9)
    losses = [svi.step(X, y) for _ in range(30)]
    assert losses[-1] < losses[0]


def test_condition_and_replay() -> None:
    model = toy(RandomCells())
    trace: Any = poutine.trace(model).get_trace(X)
    again: Any = poutine.trace(poutine.replay(model, trace=trace)).get_trace(X)
    assert torch.equal(trace.nodes["y"]["value"], again.nodes["y"]["value"])
    fixed = torch.zeros(1, L, dtype=torch.long)
    held: Any = poutine.trace(poutine.condition(model, data={"decision_0": fixed})).get_trace(X)
    assert held.nodes["decision_0"]["is_observed"]


def test_the_window_of_the_gradient() -> None:
    """Over all steps it is the gradient of everything, over one that of the last; scores are the same."""
    model, y = toy(RandomCells(), block=3, transitions=2), EVERY_Y[3:4]
    guide = gp.guides.Revealing(model)

    def gradient(**options: Any) -> tuple[Tensor, float]:
        model.zero_grad()
        torch.manual_seed(0)
        loss, _ = gp.SegmentELBO(steps=3, **options)(model, guide)(X, y)
        loss.backward()
        weight = model.get_parameter("core.low.0.mlp.gate_up.weight")
        assert weight.grad is not None
        return weight.grad.clone(), loss.item()

    (everything, a), (three, b), (one, c), (usual, d) = (gradient(window=w) for w in (False, 3, 1, True))
    assert a == b == c == d
    assert torch.allclose(everything, three, atol=1e-12)
    assert not torch.allclose(three, one, atol=1e-6)
    assert not torch.allclose(one, usual, atol=1e-6)
    with pytest.raises(ValueError, match="window must be at least 1"):
        gp.SegmentELBO(window=0)


def test_every_step_is_scored() -> None:
    model, y = toy(RandomCells(), block=3), EVERY_Y[3:4]
    z, nll = model.begin(X, 1), []
    for step in range(3):
        latent, _ = toy(RandomCells(), block=3)(X, latent=model.begin(X, 1), steps=step + 1)
        nll.append(-model.answer(latent.h).log_prob(y).item())
    _, info = gp.SegmentELBO(steps=3, every_step=True)(model, gp.guides.Revealing(model))(X, y, latent=z)
    assert info.nll.item() == pytest.approx(sum(nll) / 3, abs=1e-9)
    _, last = gp.SegmentELBO(steps=3, every_step=True, window=1)(model, gp.guides.Revealing(model))(X, y, latent=z)
    assert last.nll.item() == pytest.approx(nll[-1], abs=1e-9)


def test_file_of_a_deciding_model(tmp_path: Path) -> None:
    task = gp.tasks.Sudoku()
    model = Deciding(task.spec, policy=Both(Drop(0.05), RandomCells(2)), keep=True, block=2, supervision=8)
    gp.save(tmp_path, model, gp.guides.Revealing(model), task)
    loaded, guide, _ = gp.load(tmp_path)
    assert loaded.config == model.config
    assert isinstance(guide, gp.guides.Revealing)
    x = task.inputs("test")[:4]
    ours, theirs = (gp.rollout(m, x, num_samples=2, seed=3).tokens for m in (model, loaded))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 3, "supervision": 8}, "multiple of block=3"),
        ({"block": 0, "supervision": 8}, "multiple of block=0"),
        ({"threshold": 1.5}, "threshold must be a probability, got 1.5"),
        ({"certain": -0.1}, "certain must be a probability, got -0.1"),
    ],
)
def test_numbers_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Deciding(Spec(L, V, L, V), **options)


def test_a_state_without_candidates() -> None:
    model = toy(RandomCells())
    with pytest.raises(ValueError, match=r"begin with model.begin\(x, batch\)"):
        model(X, latent=model.initial(1))


def test_drop_needs_its_head() -> None:
    with pytest.raises(ValueError, match="keep head"):
        toy(Drop())(X)
