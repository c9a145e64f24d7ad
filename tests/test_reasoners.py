"""The deterministic comparison systems: one contract for all, and each against its paper in plain loops."""

from __future__ import annotations

import inspect
import math
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from safetensors.torch import load_file
from torch import Tensor, nn

import gram_ppl as gp
from gram_ppl.guides import Empty
from gram_ppl.inference.halt import HaltHead
from gram_ppl.inference.select import BestOfN, HaltFirst
from gram_ppl.models import HRM, TRM, Direct, LoopedTransformer
from gram_ppl.nn import Attention
from gram_ppl.program.poutine import ExtraNoise
from gram_ppl.runtime.precision import fast
from gram_ppl.storage.folder import STATE_FILE
from gram_ppl.tasks import Spec
from gram_ppl.training.trainer import Trainer

ROWS, LENGTH, WIDTH = 4, 6, 8
SPEC = Spec(LENGTH, 4, LENGTH, 5)
X = torch.randint(4, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))
Y = torch.randint(5, (ROWS, LENGTH), generator=torch.Generator().manual_seed(2))
RECURSION: dict[str, Any] = {"low_steps": 3, "transitions": 2, "supervision": 4}

MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "direct": (Direct, {"layers": 3}),
    "looped": (LoopedTransformer, {"layers": 2, "loops": 3}),
    "hrm": (HRM, {"layers": 2, **RECURSION}),
    "trm": (TRM, {"layers": 2, **RECURSION}),
}
every = pytest.mark.parametrize("name", MODELS)
halting = pytest.mark.parametrize("name", ["hrm", "trm"])


def build(name: str, spec: Spec = SPEC, **options: Any) -> Any:
    kind, own = MODELS[name]
    return kind(spec, **({"width": WIDTH, "mixer": Attention(heads=2)} | own | options))


def asking(name: str, **options: Any) -> Any:
    """A halting model in double precision whose Q values differ from row to row."""
    model = build(name, **options).double()
    nn.init.normal_(model.q.weight)
    nn.init.zeros_(model.q.bias)
    return model


@pytest.fixture(scope="module")
def task() -> gp.tasks.Sudoku:
    return gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=20, num_test=20)


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


# The contract ---------------------------------------------------------------------------------------------------------


@every
def test_sites(name: str) -> None:
    model = build(name)
    trace = poutine.trace(model).get_trace(X, Y)
    sites = {n: s for n, s in trace.nodes.items() if s["type"] == "sample" and n != "batch"}
    assert list(sites) == ["y", *{"hrm": ["halt", "continue"], "trm": ["halt"]}.get(name, [])]
    for site in sites.values():
        assert site["is_observed"]
        assert site["fn"].batch_shape == (ROWS,)
        assert [frame.name for frame in site["cond_indep_stack"]] == ["batch"]
    free = poutine.trace(model).get_trace(X)
    assert "halt" not in free.nodes
    assert not free.nodes["y"]["is_observed"]
    assert model.initial(2).h.shape == (2, LENGTH + 1, WIDTH)
    assert model(None, Y[:1])[0].h.shape == (1, LENGTH + 1, WIDTH)


@every
def test_stock_svi_and_both_elbos(name: str) -> None:
    model = build(name)
    guide = Empty(model)
    ours = gp.SegmentELBO()(model, guide)(X, Y)[0].item() * ROWS * LENGTH
    for elbo in (Trace_ELBO(), TraceMeanField_ELBO(), gp.SegmentELBO()):
        assert elbo.loss(model, guide, X, Y, steps=1) == pytest.approx(
            ours / (ROWS * LENGTH if isinstance(elbo, gp.SegmentELBO) else 1), rel=1e-5
        )
    svi = SVI(model, guide, pyro.optim.ClippedAdam({"lr": 0.01}), Trace_ELBO())
    nll = gp.SegmentELBO()(model, guide)(X, Y)[1].nll
    for _ in range(30):
        assert math.isfinite(svi.step(X, Y, steps=1))
    assert gp.SegmentELBO()(model, guide)(X, Y)[1].nll < 0.9 * nll


@every
def test_training_learns_saves_and_loads(name: str, task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    model = build(name, task.spec, layers=1)
    settings: dict[str, Any] = {"batch_size": 16, "lr": 1e-2, "evaluations": 1, "progress": False}
    history = gp.fit(model, Empty(model), task, updates=60, out=tmp_path, **settings)
    assert history[-1].nll < 0.9 * history[0].nll
    loaded, guide, _ = gp.load(tmp_path)
    assert type(loaded) is type(model)
    assert type(guide) is Empty
    assert loaded.config == model.config
    x = task.inputs("test")[:4]
    one, two = (gp.rollout(m, x, num_samples=2, steps=3, seed=1) for m in (model, loaded))
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.log_prob, two.log_prob)


