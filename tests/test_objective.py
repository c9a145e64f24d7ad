"""The segment objective against plain torch written out by hand, stock Pyro, quadrature, and float64."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.infer import SVI, TraceMeanField_ELBO
from torch import Tensor, nn
from torch.distributions import kl_divergence

import gram_ppl as gp
from gram_ppl.guides import AmortizedGuide, EveryTransition
from gram_ppl.models import GRAM, ZeroMeanNoise
from gram_ppl.program.poutine import GradientWindow
from gram_ppl.tasks import Spec

L_OUT, ROWS, REGISTERS = 6, 3, 2
CELL = torch.arange(L_OUT)
SPEC = Spec(L_OUT, 4, L_OUT, 5, torch.stack([CELL[:, None] // 3 == CELL // 3, CELL[:, None] % 3 == CELL % 3]))
X = torch.randint(4, (ROWS, L_OUT), generator=torch.Generator().manual_seed(1))
Y = torch.randint(5, (ROWS, L_OUT), generator=torch.Generator().manual_seed(2))


def heads(*modules: nn.Module) -> None:
    """Heads that start at zero would hide errors."""
    for module in modules:
        nn.init.normal_(module.get_parameter("guidance.down.weight"), std=0.2)


def program(guide: Any = AmortizedGuide, **options: Any) -> tuple[GRAM, Any]:
    model = GRAM(SPEC, **({"width": 8, "registers": REGISTERS, "low_steps": 2, "transitions": 2} | options)).double()
    own = guide(model).double()
    heads(*(module for module in (model, own) if hasattr(module, "guidance")))
    return model, own


def gradients(*modules: nn.Module) -> dict[str, Tensor]:
    """All gradients, zero where there is none; the modules' own are cleared."""
    found = {}
    for i, module in enumerate(modules):
        for name, p in module.named_parameters():
            found[f"{i}.{name}"] = torch.zeros_like(p) if p.grad is None else p.grad.clone()
            p.grad = None
    return found


def assert_same(one: dict[str, Tensor], two: dict[str, Tensor], scale: float = 1.0) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, scale * two[name], rtol=1e-6, atol=1e-6, msg=partial("{}: {}".format, name))


def normal_kl(q: tuple[Tensor, Tensor], p: tuple[Tensor, Tensor]) -> Tensor:
    (m, s), (a, b) = q, p
    return ((b / s).log() + (s**2 + (m - a) ** 2) / (2 * b**2) - 0.5).sum((-1, -2))


