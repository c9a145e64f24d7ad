"""Rollouts against the program run by hand: streams of noise, chunks, halting, handlers, solving, tuning."""

from __future__ import annotations

import math
from contextlib import ExitStack
from functools import partial
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor, nn

import gram_ppl as gp
from gram_ppl.evaluation import metrics
from gram_ppl.heads import Heads
from gram_ppl.inference.halt import Confident, HaltHead, Never, Stable
from gram_ppl.inference.rollout import rollout, trajectories
from gram_ppl.inference.select import First
from gram_ppl.inference.solve import MODES, solve
from gram_ppl.models import GRAM, LearnedNoise, NodeTokens, NoNoise, NoVariance
from gram_ppl.program.poutine import Anneal, ExtraNoise, Streams, Temperature
from gram_ppl.runtime.precision import fast
from gram_ppl.tasks import Spec

CPU = torch.device("cpu")
X = torch.randint(4, (5, 6), generator=torch.Generator().manual_seed(1))
EDGES = torch.randint(2, (5, 6), generator=torch.Generator().manual_seed(1)) + 1


def build(*, heads: bool = False, **options: Any) -> GRAM:
    """A small model whose answers go on changing for many steps."""
    usual: dict[str, Any] = {"width": 8, "transitions": 2, "supervision": 3, "noise": LearnedNoise(scale=1.0)}
    options = usual | options
    model = GRAM(options.pop("spec", Spec(6, 4, 6, 5)), **options)
    if hasattr(model, "guidance"):
        nn.init.normal_(model.guidance.down.weight, std=0.2)
    if heads:
        model.heads = Heads(8)
        nn.init.normal_(model.get_parameter("heads.mlp.2.weight"), std=2.0)
    return model


def nodes() -> GRAM:
    """Relations of each example: graphs of 4 nodes, whose 6 edges are the input."""
    return build(spec=Spec(6, 3, 4, 5), encoder=NodeTokens())


def equal(one: gp.Rollouts, two: gp.Rollouts, rows: Any = ...) -> None:
    """Discrete fields equal, others but for rounding, which depends on the rows of a batch."""
    assert torch.equal(one.tokens[rows], two.tokens[rows])
    assert torch.equal(one.steps[rows], two.steps[rows])
    for name in ("log_prob", "residual", "halt", "value"):
        a, b = getattr(one, name), getattr(two, name)
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a[rows], b[rows], rtol=1e-4, atol=1e-4)


# The loop -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("num", [1, 3])
def test_shapes(heads: bool, num: int) -> None:
    model = build(heads=heads)
    out = rollout(model, X, num_samples=num, steps=4)
    assert out.tokens.shape == (5, num, 6)
    assert (out.steps == 4).all()
    assert (out.residual > 0).all()
    assert (out.halt is not None) == (out.value is not None) == heads
    steps = list(trajectories(model, X, num_samples=num, steps=4))
    assert [step.number for step in steps] == [1, 2, 3, 4]
    for step in steps:
        assert step.latent.h.shape == step.latent.l.shape == (5 * num, 7, 8)
        assert step.tokens.shape == (5, num, 6)
        assert step.running.all()
        for field in (step.log_prob, step.residual, *([step.halt, step.value] if heads else [])):
            assert field is not None
            assert field.shape == (5, num)
            assert not field.requires_grad
        assert heads or step.halt is step.value is None
    if heads:
        assert out.value is not None
        assert ((out.value > 0) & (out.value < 1)).all()