@every
def test_rollouts_differ_only_where_something_is_drawn(name: str) -> None:
    model = build(name)

    def different(**options: Any) -> bool:
        out = gp.rollout(model, X, num_samples=6, seed=3, **options)
        again = gp.rollout(model, X, num_samples=6, seed=3, chunk=5, **options)
        assert torch.equal(out.tokens, again.tokens)
        return bool((out.tokens != out.tokens[:, :1]).any())

    assert not different()
    assert different(restart=True)
    assert different(noise=ExtraNoise(0.5))
    assert different(sample=True)


@every
def test_unknown_arguments_and_fixed_ones_are_refused(name: str) -> None:
    for wrong in ("noise", "shared", "depth"):
        options: dict[str, Any] = {wrong: None}
        with pytest.raises(TypeError, match=wrong):
            build(name, **options)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="loops must be at least 1"):
        build("looped", loops=0)
    with pytest.raises(ValueError, match="low_steps must be at least 1"):
        build("hrm", low_steps=0)


@every
def test_the_global_generator_is_left_alone(name: str) -> None:
    state = torch.get_rng_state()
    one, two = (build(name, seed=4).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[key], two[key]) for key in one)


# Each against its paper -----------------------------------------------------------------------------------------------


@every
def test_parameter_counts(name: str) -> None:
    """A block has 4 D² in attention and 3 D · 2 D in the SwiGLU; a Q value has D + 1."""
    model = build(name)
    block = 4 * WIDTH**2 + 6 * WIDTH**2
    around = 4 * WIDTH + WIDTH + WIDTH + LENGTH * WIDTH + 5 * WIDTH  # tokens, empty, register, positions, decoder
    own = {"direct": 3 * block, "looped": 2 * block, "hrm": 4 * block + 2 * (WIDTH + 1), "trm": 2 * block + WIDTH + 1}
    assert sum(p.numel() for p in model.parameters()) == around + own[name]
    assert model.step_calls == {"direct": 1, "looped": 3, "hrm": 8, "trm": 8}[name]


