"""A GRAM whose every part is linear and Gaussian: the same sites and effects, and everything in closed form.

With n = L·D numbers in h and in l, tokens x and y real, e = x E:

    l   = l A + (h + e) B, K times
    u   = h C + l G
    eps ~ Normal(u M + m, sigma²)           site "eps_{n}_{t}", event [L, D]
    h   = u + eps
    y   ~ Normal(h W + b, r²)               site "y", event [L_out]

So (h, l) is Gaussian given x (and, under a linear guide, given x and y), and its two moments follow by matrix algebra.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import gram_ppl as gp
from gram_ppl.program.poutine import transition


class Moments(NamedTuple):
    """Around one transition: Gaussian u before the noise, and s = (h, l) after it."""

    charged: bool
    u: Tensor  # [B, n]
    u_cov: Tensor  # [n, n]
    s: Tensor  # [B, 2n]
    s_cov: Tensor  # [2n, 2n]


class LinearGaussian(nn.Module):
    """The program, in float64."""

    def __init__(
        self, *, shape: tuple[int, int] = (2, 2), len_in: int = 3, len_out: int = 2, transitions: int = 2,
        supervision: int = 2, low_steps: int = 2, noise: float = 0.5, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape, self.transitions, self.supervision, self.low_steps = shape, transitions, supervision, low_steps
        n = self.n = math.prod(shape)
        generator = torch.Generator().manual_seed(seed)

        def draw(*size: int, scale: float = 1.0) -> nn.Parameter:
            return nn.Parameter(scale * torch.randn(size, generator=generator, dtype=torch.float64))

        root = n**-0.5
        self.A, self.B, self.C, self.G = (draw(n, n, scale=0.6 * root) for _ in range(4))
        self.E, self.M, self.m = draw(len_in, n), draw(n, n, scale=0.3 * root), draw(n, scale=0.3)
        self.W, self.b = draw(n, len_out, scale=root), draw(len_out)
        self.log_sigma = nn.Parameter(math.log(noise) + 0.3 * draw(n).detach())
        self.log_r = nn.Parameter(math.log(0.4) + 0.3 * draw(len_out).detach())
        self.h0, self.l0 = draw(*shape), draw(*shape)

    # The program ------------------------------------------------------------------------------------------------------

    def initial(self, batch: int) -> gp.Latent:
        return gp.Latent(*(state.expand(batch, -1, -1) for state in (self.h0, self.l0)))

    def prior(self, u: Tensor) -> Any:
        loc = (u.flatten(1) @ self.M + self.m).view_as(u)
        return dist.Normal(loc, self.log_sigma.exp().view(self.shape)).to_event(2)

    def answer(self, h: Tensor) -> Any:
        return dist.Normal(h.flatten(1) @ self.W + self.b, self.log_r.exp()).to_event(1)

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        *,
        latent: gp.Latent | None = None,
        steps: int | None = None,
        start: int = 0,
    ) -> tuple[gp.Latent, Tensor]:
        e = (x @ self.E).view(len(x), *self.shape)
        z = self.initial(len(x)) if latent is None else latent
        with pyro.plate("batch", len(x), dim=-1):
            for n in range(start, start + (self.supervision if steps is None else steps)):
                for t in range(self.transitions):
                    z = self.transition(z, e, name=f"eps_{n}_{t}", charged=t == self.transitions - 1, step=n)
            y = pyro.sample("y", self.answer(z.h), obs=y)
        return z, y

    def transition(self, z: gp.Latent, e: Tensor, *, name: str, charged: bool, step: int = 0) -> gp.Latent:
        def move(z: gp.Latent) -> gp.Latent:
            h, low = z.h.flatten(1), z.l.flatten(1)
            for _ in range(self.low_steps):
                low = low @ self.A + (h + e.flatten(1)) @ self.B
            u, low = (h @ self.C + low @ self.G).view_as(z.h), low.view_as(z.l)
            infer: Any = {"proposal": u, "charged": charged, "step": step, "low": low, "e": e}
            return gp.Latent(u + pyro.sample(name, self.prior(u), infer=infer), low)

        return transition(move, z, charged=charged, name=name, infer={"step": step})

    # The closed form --------------------------------------------------------------------------------------------------

    def matrices(self) -> tuple[Tensor, Tensor]:
        """(u, l) = s F + e H, ``[2n, 2n]`` and ``[n, 2n]``."""
        powers = [torch.linalg.matrix_power(self.A, k) for k in range(self.low_steps + 1)]
        drive = self.B @ sum(powers[:-1])
        carried = torch.cat([drive, powers[-1]])  # s -> l
        direct = torch.cat([self.C, torch.zeros_like(self.C)])
        return torch.cat([direct + carried @ self.G, carried], dim=1), torch.cat([drive @ self.G, drive], dim=1)

    def moments(self, x: Tensor, y: Tensor | None = None, guide: LinearGuide | None = None) -> Iterator[Moments]:
        """Forward through all transitions, under the guide if there is one."""
        F, H = self.matrices()
        s, cov = torch.cat([self.h0, self.l0]).flatten().expand(len(x), -1), torch.zeros(2 * self.n, 2 * self.n).to(x)
        for index in range(self.supervision * self.transitions):
            charged = index % self.transitions == self.transitions - 1
            s, cov = s @ F + x @ self.E @ H, F.T @ cov @ F
            u, u_cov = s[:, : self.n], cov[: self.n, : self.n]
            M, sigma = self.M, self.log_sigma.exp()
            offset: Tensor = self.m
            if y is not None and guide is not None and guide.acts(charged):
                M, offset, sigma = guide.M, y @ guide.N + guide.m, guide.log_sigma.exp()
            step = torch.eye(2 * self.n).to(x)
            step[: self.n, : self.n] += M
            s, cov = s @ step, step.T @ cov @ step
            s = torch.cat([s[:, : self.n] + offset, s[:, self.n :]], dim=1)
            cov[: self.n, : self.n] += sigma.square().diag()
            yield Moments(charged, u, u_cov, s, cov)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Any:
        """p(y | x), batch shape ``[B]`` and event shape ``[L_out]``."""
        *_, last = self.moments(x)
        cov = self.W.T @ last.s_cov[: self.n, : self.n] @ self.W + (2 * self.log_r).exp().diag()
        return dist.MultivariateNormal(last.s[:, : self.n] @ self.W + self.b, cov)

    @torch.no_grad()
    def expected(self, guide: LinearGuide, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Under the guide, E log p(y | h) after each supervision step ``[N, B]``, E KL of each site ``[N, T, B]``."""
        fits, kls = [], []
        for at in self.moments(x, y, guide):
            kl = torch.zeros(len(x)).to(x)
            if guide.acts(at.charged):
                delta = guide.M - self.M
                mean = at.u @ delta + y @ guide.N + guide.m - self.m
                square = mean.square() + (delta.T @ at.u_cov @ delta).diagonal()
                q, p = (2 * guide.log_sigma).exp(), (2 * self.log_sigma).exp()
                kl = ((p / q).log() / 2 + (q + square) / (2 * p) - 0.5).sum(-1)
            kls.append(kl)
            if at.charged:
                h, cov = at.s[:, : self.n], at.s_cov[: self.n, : self.n]
                spread = (self.W.T @ cov @ self.W).diagonal() / (2 * (2 * self.log_r).exp())
                fits.append(self.answer(h).log_prob(y) - spread.sum())
        return torch.stack(fits), torch.stack(kls).unflatten(0, (self.supervision, self.transitions))