@pytest.mark.parametrize(("make", "seed"), [(build, 0), (nodes, 7)])
def test_each_row_follows_its_own_noise(make: Any, seed: int) -> None:
    """A loop by hand over one row at a time, with the row's generator and eq. 6 to 9, gives the same states."""
    model, x = make().double(), EDGES
    steps = list(trajectories(model, x, num_samples=2, steps=3, seed=seed))
    start = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed)))
    with torch.no_grad():
        for row in range(10):
            generator = torch.Generator().manual_seed(start + row)
            one = x[row // 2][None]
            e, related = model.encoder(one, 1), model.encoder.related(one)
            z = model.initial(1)
            for step in steps:
                before = z.h
                for _ in range(2):
                    u, low = model.core(z, e, related)
                    p = model.prior(u).base_dist
                    noise = torch.empty(u.shape[1:], dtype=u.dtype).normal_(generator=generator)
                    z = gp.Latent(u + p.loc + p.scale * noise, low)
                for own, expected in zip(step.latent.parts, z.parts, strict=True):
                    torch.testing.assert_close(own[row], expected[0])
                log_prob, tokens = model.answer(z.h).base_dist.logits[0].max(dim=-1)
                assert torch.equal(step.tokens[row // 2, row % 2], tokens)
                torch.testing.assert_close(step.log_prob[row // 2, row % 2], log_prob.sum())
                rms = ((z.h - before) ** 2).mean() ** 0.5
                torch.testing.assert_close(step.residual[row // 2, row % 2], rms)
    assert len(steps[-1].tokens.flatten(0, 1).unique(dim=0)) > 5


@pytest.mark.parametrize("halt", [Never(), Stable(1), HaltHead(0.6, at_least=2)])
@pytest.mark.parametrize("chunk", [4, 7])
def test_chunked_is_unchunked(chunk: int, halt: Any) -> None:
    model = build(heads=True, noise=LearnedNoise(scale=0.3)).double()
    whole = rollout(model, X, num_samples=6, steps=5, halt=halt, seed=3)
    equal(rollout(model, X, num_samples=6, steps=5, halt=halt, seed=3, chunk=chunk), whole)
    *_, last = trajectories(model, X, num_samples=6, steps=5, halt=halt, seed=3)
    assert torch.equal(last.tokens, whole.tokens)
    assert (len(whole.steps.unique()) > 1) == (halt != Never())


def test_chunks_in_single_precision() -> None:
    model = build()
    equal(rollout(model, X, num_samples=6, seed=3, chunk=4), rollout(model, X, num_samples=6, seed=3))


@pytest.mark.parametrize(
    ("noise", "restart"),
    [(None, False), (None, True), (ExtraNoise(0.3), False), (Temperature(Anneal(1.5, 0.0, 9)), True)],
)
@pytest.mark.parametrize("halt", [Stable(1), Stable(2), HaltHead(0.6), HaltHead(0.5, at_least=3)])
def test_halting_early_is_the_full_run_at_that_step(halt: Any, noise: Any, restart: bool) -> None:
    scale = 0.15 if isinstance(halt, Stable) else 1.0
    model = build(heads=True, noise=LearnedNoise(scale=scale)).double()
    options: Any = {"num_samples": 8, "steps": 9, "noise": noise, "restart": restart, "seed": 5}
    full = list(trajectories(model, X, **options))
    out = rollout(model, X, **options, halt=halt)
    assert len(out.steps.unique()) > 2
    for b in range(5):
        for n in range(8):
            step = full[out.steps[b, n] - 1]
            assert torch.equal(out.tokens[b, n], step.tokens[b, n])
            for name in ("log_prob", "residual", "halt", "value"):
                torch.testing.assert_close(getattr(out, name)[b, n], getattr(step, name)[b, n])
    # and each halted where the rule says so, read off the full run
    for b in range(5):
        for n in range(8):
            answers = [step.tokens[b, n].tolist() for step in full]
            logits = [step.halt for step in full if step.halt is not None]
            assert len(logits) == len(full)
            sure = [logit[b, n].sigmoid().item() for logit in logits]
            expected = 9
            for number in range(9, 0, -1):
                if isinstance(halt, Stable):
                    due = (
                        number > halt.steps and len({tuple(a) for a in answers[number - 1 - halt.steps : number]}) == 1
                    )
                else:
                    due = number >= halt.at_least and sure[number - 1] > halt.threshold
                expected = number if due else expected
            assert out.steps[b, n] == expected


@pytest.mark.parametrize("at_least", [1, 3])
def test_confident_halts_where_the_decoder_is_sure(at_least: int) -> None:
    model = build().double()
    options: Any = {"num_samples": 8, "steps": 6, "seed": 5}
    full = torch.stack([step.log_prob for step in trajectories(model, X, **options)])
    threshold = full[2].exp().quantile(0.8).item()
    out = rollout(model, X, **options, halt=Confident(threshold, at_least))
    sure = full.exp() > threshold
    sure[: at_least - 1] = False
    first = torch.where(sure.any(dim=0), sure.int().argmax(dim=0) + 1, 6)
    assert torch.equal(out.steps, first)
    assert len(first.unique()) > 2


def test_retry_begins_again_with_new_noise() -> None:
    model = build(heads=True).double()
    options: Any = {"num_samples": 4, "steps": 6, "seed": 2}
    fixed = list(trajectories(model, X, **options, retry=2, noise=Temperature(0.0)))
    for early, late in zip(fixed[:2], fixed[2:4], strict=True):
        torch.testing.assert_close(early.latent.h, late.latent.h)  # without noise every try is the same
    plain, tries = list(trajectories(model, X, **options)), list(trajectories(model, X, **options, retry=2))
    torch.testing.assert_close(plain[1].latent.h, tries[1].latent.h)
    assert not torch.allclose(plain[2].latent.h, tries[2].latent.h)
    assert not torch.allclose(tries[0].latent.h, tries[2].latent.h)
    halt = HaltHead(0.6)
    out = rollout(model, X, **options, retry=2, halt=halt)
    equal(rollout(model, X, **options, retry=2, halt=halt, chunk=3), out)
    for b, n in torch.cartesian_prod(torch.arange(5), torch.arange(4)).tolist():
        assert torch.equal(out.tokens[b, n], tries[out.steps[b, n] - 1].tokens[b, n])
    assert len(out.steps.unique()) > 2


def test_halted_trajectories_leave_the_batch() -> None:
    model = build(heads=True)
    rows: list[int] = []
    model.core.register_forward_hook(lambda module, args, out: rows.append(len(out[0])))
    running = [step.running for step in trajectories(model, X, num_samples=8, steps=9, halt=Stable(1), seed=5)]
    assert rows[::2] == rows[1::2] == [40, *(int(r.sum()) for r in running[:-1])]
    assert rows[-1] < rows[0]
    rows.clear()
    out = rollout(model, X, num_samples=8, steps=9, halt=Stable(1), seed=5)
    assert sum(rows) == 2 * out.steps.sum()


def test_all_halted_ends_the_loop() -> None:
    model = build(heads=True)
    nn.init.constant_(model.get_parameter("heads.mlp.2.bias"), 1e3)
    nn.init.zeros_(model.get_parameter("heads.mlp.2.weight"))
    steps = list(trajectories(model, X, num_samples=2, steps=9, halt=HaltHead(at_least=3)))
    assert [bool(step.running.any()) for step in steps] == [True, True, False]
    assert (rollout(model, X, steps=9, halt=HaltHead(at_least=3)).steps == 3).all()
    assert (rollout(model, X, steps=2, halt=HaltHead(at_least=3)).steps == 2).all()


def test_steps_already_yielded_stay_as_they_were() -> None:
    model = build()
    kept, copies = [], []
    for step in trajectories(model, X, num_samples=8, steps=9, halt=Stable(1), seed=5):
        kept.append(step)
        copies.append([field.clone() for field in (*step.latent.parts, step.tokens, step.running)])
    for step, copy in zip(kept, copies, strict=True):
        assert all(
            torch.equal(a, b) for a, b in zip((*step.latent.parts, step.tokens, step.running), copy, strict=True)
        )


def test_seeds() -> None:
    model = build()
    out = {seed: rollout(model, X, num_samples=20, seed=seed) for seed in (0, 1)}
    equal(out[0], rollout(model, X, num_samples=20, seed=0))
    shared = (out[0].log_prob.flatten()[:, None] - out[1].log_prob.flatten()).abs() < 1e-6
    assert not shared.any()  # neighbouring seeds share no stream
    state = torch.get_rng_state()
    rollout(model, X, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    first, second = rollout(model, X), rollout(model, X)
    torch.manual_seed(4)
    equal(first, rollout(model, X))
    assert not torch.equal(first.log_prob, second.log_prob)


def test_streams_are_standard_normal_and_independent() -> None:
    """200 neighbouring streams of 500 numbers, by five standard errors."""
    noise = Streams(123, 0, 200, CPU).normal(torch.empty(200, 500))
    assert abs(noise.mean()) < 5 / math.sqrt(noise.numel())
    assert abs(noise.var() - 1) < 5 * math.sqrt(2 / noise.numel())
    correlation = noise @ noise.T / 500
    assert correlation.fill_diagonal_(0).abs().max() < 6 / math.sqrt(500)
    assert abs(correlation.diagonal(1).mean()) < 5 / math.sqrt(500 * 199)


def test_a_thousand_samples_in_bounded_memory() -> None:
    model = build(width=16)
    largest = 0

    def note(module: Any, args: Any, out: Any) -> None:
        nonlocal largest
        largest = max(largest, len(out[0]))

    model.core.register_forward_hook(note)
    out = rollout(model, X[:2], num_samples=1000, steps=2)
    assert out.tokens.shape == (2, 1000, 6)
    assert largest <= 2048 // 6
    assert len(out.log_prob[0].unique()) > 990


def test_an_error_leaves_no_handler_behind() -> None:
    model = build()
    with pytest.raises(ValueError, match=r"needs a model with heads: fit them with gp\.fit_heads"):
        rollout(model, X, halt=HaltHead())
    with pytest.raises(ValueError, match="Temperature must not be negative, got -1"):
        rollout(model, X, noise=Temperature(lambda step: -step))
    assert not _PYRO_STACK
    iterator = trajectories(model, X)
    next(iterator)
    assert not _PYRO_STACK
    iterator.close()


# Noise handlers -------------------------------------------------------------------------------------------------------


def sites(model: Any, *handlers: Any, **options: Any) -> dict[str, Any]:
    """Latent sites of the program run under handlers in plain Pyro."""
    with ExitStack() as stack:
        for handler in handlers:
            stack.enter_context(handler)
        trace: Any = poutine.trace(model).get_trace(X, **options)
    assert trace.log_prob_sum().isfinite()
    return {name: node for name, node in trace.nodes.items() if name.startswith(("eps", "extra"))}


@pytest.mark.parametrize("value", [0.5, 1.0, 1.5, lambda step: 1 + step])
def test_temperature_scales_the_prior(value: Any) -> None:
    model = build()
    found = sites(model, Temperature(value), steps=2, start=1)
    assert list(found) == ["eps_1_0", "eps_1_1", "eps_2_0", "eps_2_1"]
    for name, node in found.items():
        factor = value(int(name[4])) if callable(value) else value
        plain = model.prior(node["infer"]["proposal"]).base_dist
        torch.testing.assert_close(node["fn"].base_dist.loc, plain.loc)
        torch.testing.assert_close(node["fn"].base_dist.scale, factor * plain.scale)
        assert node["fn"].batch_shape == (5,)
        assert node["fn"].event_shape == (7, 8)


def mean_path(model: GRAM, steps: int) -> gp.Latent:
    e, z = model.encoder(X, 5), model.initial(5)
    for _ in range(2 * steps):
        u, low = model.core(z, e)
        z = gp.Latent(u + model.prior(u).base_dist.loc, low)
    return z


def test_temperature_zero_is_the_mean_path() -> None:
    model = build().double()
    z = mean_path(model, 3)
    with Temperature(0.0):
        torch.testing.assert_close(model(X)[0], z)
    out = rollout(model, X, num_samples=2, noise=Temperature(0))
    log_prob, tokens = model.answer(z.h).base_dist.logits.max(dim=-1)
    assert torch.equal(out.tokens, tokens[:, None].expand(-1, 2, -1))
    torch.testing.assert_close(out.log_prob, log_prob.sum(-1, keepdim=True).expand(-1, 2))


def test_temperature_around_a_rollout_is_temperature_in_it() -> None:
    model = build()
    inside = rollout(model, X, noise=Temperature(0.5), seed=1)
    with Temperature(0.5):
        equal(rollout(model, X, seed=1), inside)
    assert not torch.allclose(inside.log_prob, rollout(model, X, seed=1).log_prob)


def test_temperature_of_other_families() -> None:
    without = build(noise=NoVariance()).double()
    with Temperature(3.0):
        torch.testing.assert_close(without(X)[0], mean_path(without, 3))
    deterministic = build(noise=NoNoise())
    equal(rollout(deterministic, X, noise=Temperature(2.0)), rollout(deterministic, X))

    class Laplace(GRAM):
        def prior(self, u: Tensor) -> Any:
            return dist.Laplace(u, 1.0).to_event(2)

    with pytest.raises(
        ValueError, match=r"Temperature\(0.5\) needs Gaussian or categorical noise, and 'eps_0_0' is Laplace"
    ):
        rollout(Laplace(Spec(6, 4, 6, 5), width=8), X, noise=Temperature(0.5))
    assert rollout(Laplace(Spec(6, 4, 6, 5), width=8), X).tokens.shape == (5, 20, 6)


def test_anneal() -> None:
    schedule = Anneal(1.5, 0.0, 4)
    assert [schedule(step) for step in range(6)] == pytest.approx([1.5, 1.0, 0.5, 0.0, 0.0, 0.0])
    assert Anneal(2.0, 1.0, 1)(0) == 2.0
    seen = []

    def note(step: int) -> float:
        seen.append(step)
        return 1.0

    list(trajectories(build(), X, steps=3, noise=Temperature(note)))
    assert seen == [0, 0, 1, 1, 2, 2]
    seen.clear()
    rollout(build(), X, steps=3, noise=Temperature(note))
    assert seen == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("noise", [LearnedNoise(), NoNoise()])
def test_extra_noise(noise: Any) -> None:
    """The state after a transition is that of the core plus both noises; a deterministic model gets some too."""
    model = build(noise=noise)
    found = sites(model, ExtraNoise(0.3), steps=2)
    extra = [name for name in found if name.startswith("extra")]
    assert extra == [f"extra_eps_{n}_{t}" for n in range(2) for t in range(2)]
    e, z = model.encoder(X, 5), model.initial(5)
    for name in extra:
        node = found[name]
        assert (node["fn"].base_dist.loc == 0).all()
        assert (node["fn"].base_dist.scale == 0.3).all()
        assert node["fn"].batch_shape == (5,)
        u, low = model.core(z, e)
        own = found.get(name.removeprefix("extra_"))
        z = gp.Latent(u + (0 if own is None else own["value"]) + node["value"], low)
    with poutine.condition(data={name: node["value"] for name, node in found.items()}), ExtraNoise(0.3):
        torch.testing.assert_close(model(X, steps=2)[0], z)
    assert torch.cat([found[name]["value"].flatten() for name in extra]).std().item() == pytest.approx(0.3, rel=0.1)
    out = rollout(model, X, num_samples=4, noise=ExtraNoise(0.3), seed=0)
    equal(rollout(model, X, num_samples=4, noise=ExtraNoise(0.3), seed=0, chunk=3), out)
    assert len(out.log_prob.flatten().unique()) == 20
    equal(rollout(model, X, noise=ExtraNoise(0.0), seed=0), rollout(model, X, seed=0))


def test_restart_draws_z_0() -> None:
    model = build(noise=NoNoise())
    assert len(rollout(model, X[:1], num_samples=9).log_prob.unique()) == 1
    out = rollout(model, X[:1], num_samples=9, restart=True, seed=0)
    assert len(out.log_prob.unique()) == 9
    start = Streams(int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(0))), 0, 9, CPU)
    latent = gp.Latent(start.normal(torch.empty(9, 7, 8)), start.normal(torch.empty(9, 7, 8)))
    with fast(CPU):  # rollouts have its precision
        z, _ = model(X[:1].expand(9, -1), latent=latent)
        logits = model.answer(z.h).base_dist.logits
    torch.testing.assert_close(logits.max(-1).values.sum(-1), out.log_prob[0])


@pytest.mark.parametrize("make", [Temperature, ExtraNoise])
def test_negative_noise(make: Any) -> None:
    with pytest.raises(ValueError, match=r"must not be negative, got -0.5"):
        make(-0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HaltHead(threshold=1.5), "threshold must be a probability, got 1.5"),
        (lambda: HaltHead(at_least=0), "at_least must be at least 1, got 0"),
        (lambda: Confident(-0.1), "threshold must be a probability, got -0.1"),
        (lambda: Confident(at_least=0), "at_least must be at least 1, got 0"),
        (lambda: Stable(0), "steps must be at least 1, got 0"),
    ],
)
def test_bad_halts(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("call", [rollout, lambda *a, **k: next(trajectories(*a, **k))])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"retry": 0}, "retry must be at least 1, got 0"),
        ({"steps": 1.5}, "steps must be a whole number, got 1.5"),
        ({"num_samples": True}, "num_samples must be a whole number, got True"),
        ({"noise": 0.5}, "noise: expected a handler such as .*, found 0.5"),
        ({"halt": 0.5}, "halt: expected a rule such as .*, found 0.5"),
        ({"halt": gp.halt.Confident}, "halt: expected a rule such as "),
        ({"x": X[0]}, r"x: expected integer tokens of shape \[B, 6\], found torch.int64 of \[6\]"),
    ],
)
def test_bad_arguments(call: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(build(), **{"x": X, **options})


# The program's start --------------------------------------------------------------------------------------------------


def test_start_names_sites() -> None:
    model = build()
    found = sites(model, steps=2, start=3)
    assert list(found) == ["eps_3_0", "eps_3_1", "eps_4_0", "eps_4_1"]
    assert [node["infer"]["step"] for node in found.values()] == [3, 3, 4, 4]
    assert [node["infer"]["charged"] for node in found.values()] == [False, True] * 2


# Solving, metrics, tuning ---------------------------------------------------------------------------------------------


def sudoku() -> tuple[Any, GRAM]:
    task = gp.tasks.Sudoku(box=(2, 2), clues=(8, 12), num_validation=6, num_test=8, pool=50)
    return task, GRAM(task.spec, width=8, transitions=1, supervision=2, noise=LearnedNoise(scale=0.05))


class Recording:
    """A selector that takes the first trajectory, and remembers the rollouts."""

    def __call__(self, task: Any, x: Tensor, rollouts: gp.Rollouts) -> tuple[Tensor, Tensor]:
        self.seen = rollouts
        return First()(task, x, rollouts)


class Reversed(Recording):
    """Every view but the first is the input backwards."""

    def views(self, task: Any, x: Tensor, num_samples: int, generator: torch.Generator) -> Any:
        def flip(tokens: Tensor) -> Tensor:
            return torch.cat([tokens[:, :1], tokens[:, 1:].flip(-1)], dim=1)

        return flip(x[:, None].expand(-1, num_samples, -1)), flip


def test_solve_runs_each_view_and_maps_its_answer_back() -> None:
    task, model = sudoku()
    x, select = task.inputs("test"), Reversed()
    solve(model, task, x, num_samples=3, select=select, seed=9)
    views = torch.stack([x, x.flip(-1), x.flip(-1)], dim=1).flatten(0, 1)
    by_hand = rollout(model, views, num_samples=1, seed=9)
    tokens = by_hand.tokens.view(8, 3, 16)
    tokens = torch.stack([tokens[:, 0], tokens[:, 1].flip(-1), tokens[:, 2].flip(-1)], dim=1)
    assert torch.equal(select.seen.tokens, tokens)
    torch.testing.assert_close(select.seen.log_prob, by_hand.log_prob.view(8, 3))


@pytest.mark.parametrize(("mode", "value"), [("accuracy", 0.5), ("coverage", Anneal(1.5, 0.0, 8))])
def test_modes_set_depth_and_temperature(mode: str, value: Any) -> None:
    assert len(MODES) == 2
    task, model = sudoku()
    x = task.inputs("test")
    out = solve(model, task, x, num_samples=4, mode=mode, seed=1).rollouts
    equal(out, rollout(model, x, num_samples=4, steps=8, noise=Temperature(value), seed=1))
    given = solve(model, task, x, num_samples=4, mode=mode, steps=3, noise=Temperature(0), select=First(), seed=1)
    equal(given.rollouts, rollout(model, x, num_samples=4, steps=3, noise=Temperature(0), seed=1))
    assert (given.chosen == 0).all()


def test_unknown_mode() -> None:
    task, model = sudoku()
    with pytest.raises(ValueError, match="mode must be one of accuracy, coverage, got 'speed'"):
        solve(model, task, task.inputs("test"), mode="speed")


def test_evaluate_counts_what_was_run() -> None:
    task, model = sudoku()
    options: dict[str, Any] = {"num_samples": 4, "steps": 8, "halt": Stable(1), "seed": 2}
    calls = []
    model.core.low[0].register_forward_hook(lambda module, args, out: calls.append(len(out)))
    result = metrics.evaluate(model, task, **options)
    assert result["network_calls"] == sum(calls)
    assert model.step_calls == 3
    out = rollout(model, task.inputs("test"), **options)
    assert result["steps"] == out.steps.double().mean().item() < 8
    assert result["network_calls"] == 3 * out.steps.sum()
    assert result["seconds"] > 0
    full = metrics.evaluate(model, task, num_samples=4, steps=8, seed=2)
    assert full["network_calls"] == 8 * 4 * 8 * 3
    again = metrics.evaluate(model, task, num_samples=4, steps=8, seed=2, noise=Temperature(1.0))
    assert {**full, "seconds": 0} == {**again, "seconds": 0}


def test_coverage_of_more_solutions_than_int64_holds() -> None:
    task, _ = sudoku()
    task.num_solutions = lambda x: 6670903752021072936960
    x = task.inputs("test")
    found, total = metrics.coverage(task, x, task.solutions(x[0])[:1].expand(8, 1, -1))
    assert found[0] == 1
    assert total.tolist() == pytest.approx([6.67e21] * 8, rel=1e-3)


class Peaked(GRAM):
    """Solves a puzzle if the noise of its only transition is near 0.7 times the prior's: z says how far it is off."""

    right: Tensor  # [L_out]

    def answer(self, h: Tensor) -> Any:
        solved = ((h.std(dim=(1, 2)) - 0.7).abs() < 0.1)[:, None, None]
        right = nn.functional.one_hot(self.right, self.spec.vocab_out).float()
        return dist.Categorical(logits=torch.where(solved, 9 * right, -9 * right)).to_event(1)

    def prior(self, u: Tensor) -> Any:
        return dist.Normal(-u, 1.0).to_event(2)


def test_tune_finds_the_temperature_that_solves() -> None:
    task, _ = sudoku()
    x = task.inputs("validation")[:1]
    model = Peaked(task.spec, width=16, transitions=1, supervision=1)
    model.right = task.solutions(x[0])[0]
    candidates = [None, Temperature(0.5), Temperature(0.7), Temperature(Anneal(0.7, 0.0, 1)), Temperature(2.0)]
    best, results = metrics.tune(model, task, candidates, x=x, num_samples=5, measure="accuracy")
    assert best is candidates[2]
    assert [result["accuracy"] for result in results] == [0, 0, 1, 1, 0]
    assert [result["noise"] for result in results][:2] == ["None", "Temperature(0.5)"]
    assert len(metrics.tune(model, task, x=x, num_samples=2).results) > 4
    with pytest.raises(ValueError, match=r"measure must be one of .*, got 'speed'"):
        metrics.tune(model, task, [None], x=x, measure="speed")
    with pytest.raises(ValueError, match="at least one candidate"):
        metrics.tune(model, task, [])


def test_generate_has_a_seed() -> None:
    model = build()
    one, two, other = (gp.generate(model, num_samples=9, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_module_that_promises_nothing_and_an_unknown_option_are_refused() -> None:
    task = gp.tasks.Sudoku(num_validation=1, num_test=2)
    x = task.inputs("test")[:1]
    with pytest.raises(TypeError, match=r"a rollout needs a gp\.Program, and Linear is none"):
        gp.rollout(torch.nn.Linear(2, 2), x)
    model = gp.models.GRAM(task.spec, width=8)
    for call in (partial(gp.rollout, model, x), partial(gp.solve, model, task, x), partial(gp.generate, model)):
        with pytest.raises(TypeError, match="num_sampels"):
            call(num_sampels=3)
    with pytest.raises(TypeError, match="take no chunk"):
        list(gp.trajectories(model, x, chunk=3))