def states(name: str, model: Any, h: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    """One supervision step in plain torch, with the gradient that the paper leaves."""
    e = model.encoder(X, ROWS)
    if name == "direct":
        for block in model.core.low:
            e = block(e)
        return e, low
    if name == "looped":
        for _ in range(3):
            for block in model.core.low:
                h = block(h + e) if block is model.core.low[0] else block(h)
        return h, low
    h, low = h.detach(), low.detach()
    f_h = model.core.low if name == "trm" else model.core.high
    for t in range(2):
        for k in range(3):
            with torch.set_grad_enabled(t == 1 and (name == "trm" or k == 2)):
                low = model.core.low(low + h + e)
        with torch.set_grad_enabled(t == 1):
            h = f_h(h + low)
    return h, low


@pytest.mark.parametrize("last", [False, True])
@every
def test_segment_is_the_paper_in_plain_torch(name: str, last: bool) -> None:
    """Value and gradient: mean cross-entropy of a token and half the binary cross-entropy of each Q value."""
    model = (asking if name in ("hrm", "trm") else build)(name).double()
    with torch.no_grad():
        y = model(X[:2], steps=1)[0]  # two rows are right
        y = torch.cat([model.answer(y.h).base_dist.logits.argmax(-1), Y[2:]])
    age = torch.tensor([3, 0, 3, 0]) if last else torch.zeros(ROWS, dtype=torch.int64)
    loss, info = gp.SegmentELBO()(model, Empty(model))(X, y, steps=1, age=age)
    loss.backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    h, low = states(name, model, *model.initial(ROWS).parts)
    logits = model.decoder(h[:, 1:])
    nll = F.cross_entropy(logits.transpose(1, 2), y)
    expected = nll
    if name in ("hrm", "trm"):
        q = h[:, 0] @ model.q.weight.T + model.q.bias
        expected = expected + 0.5 * F.binary_cross_entropy_with_logits(q[:, 0], torch.tensor([1.0, 1, 0, 0]).double())
    if name == "hrm":
        ahead = states(name, model, h, low)[0].detach()
        q_halt, q_continue = (ahead[:, 0] @ model.q.weight.T + model.q.bias).detach().T
        best = torch.stack([max(pair) for pair in zip(q_halt, q_continue, strict=True)])
        best[age == 3] = q_halt[age == 3]
        expected = expected + 0.5 * F.binary_cross_entropy_with_logits(q[:, 1], best.sigmoid())
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(info.nll, LENGTH * nll.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(info.latent.h, h.detach())
    for (key, p), gradient in zip(model.named_parameters(), found, strict=True):
        wanted = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(gradient, wanted, rtol=1e-8, atol=1e-8, msg=partial("{}: {}".format, key))
    assert found[[key for key, _ in model.named_parameters()].index("core.low.0.mlp.down.weight")].abs().max() > 0


def test_direct_repeats_and_looped_goes_on() -> None:
    direct, looped = build("direct"), build("looped")
    z, _ = direct(X, steps=1)
    assert torch.equal(direct(X, steps=5)[0].h, z.h)
    assert torch.equal(direct(X, latent=z, steps=2, start=1)[0].h, z.h)
    longer = LoopedTransformer(SPEC, width=WIDTH, mixer=Attention(heads=2), layers=2, loops=6)
    torch.testing.assert_close(looped(X, steps=2)[0].h, longer(X)[0].h)
    half, _ = looped(X, steps=1)
    torch.testing.assert_close(looped(X, latent=half, steps=1, start=1)[0].h, longer(X)[0].h)


# Halting --------------------------------------------------------------------------------------------------------------


@halting
def test_q_starts_low_and_halts_by_its_rule(name: str) -> None:
    model = build(name, exploration=0.0)
    h = torch.randn(50, LENGTH + 1, WIDTH)
    assert torch.equal(model.q_values(h), torch.full((50, 2 if name == "hrm" else 1), -5.0))
    model = asking(name, exploration=0.0)
    h = h.double()
    q = model.q_values(h)
    rule = q[:, 0] > (q[:, 1] if name == "hrm" else 0)
    assert torch.equal(model.halts(h, torch.ones(50, dtype=torch.int64)), rule)
    assert rule.any()
    assert not rule.all()


def test_exploration_asks_some_rows_for_more_steps() -> None:
    """A row that would halt at age a goes on with probability p · P(uniform on 2..N > a)."""
    model = build("trm", exploration=0.6)
    nn.init.constant_(model.q.bias, 1.0)
    count = 4000
    h = torch.randn(count, LENGTH + 1, WIDTH)
    for age, share in ((1, 1.0), (2, 2 / 3), (3, 1 / 3), (4, 0.0)):
        on = (~model.halts(h, torch.full((count,), age))).double().mean().item()
        assert on == pytest.approx(0.6 * share, abs=5 * 0.5 / count**0.5 if share else 0)


@halting
def test_q_fills_the_rollouts_and_selectors_use_it(name: str, task: gp.tasks.Sudoku) -> None:
    model = build(name, task.spec)
    nn.init.normal_(model.q.weight)
    nn.init.zeros_(model.q.bias)
    x = task.inputs("test")[:5]
    out = gp.rollout(model, x, num_samples=4, restart=True, seed=2, steps=1)
    *_, step = gp.trajectories(model, x, num_samples=4, restart=True, seed=2, steps=1)
    with fast(x.device):  # rollouts have its precision
        q = model.q_values(step.latent.h).detach().view(5, 4, -1)
    torch.testing.assert_close(out.value, q[..., 0].sigmoid(), rtol=1e-4, atol=1e-4)
    logit = q[..., 0] - q[..., 1] if name == "hrm" else q[..., 0]
    torch.testing.assert_close(out.halt, logit, rtol=1e-4, atol=1e-4)
    assert out.value is not None
    assert out.halt is not None
    assert torch.equal(BestOfN()(task, x, out)[0], out.value.argmax(-1))
    assert torch.equal(HaltFirst()(task, x, out)[0], out.halt.argmax(-1))
    halted = gp.solve(model, task, x, num_samples=4, restart=True, seed=2, steps=3, halt=HaltHead(), select=HaltFirst())
    assert (halted.rollouts.steps == 1).any()
    gp.fit_heads(model, task, updates=2, puzzles=4, validate_on=4)
    assert model.heads is not None
    fitted = gp.rollout(model, x, num_samples=4, restart=True, seed=2, steps=1)
    assert fitted.value is not None
    assert not torch.equal(fitted.value, out.value)
    assert torch.equal(fitted.tokens, out.tokens)


class Known(TRM):
    """Halts by a rule that a test can follow: rows whose first clue is even, and no row before its second step."""

    def halts(self, h: Tensor, age: Tensor) -> Tensor:
        self.asked = age
        return (self.x[:, 0] % 2 == 0) & (age >= 2)

    def forward(self, x: Any = None, y: Any = None, **options: Any) -> Any:
        self.x = x
        return super().forward(x, y, **options)


def trainer(task: gp.tasks.Sudoku, model: Any, **settings: Any) -> Trainer:
    defaults = {n: p.default for n, p in inspect.signature(gp.fit).parameters.items()}
    settings = defaults | {"updates": 30, "batch_size": 8, "evaluations": 0} | settings
    return Trainer(model, Empty(model), task, gp.SegmentELBO(), settings, "cpu")


def test_rows_that_halted_or_are_old_are_replaced_in_order(task: gp.tasks.Sudoku) -> None:
    model = Known(task.spec, width=WIDTH, mixer=Attention(heads=2), supervision=4, transitions=1)
    run = trainer(task, model, seed=3)
    batches = task.batches("train", 2, torch.Generator().manual_seed(3))
    puzzles = [(x, y) for batch in islice(batches, 60) for x, y in zip(*batch, strict=True)]
    rows, ages, used = puzzles[:8], [0] * 8, 8
    replaced = set()
    for _ in range(12):
        run.step()
        carry = run.rows.carry
        assert carry is not None
        assert torch.equal(carry.x, torch.stack([x for x, _ in rows]))
        assert torch.equal(carry.y, torch.stack([y for _, y in rows]))
        ages = [age + 1 for age in ages]
        assert carry.age.tolist() == model.asked.tolist() == ages
        done = [age >= 4 or (age >= 2 and int(x[0]) % 2 == 0) for age, (x, _) in zip(ages, rows, strict=True)]
        assert carry.done is not None
        assert carry.done.tolist() == done
        starts = run.segment.model.initial(8).h
        before, ended = carry.latent.h.clone(), carry.done.clone()
        following = run.rows.next(run.update)  # what the next update will see
        assert torch.equal(following.latent.h[ended], starts[ended])
        assert torch.equal(following.latent.h[~ended], before[~ended])
        run.rows.carry = following._replace(done=torch.zeros(8, dtype=torch.bool))
        for row in range(8):
            if done[row]:
                rows[row], ages[row] = puzzles[used], 0
                used += 1
        replaced.add(sum(done))
    assert {0} < replaced
    assert used > 20


@halting
def test_resume_with_refilled_rows_is_exact(name: str, task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    def fresh(seed: int = 0) -> Any:
        model = build(name, task.spec, layers=1, exploration=0.5, seed=seed)
        nn.init.normal_(model.q.weight, generator=torch.Generator().manual_seed(1))
        nn.init.zeros_(model.q.bias)
        model.config["seed"] = 0
        return model

    settings: dict[str, Any] = {"updates": 16, "batch_size": 12, "evaluations": 2, "checkpoint_every": 3}
    settings["progress"] = False
    whole = fresh()
    history = gp.fit(whole, Empty(whole), task, out=tmp_path / "whole", **settings)

    def interrupt(run: Trainer) -> None:
        if run.update == 10:
            raise InterruptedError

    cut = fresh()
    with pytest.raises(InterruptedError):
        gp.fit(cut, Empty(cut), task, out=tmp_path / "cut", before_update=interrupt, **settings)
    torch.manual_seed(99)  # whatever happened in between
    again = fresh(seed=5)
    resumed = gp.fit(again, Empty(again), task, out=tmp_path / "cut", resume=True, **settings)
    assert [r._replace(seconds=0) for r in history] == [r._replace(seconds=0) for r in resumed]
    assert all(map(torch.equal, weights(whole), weights(again)))
    one, two = (load_file(tmp_path / folder / STATE_FILE) for folder in ("whole", "cut"))
    assert one.keys() == two.keys()
    assert {"carry.age", "carry.done", "spare.x", "spare.y"} <= one.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert len(one["carry.age"].unique()) > 1


# Sampled decoding -----------------------------------------------------------------------------------------------------


def test_sampled_tokens_have_the_decoders_probabilities() -> None:
    model = build("trm")
    count = 4000
    out = gp.rollout(model, X[:1], num_samples=count, steps=2, sample=True, seed=5)
    with fast(X.device):  # rollouts have its precision
        logits = model.answer(model(X[:1], steps=2)[0].h).base_dist.logits[0].detach()  # [L_out, V], normalised
    share = F.one_hot(out.tokens[0], 5).double().mean(dim=0)
    assert (share - logits.exp()).abs().max() < 5 * 0.5 / count**0.5
    expected = logits.expand(count, -1, -1).gather(-1, out.tokens[0, ..., None])[..., 0].sum(-1)
    torch.testing.assert_close(out.log_prob[0], expected, rtol=1e-3, atol=1e-3)


def test_sampling_neither_knows_chunks_nor_halting() -> None:
    model = build("trm")
    nn.init.normal_(model.q.weight)
    nn.init.zeros_(model.q.bias)
    options: dict[str, Any] = {"num_samples": 5, "steps": 4, "noise": ExtraNoise(0.5), "sample": True, "seed": 7}
    steps = list(gp.trajectories(model, X, **options))
    whole = gp.rollout(model, X, **options)
    assert torch.equal(whole.tokens, steps[-1].tokens)
    halted = gp.rollout(model, X, halt=HaltHead(), chunk=3, **options)
    assert 1 <= halted.steps.min() < halted.steps.max() <= 4
    for number, step in enumerate(steps, 1):
        ended = halted.steps == number
        assert torch.equal(halted.tokens[ended], step.tokens[ended])