class LinearGuide(gp.Guide):
    """q(eps | u, y) = Normal(u M + y N + m, sigma²): the posterior's mean if this transition were the last.

    ``strength`` 0 and ``scale`` 1 make it the prior; a larger strength moves it further towards y.
    """

    def __init__(
        self, model: LinearGaussian, *, strength: float = 1.0, scale: float = 1.0, every: bool = False
    ) -> None:
        super().__init__(model)
        self.every = every
        with torch.no_grad():
            W, variance = model.W, (2 * model.log_sigma).exp()[:, None]
            gain = torch.linalg.solve(W.T @ (variance * W) + (2 * model.log_r).exp().diag(), (variance * W).T)
            gain = strength * gain
            self.M = nn.Parameter(model.M - (W + model.M @ W) @ gain)
            self.N, self.m = nn.Parameter(gain), nn.Parameter(model.m - (model.m @ W + model.b) @ gain)
            self.log_sigma = nn.Parameter(model.log_sigma + math.log(scale))

    def acts(self, charged: bool) -> bool:
        return charged or self.every

    def posterior(self, u: Tensor, y: Tensor, prior: Any) -> Any:
        loc = (u.flatten(1) @ self.M + y @ self.N + self.m).view_as(u)
        return dist.Normal(loc, self.log_sigma.exp().view(u.shape[1:])).to_event(2)


class ExactGuide(gp.Guide):
    """p(eps | state, y), at every transition, by a backward recursion: p(y | s_t) = Normal(s_t J + e J_e + c, S).

    A ``spread`` other than 1 multiplies its standard deviations, so that it is exact no more.
    """

    def __init__(self, model: LinearGaussian, *, spread: float = 1.0) -> None:
        super().__init__(model)
        self.spread = spread

    def acts(self, charged: bool) -> bool:
        return True

    def get_posterior(self, name: str, prior: Any) -> Any:
        model: Any = self.model
        n, t = map(int, name.split("_")[1:])
        u, low, e = (self._infer[key].flatten(1) for key in ("proposal", "low", "e"))
        J, drive, offset, cov = self.future((model.supervision - n) * model.transitions - t - 1)
        J_h = J[: model.n]
        mean, variance = prior.base_dist.loc.flatten(1), (2 * model.log_sigma).exp()
        gain = variance[:, None] * J_h @ torch.linalg.inv(J_h.T @ (variance[:, None] * J_h) + cov)
        expected = torch.cat([u + mean, low], dim=1) @ J + e @ drive + offset
        mean = mean + (self._y - expected) @ gain.T
        posterior = dist.MultivariateNormal(mean, self.spread**2 * (variance.diag() - gain @ J_h.T * variance))
        reshape = dist.transforms.ReshapeTransform(torch.Size((model.n,)), model.shape)
        return dist.TransformedDistribution(posterior, [reshape])

    def future(self, transitions: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """J, J_e, c, S when so many transitions are still to come."""
        model: Any = self.model
        F, H = model.matrices()
        J = torch.cat([model.W, torch.zeros_like(model.W)])
        drive, offset, cov = torch.zeros_like(model.W), model.b, (2 * model.log_r).exp().diag()
        for _ in range(transitions):
            J_h = J[: model.n]
            cov = cov + J_h.T @ (2 * model.log_sigma).exp().diag() @ J_h
            offset = offset + model.m @ J_h
            J = torch.cat([J_h + model.M @ J_h, J[model.n :]])
            J, drive = F @ J, drive + H @ J
        return J, drive, offset, cov