def by_hand(
    model: GRAM, guide: Any, *, beta: float, balance: float | None, steps: int = 1, latent: Any = None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Loss of eq. 14 in plain torch: loss, NLL [B], charged KL [B], h, l."""
    f_l, f_h = model.core.low, model.core.high or model.core.low
    every = isinstance(guide, EveryTransition)

    def normal(head: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
        mu, raw = head(inputs).chunk(2, -1)
        return mu, 0.01 + 0.6 * torch.sigmoid(raw)

    def transition(h: Tensor, low: Tensor, posterior: bool) -> Any:
        for _ in range(model.core.low_steps):
            low = f_l(h + e + low)
        u = f_h(h + low)
        p = normal(model.guidance, u)
        target = torch.cat([torch.zeros(ROWS, REGISTERS, model.width).double(), guide.target(Y)], 1)
        q = normal(guide.guidance, u + target) if posterior else p
        return u + q[0] + q[1] * torch.randn(u.shape, dtype=u.dtype), low, q, p

    e = model.encoder(X, ROWS)
    h, low = (latent.h, latent.l) if latent else (model.h0.expand(ROWS, -1, -1), model.l0.expand(ROWS, -1, -1))
    kl, balanced = torch.zeros(ROWS).double(), torch.zeros(ROWS).double()
    for _ in range(steps):
        with torch.no_grad():
            for _ in range(model.transitions - 1):
                h, low, _, _ = transition(h, low, every)
        h, low, q, p = transition(h.detach(), low.detach(), True)
        q_stopped, p_stopped = ((loc.detach(), scale.detach()) for loc, scale in (q, p))
        kl = kl + normal_kl(q, p)
        if balance is not None:
            balanced = balanced + balance * normal_kl(q_stopped, p) + (1 - balance) * normal_kl(q, p_stopped)
    logits = model.decoder(h[:, REGISTERS:])
    nll = F.cross_entropy(logits.transpose(1, 2), Y, reduction="none").sum(-1)
    loss = (nll + beta * (kl if balance is None else balanced)).sum() / (L_OUT * ROWS)
    return loss, nll, kl, h, low


@pytest.mark.parametrize(
    ("beta", "balance", "options"),
    [
        (1.0, None, {}),
        (1.0, 0.8, {}),
        (0.3, 0.8, {"transitions": 3}),
        (10.0, 0.5, {"transitions": 1}),
        (2.0, 0.0, {"shared": False}),
        (2.0, 1.0, {"low_steps": 3, "layers": 2}),
        (0.3, 0.8, {"guide": EveryTransition, "transitions": 3}),
        (0.7, 0.8, {"steps": 3}),
        (0.7, 0.8, {"transitions": 1, "steps": 3}),
        (0.7, None, {"steps": 2, "carried": True}),
    ],
)
def test_segment_is_the_hand_written_one(beta: float, balance: float | None, options: dict[str, Any]) -> None:
    steps, carried = options.pop("steps", 1), options.pop("carried", False)
    model, guide = program(**options)
    latent = gp.Latent(*torch.randn(2, ROWS, L_OUT + REGISTERS, 8).double()) if carried else None
    torch.manual_seed(7)
    loss, info = gp.SegmentELBO(beta=beta, balance=balance)(model, guide)(X, Y, latent=latent, steps=steps)
    loss.backward()
    ours = gradients(model, guide)
    torch.manual_seed(7)
    expected, nll, kl, h, low = by_hand(model, guide, beta=beta, balance=balance, steps=steps, latent=latent)
    expected.backward()
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(info.nll, nll.mean().detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(info.kl_rows, kl.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(info.kl, kl.mean().detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(info.latent.parts, [h.detach(), low.detach()], rtol=0, atol=1e-6)
    assert kl.min() > 1  # nats: the comparison has something to compare
    assert_same(ours, gradients(model, guide))


def test_info_is_detached_and_says_which_tokens_are_right() -> None:
    model, guide = program()
    _, info = gp.SegmentELBO()(model, guide)(X, Y)
    tensors = [part for part in (*info.latent, *info[1:]) if part is not None]
    assert not any(t.requires_grad for t in tensors)
    assert torch.equal(info.correct, model.answer(info.latent.h).base_dist.logits.argmax(-1) == Y)
    assert info.correct.any()
    assert not info.correct.all()


# Stock Pyro -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [{}, {"noise": ZeroMeanNoise()}])
def test_one_transition_is_the_stock_elbo_with_gradients(noise: dict[str, Any]) -> None:
    model, guide = program(transitions=1, **noise)
    torch.manual_seed(3)
    loss, _ = gp.SegmentELBO(beta=1.0, balance=None)(model, guide)(X, Y)
    loss.backward()
    ours = gradients(model, guide)
    torch.manual_seed(3)
    stock = TraceMeanField_ELBO().differentiable_loss(model, guide, X, Y, steps=1)
    stock.backward()
    torch.testing.assert_close(loss * L_OUT * ROWS, stock, rtol=0, atol=1e-6)
    assert_same(gradients(model, guide), ours, L_OUT * ROWS)


@pytest.mark.parametrize("balance", [None, 0.8])
@pytest.mark.parametrize("steps", [1, 3])
def test_value_is_the_stock_elbo_at_any_depth_and_balance(steps: int, balance: float | None) -> None:
    model, guide = program(transitions=3)
    torch.manual_seed(3)
    loss, _ = gp.SegmentELBO(beta=1.0, balance=balance)(model, guide)(X, Y, steps=steps)
    torch.manual_seed(3)
    stock = TraceMeanField_ELBO().loss(model, guide, X, Y, steps=steps)
    assert loss.item() * L_OUT * ROWS == pytest.approx(stock, abs=1e-6)


def test_balance_changes_the_gradient_and_not_the_value() -> None:
    model, guide = program()
    losses, found = [], []
    for balance in (None, 0.8):
        torch.manual_seed(3)
        loss, _ = gp.SegmentELBO(beta=2.0, balance=balance)(model, guide)(X, Y)
        loss.backward()
        losses.append(loss.item())
        found.append(gradients(model, guide))
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)
    assert not torch.allclose(found[0]["1.guidance.down.weight"], found[1]["1.guidance.down.weight"], rtol=1e-2)
    assert not torch.allclose(found[0]["0.guidance.down.weight"], found[1]["0.guidance.down.weight"], rtol=1e-2)


def test_in_svi() -> None:
    model, guide = program()
    elbo = gp.SegmentELBO(beta=0.3, balance=0.8)
    torch.manual_seed(5)
    loss, _ = elbo(model, guide)(X, Y)
    loss.backward()
    expected = gradients(model, guide)
    before = {f"{i}.{n}": p.detach().clone() for i, m in enumerate((model, guide)) for n, p in m.named_parameters()}
    torch.manual_seed(5)
    svi = SVI(model, guide, pyro.optim.PyroOptim(torch.optim.SGD, {"lr": 0.1}), elbo)
    assert svi.step(X, Y, steps=1) == pytest.approx(loss.item(), abs=1e-12)
    after = {f"{i}.{n}": p.detach() for i, m in enumerate((model, guide)) for n, p in m.named_parameters()}
    assert_same({n: (before[n] - after[n]) / 0.1 for n in before}, expected)
    torch.manual_seed(5)
    evaluated = svi.evaluate_loss(X, Y, steps=1)
    torch.manual_seed(5)
    assert evaluated == pytest.approx(elbo(model, guide)(X, Y)[0].item(), abs=1e-12)


# The gradient window --------------------------------------------------------------------------------------------------


def test_window_over_the_stock_elbo_is_no_grad_by_hand() -> None:
    model, guide = program(transitions=3)

    def stock(window: bool) -> dict[str, Tensor]:
        torch.manual_seed(3)
        if window:
            with GradientWindow():
                TraceMeanField_ELBO().differentiable_loss(model, guide, X, Y, steps=2).backward()
        else:
            TraceMeanField_ELBO().differentiable_loss(model, guide, X, Y, steps=2).backward()
        return gradients(model, guide)

    torch.manual_seed(3)
    by_hand(model, guide, beta=1.0, balance=None, steps=2)[0].backward()
    expected = gradients(model, guide)
    assert_same(stock(window=True), expected, L_OUT * ROWS)
    with pytest.raises(AssertionError):
        assert_same(stock(window=False), expected, L_OUT * ROWS)


def test_window_leaves_the_program_and_cuts_the_tape() -> None:
    model, _ = program(transitions=3)
    start = model.initial(ROWS).map(lambda state: state.clone().requires_grad_())
    torch.manual_seed(3)
    free: Any = poutine.trace(model).get_trace(X, Y, latent=start, steps=2)
    torch.manual_seed(3)
    with GradientWindow():
        cut: Any = poutine.trace(model).get_trace(X, Y, latent=start, steps=2)
    for n in range(2):
        for t in range(3):
            one, two = (trace.nodes[f"eps_{n}_{t}"]["value"] for trace in (free, cut))
            torch.testing.assert_close(one, two, rtol=0, atol=0)
            assert one.requires_grad
            assert two.requires_grad == (t == 2)
    gradients: tuple[Any, ...] = torch.autograd.grad(
        cut.nodes["_RETURN"]["value"][0].h.sum(), start.h, allow_unused=True
    )
    assert gradients == (None,)
    assert torch.is_grad_enabled()


# Which KL is charged --------------------------------------------------------------------------------------------------


def all_kl(model: GRAM, guide: Any, steps: int) -> dict[str, float]:
    """KL of every site by stock machinery: trace of the guide, replay of the model."""
    guide_trace: Any = poutine.trace(guide).get_trace(X, Y, steps=steps)
    model_trace: Any = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(X, Y, steps=steps)
    sites = [name for name in guide_trace.nodes if name.startswith("eps")]
    return {n: kl_divergence(guide_trace.nodes[n]["fn"], model_trace.nodes[n]["fn"]).mean().item() for n in sites}


def test_charged_kls_of_the_segments_sum_to_the_whole() -> None:
    model, guide = program(transitions=3)
    segment = gp.SegmentELBO()(model, guide)
    torch.manual_seed(4)
    latent, parts = None, []
    for _ in range(4):
        _, info = segment(X, Y, latent=latent)
        latent = info.latent
        parts.append(info.kl.item())
    torch.manual_seed(4)
    _, whole = segment(X, Y, steps=4)
    torch.manual_seed(4)
    stock = all_kl(model, guide, 4)
    assert sum(parts) == pytest.approx(whole.kl.item(), abs=1e-9)
    assert sum(parts) == pytest.approx(sum(stock.values()), abs=1e-9)
    assert [name for name, kl in stock.items() if kl > 0] == [f"eps_{n}_2" for n in range(4)]
    torch.testing.assert_close(latent, whole.latent, rtol=0, atol=1e-12)


def test_the_literal_reading_charges_only_the_last_site_of_each_step() -> None:
    model, guide = program(EveryTransition, transitions=3)
    torch.manual_seed(4)
    stock = all_kl(model, guide, 2)
    assert min(stock.values()) > 1
    torch.manual_seed(4)
    _, info = gp.SegmentELBO()(model, guide)(X, Y, steps=2)
    assert info.kl.item() == pytest.approx(stock["eps_0_2"] + stock["eps_1_2"], abs=1e-9)
    torch.manual_seed(4)
    loss = TraceMeanField_ELBO().loss(model, guide, X, Y, steps=2)
    assert loss / ROWS == pytest.approx(info.nll.item() + sum(stock.values()), abs=1e-6)


def test_a_plain_callable_pays_for_the_charged_sites() -> None:
    model, _ = program(transitions=1)

    def plain(x: Tensor, y: Tensor, latent: Any = None, steps: int = 1) -> None:
        with pyro.plate("batch", ROWS, dim=-1):
            for n in range(steps):
                zero = torch.zeros(ROWS, L_OUT + REGISTERS, 8).double()
                pyro.sample(f"eps_{n}_0", dist.Normal(zero + 1, zero + 0.5).to_event(2))

    torch.manual_seed(4)
    loss, info = gp.SegmentELBO(beta=1.0)(model, plain)(X, Y, steps=2)
    torch.manual_seed(4)
    stock = TraceMeanField_ELBO().loss(model, plain, X, Y, steps=2)
    assert info.kl > 1
    assert loss.item() * L_OUT * ROWS == pytest.approx(stock, abs=1e-6)


# Guides without a closed form -----------------------------------------------------------------------------------------


class TwoModes(gp.Guide):
    """A mixture over each token's width whose two components differ in the first dimension only."""

    apart, sigma = 0.7, 0.2

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.logits = nn.Parameter(torch.tensor([0.3, -0.4]))

    def posterior(self, u: Tensor, y: Tensor, prior: dist.TorchDistribution) -> dist.TorchDistribution:
        locs = torch.zeros(*u.shape[:-1], 2, u.shape[-1], dtype=u.dtype)
        locs[..., 0, 0], locs[..., 1, 0] = self.apart, -self.apart
        scale = torch.full_like(locs, self.sigma)
        return dist.MixtureOfDiagNormals(locs, scale, self.logits.expand(*u.shape[:-1], 2)).to_event(1)


def test_sampled_kl_is_unbiased() -> None:
    """Against quadrature in the first dimension and the closed form in the others; error under 5 standard errors."""
    rows, width, s = 4000, 4, 0.31  # the prior of a zero head: Normal(0, floor + scale)
    model = GRAM(SPEC, width=width, transitions=1, registers=0, mixer=gp.nn.Attention(heads=2)).double()
    guide = TwoModes(model).double()
    _, info = gp.SegmentELBO()(model, guide)(X[:1].expand(rows, -1), Y[:1].expand(rows, -1))
    v = torch.linspace(-4, 4, 100_001, dtype=torch.float64)
    modes = [dist.Normal(m, guide.sigma).log_prob(v) for m in (guide.apart, -guide.apart)]
    log_q = (torch.stack(modes, -1) + guide.logits.log_softmax(-1)).logsumexp(-1)
    first = torch.trapezoid(log_q.exp() * (log_q - dist.Normal(0, s).log_prob(v)), v).item()
    others = math.log(s / guide.sigma) + guide.sigma**2 / (2 * s**2) - 0.5
    exact = L_OUT * (first + (width - 1) * others)
    error = info.kl_rows.std().item() / rows**0.5
    assert error < 0.01 * exact
    assert abs(info.kl.item() - exact) < 5 * error


def test_sampled_kl_trains_prior_and_posterior() -> None:
    model = GRAM(SPEC, width=8, transitions=1).double()
    guide = TwoModes(model).double()
    gp.SegmentELBO()(model, guide)(X, Y)[0].backward()
    found = gradients(model, guide)
    assert found["0.guidance.down.weight"].abs().sum() > 0
    assert found["1.logits"].abs().sum() > 0


class Rigid(gp.Guide):
    def posterior(self, u: Tensor, y: Tensor, prior: dist.TorchDistribution) -> dist.TorchDistribution:
        mixture = dist.Categorical(logits=torch.zeros(*u.shape, 2).to(u))
        return dist.MixtureSameFamily(mixture, dist.Normal(u[..., None] + torch.tensor([-1, 1]), 0.5)).to_event(2)


def test_a_posterior_without_reparametrised_samples_is_refused() -> None:
    model = GRAM(SPEC, width=8)
    with pytest.raises(ValueError, match="'eps_0_1' has no reparametrized samples"):
        gp.SegmentELBO()(model, Rigid(model))(X, Y)


# Precision and schedule -----------------------------------------------------------------------------------------------


def test_kl_under_bf16_autocast() -> None:
    """The Normals are float32; their KL is that of float64 arithmetic on the same numbers, near the float32 run's."""
    model, guide = program()
    model, guide = model.float(), guide.float()
    elbo = gp.SegmentELBO(beta=1.0)
    torch.manual_seed(3)
    _, full = elbo(model, guide)(X, Y)
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        model_trace, guide_trace, _ = elbo.run(model, guide, (X, Y), {"steps": 1})
        _, kl, _ = elbo.terms(model_trace, guide_trace)
    q, p = (trace.nodes["eps_0_1"]["fn"].base_dist for trace in (guide_trace, model_trace))
    assert {t.dtype for t in (q.loc, q.scale, p.loc, p.scale, kl)} == {torch.float32}
    assert model_trace.nodes["y"]["fn"].base_dist.logits.dtype == torch.float32
    exact = normal_kl((q.loc.double(), q.scale.double()), (p.loc.double(), p.scale.double()))
    torch.testing.assert_close(kl.double(), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(kl.detach(), full.kl_rows, rtol=0.05, atol=0)


def test_log_linear() -> None:
    beta = gp.LogLinear(first=10.0, last=0.1, start=0.3, stop=0.7)
    points = {0.0: 10.0, 0.3: 10.0, 0.4: 10**0.5, 0.5: 1.0, 0.6: 10**-0.5, 0.7: 0.1, 1.0: 0.1}
    assert [beta(progress) for progress in points] == pytest.approx(list(points.values()))
    jump = gp.LogLinear(first=2.0, last=1.0, start=0.5, stop=0.5)
    assert [jump(0.5), jump(0.51)] == [2.0, 1.0]


def test_schedule_moves_beta() -> None:
    model, guide = program()
    elbo = gp.SegmentELBO(beta=gp.LogLinear(first=8.0, last=2.0))
    losses = []
    for progress in (0.0, 1.0):
        elbo.set_progress(progress)
        torch.manual_seed(3)
        loss, info = elbo(model, guide)(X, Y)
        losses.append(loss.item())
        assert loss.item() * L_OUT == pytest.approx((info.nll + elbo.beta * info.kl).item(), abs=1e-9)
    assert losses[0] - losses[1] == pytest.approx(6.0 * info.kl.item() / L_OUT, abs=1e-9)
    constant = gp.SegmentELBO(beta=0.5)
    constant.set_progress(1.0)
    assert constant.beta == 0.5


# Without the window ---------------------------------------------------------------------------------------------------


def test_without_window_and_with_all_steps_it_is_the_stock_bound() -> None:
    """Training without deep supervision: eq. 13 with gradients through every transition."""
    model, guide = program(supervision=3)
    torch.manual_seed(3)
    gp.SegmentELBO(1.0, None, window=False, steps=3)(model, guide)(X, Y)[0].backward()
    own = gradients(model, guide)
    torch.manual_seed(3)
    TraceMeanField_ELBO().differentiable_loss(model, guide, X, Y, steps=3).backward()
    assert_same(gradients(model, guide), own, L_OUT * ROWS)
