"""The objective of a supervision step: negative log-likelihood plus a balanced, weighted KL (eq. 14)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import detach, scale_and_mask
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor, nn
from torch.distributions import kl_divergence

from ..runtime.arguments import whole
from ..state import Latent, SegmentInfo
from .categorical import AsyncCategorical
from .guide import Guide
from .model import Program
from .poutine import GradientWindow, Record, Replay, Visited, chance


@dataclass(frozen=True)
class LogLinear:
    """β from ``first`` to ``last``: constant until ``start``, log-linear to ``stop``, constant again.

    ``start`` and ``stop`` are fractions of the whole training. β goes from high to low: under a high β the
    prior learns to carry the answer before the posterior may buy it.

    >>> beta = gp.LogLinear(10, 0.1, start=0.2, stop=0.6)
    >>> [round(beta(progress), 2) for progress in (0, 0.4, 1)]
    [10.0, 1.0, 0.1]
    """

    first: float = 10.0
    last: float = 0.3
    start: float = 0.3
    stop: float = 0.7

    def __call__(self, progress: float) -> float:
        """β at ``progress`` in [0, 1]."""
        part = min(max((progress - self.start) / max(self.stop - self.start, 1e-12), 0.0), 1.0)
        return float(self.first * (self.last / self.first) ** part)


class SegmentELBO(TraceMeanField_ELBO):
    """Loss of a segment, NLL + β · Σ [balance · KL(sg q ‖ p) + (1 − balance) · KL(q ‖ sg p)], over L_out · B.

    NLL and KL are summed over tokens and dimensions. The KL is that of the charged sites, analytic where
    the two families have one, else from the sample. Gradients flow through the last transition of each
    supervision step only. Observed sites beside y, such as those of a model that learns when to halt, add their
    negative log densities. With β = 1 the value is L_out · B times smaller than the stock ELBO's, otherwise equal to
    it, at any balance.

    ``elbo(model, guide)`` is an ``nn.Module`` whose call gives ``(loss, SegmentInfo)``. In ``pyro.infer.SVI`` a
    ``step(x, y)`` minimises the same loss: of ``steps`` supervision steps from z_0, or from ``latent=``.

    Args:
        beta: weight of the KL, a number or a function of the progress in [0, 1].
        balance: share of the KL's gradient that trains the prior (0.8, as in DreamerV2, arXiv 2010.02193);
            None for the plain KL, which is the gradient of the bound itself.
        window: True, gradients stay in the last transition of each supervision step; a number, they flow through
            everything in the last so many supervision steps, and False, through everything in all of them, which takes
            memory for each.
        every_step: y is scored after each supervision step that has a gradient, and the NLL is their mean; otherwise
            it is that after the last.
        steps: supervision steps of a segment. N_sup of them from z_0, for a model that the trainer believes to have
            one, are training without deep supervision: eq. 13 itself where ``window`` is off.
    """

    def __init__(
        self,
        beta: float | Callable[[float], float] = 1.0,
        balance: float | None = 0.8,
        *,
        window: bool | int = True,
        every_step: bool = False,
        steps: int = 1,
    ) -> None:
        super().__init__()
        whole(steps=steps, window=None if isinstance(window, bool) else window)
        self.window = window
        self.every_step = every_step
        self.steps = steps
        self.schedule = beta
        self.balance = balance
        self.set_progress(0.0)

    def set_progress(self, progress: float) -> None:
        """Move β to where training stands, ``progress`` in [0, 1]."""
        self.beta = self.schedule(progress) if callable(self.schedule) else self.schedule

    def __call__(self, model: Callable[..., Any], guide: Callable[..., Any]) -> Segment:  # type: ignore[override]
        """Bind model and guide into a module that yields ``(loss, SegmentInfo)``."""
        return Segment(model, guide, self)

    def run(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
        """One pass, under the gradient window unless it is off: model trace, guide trace, the model's return value.

        The model handed in is the one that runs, whatever handlers it wears. A guide that wears handlers runs as any
        other callable, in a pass of its own.
        """
        first = self._first(model, kwargs)
        visited = Visited(first, every=self.every_step)
        with GradientWindow(None if self.window is True else first) if self.window else nullcontext():
            if isinstance(guide, Guide):
                with visited:
                    guide.run(model, *args, **kwargs)
                returned = guide.returned
                model_trace, guide_trace = guide.get_traces()
            else:
                guide_trace = Record()(guide).get_trace(*args, **kwargs)
                with visited:
                    model_trace = Record()(Replay(trace=guide_trace)(model)).get_trace(*args, **kwargs)
                returned = model_trace.nodes["_RETURN"]["value"]
        y: Any = model_trace.nodes["y"]["value"]
        self.supervise(poutine.unwrap(model), y, visited.states, model_trace)
        return model_trace, guide_trace, returned

    def _first(self, model: Any, kwargs: Any) -> int:
        """The first supervision step whose state has a gradient."""
        if isinstance(self.window, bool):
            return 0
        start, steps = kwargs.get("start", 0), kwargs.get("steps")
        program: Any = poutine.unwrap(model)
        last = start + (program.supervision if steps is None else steps)
        return int(max(0, last - self.window))

    def supervise(self, program: Any, y: Tensor, states: dict[int, Latent], model_trace: Any) -> None:
        """Add what is observed of the states after supervision steps, by their number, as sites of the model's trace.

        They belong to the objective alone: "y_{n}" for each but the last where every step is scored.
        """
        if self.every_step:
            for step in list(states)[:-1]:
                observe(model_trace, f"y_{step}", program.decode(states[step]), y, part_of="y")

    def terms(self, model_trace: Any, guide_trace: Any) -> tuple[Tensor, Tensor, Tensor]:
        """NLL, charged KL and balanced KL of each row, ``[B]`` nats.

        Raises:
            ValueError: a charged posterior is not reparametrized, so its gradient would be wrong in silence, or the
                guide has a site that the model lacks.
        """
        last = -_weighted(model_trace.nodes["y"])
        kl = balanced = torch.zeros_like(last)
        for name, site in guide_trace.nodes.items():
            if site["type"] != "sample":
                continue
            if name not in model_trace.nodes:
                raise ValueError(f"the guide samples {name!r}, which the model doesn't have")
            q, p = site["fn"], model_trace.nodes[name]["fn"]
            if q is p or not model_trace.nodes[name]["infer"].get("charged", False):
                continue
            if "labels" in model_trace.nodes[name]["infer"]:
                said = p.log_prob(site["value"])  # what a decision says of y
                last = last - scale_and_mask(said, site["scale"], site["mask"])
                continue
            if not q.has_rsample and q.log_prob(site["value"]).requires_grad:
                raise ValueError(f"the posterior at {name!r} has no reparametrized samples, so no gradient either")
            both = self.divergence(q, p, site["value"])
            plain, mixed = (scale_and_mask(part, site["scale"], site["mask"]) for part in both)
            kl, balanced = kl + plain, balanced + mixed
        sites = [site for site in model_trace.nodes.values() if site["type"] == "sample"]
        earlier = [-_weighted(site) for site in sites if site["infer"].get("part_of") == "y"]
        return torch.stack([last, *earlier]).mean(dim=0) if earlier else last, kl, balanced

    def divergence(self, q: Any, p: Any, value: Tensor) -> tuple[Tensor, Tensor]:
        """KL(q ‖ p) of each row for reporting (no gradient), and the balanced one for training, ``[B]``."""
        if self.balance is None:
            kl = analytic_kl(q, p, value)
            return kl.detach(), kl
        to_prior = analytic_kl(detach(q), p, value.detach())
        to_posterior = analytic_kl(q, detach(p), value)
        return to_prior.detach(), self.balance * to_prior + (1 - self.balance) * to_posterior

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        model_trace, guide_trace, _ = self.run(model, guide, args, {"steps": self.steps, **kwargs})
        return model_trace, guide_trace

    def _differentiable_loss_particle(self, model_trace: Any, guide_trace: Any) -> tuple[float, Tensor]:
        nll, _, balanced = self.terms(model_trace, guide_trace)
        loss = self.reduce(nll, balanced, model_trace)
        return loss.item(), loss

    def reduce(self, nll: Tensor, balanced: Tensor, model_trace: Any) -> Tensor:
        """The scalar loss, in nats a token."""
        loss = nll + self.beta * balanced
        for name, site in model_trace.nodes.items():
            if site["type"] == "sample" and site["is_observed"] and "y" not in (name, site["infer"].get("part_of")):
                loss = loss - _weighted(site)
        return loss.mean() / model_trace.nodes["y"]["value"].shape[-1]


def _weighted(site: Any) -> Tensor:
    """The log density of a site in its scale and mask, of each row."""
    return scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"])


def observe(trace: Any, name: str, fn: Any, value: Tensor, *, scale: float = 1.0, **infer: Any) -> None:
    """Add an observed site to a trace."""
    site = {"type": "sample", "fn": fn, "value": value, "is_observed": True, "scale": scale, "mask": None}
    trace.add_node(name, name=name, infer=infer, **site)


def analytic_kl(q: Any, p: Any, value: Tensor) -> Tensor:
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(value) - p.log_prob(value)


class Segment(nn.Module):
    """Model, guide and objective bound: call it as the model, get ``(loss, SegmentInfo)``.

    ``scheduled_sampling`` is the probability that the state which a row of training is left with has the last noise of
    the prior, not that of the posterior, and its last decision; the loss is the posterior's all the same. Logits of
    such a decision are divided by ``temperature``.
    """

    scheduled_sampling: float | Tensor = 0.0
    temperature = 1.0

    def __init__(self, model: Any, guide: Any, elbo: SegmentELBO) -> None:
        super().__init__()
        self.model = model
        if not isinstance(model, nn.Module):  # it wears handlers; its parameters are the segment's all the same
            self.program = poutine.unwrap(model)
        self.guide = guide
        if isinstance(worn := poutine.unwrap(guide), nn.Module) and worn is not guide:
            self.proposal = worn
        self.elbo = elbo

    def forward(
        self,
        x: Tensor | None,
        y: Tensor,
        *,
        latent: Latent | None = None,
        steps: int | None = None,
        age: Tensor | None = None,
    ) -> tuple[Tensor, SegmentInfo]:
        """Loss and info of ``steps`` supervision steps (the objective's) from ``latent`` (z_0 if not given).

        ``age [B]``: supervision steps that each row has behind it (none if not given); only programs that learn when
        to halt are told.
        """
        steps = self.elbo.steps if steps is None else steps
        program: Any = poutine.unwrap(self.model)
        kwargs: dict[str, Any] = {"latent": latent, "steps": steps}
        halting = isinstance(program, Program) and program.halting
        if halting:
            kwargs["age"] = y.new_zeros(len(y)) if age is None else age
        traces = self.elbo.run(self.model, self.guide, (x, y), kwargs)
        model_trace, guide_trace, (z, _) = traces
        nll, kl, balanced = self.elbo.terms(model_trace, guide_trace)
        loss = self.elbo.reduce(nll, balanced, model_trace)
        with torch.no_grad():
            latent, from_prior = z.map(torch.Tensor.detach), None
            # a tensor is there for a graph, which can't ask it
            if self.training and (isinstance(self.scheduled_sampling, Tensor) or self.scheduled_sampling):
                latent, from_prior = self._wander(model_trace, latent)
            guess = model_trace.nodes["y"]["fn"].base_dist.logits.argmax(dim=-1)
            info = SegmentInfo(
                latent=latent,
                nll=nll.detach().mean(),
                kl=kl.mean(),
                kl_rows=kl,
                correct=guess == model_trace.nodes["y"]["value"],
                halted=program.halts(z.h, kwargs["age"] + steps) if halting else None,
                from_prior=from_prior,
            )
        return loss, info

    def _wander(self, model_trace: Any, latent: Latent) -> tuple[Latent, Tensor | None]:
        """The state, that of some rows with noise and decision of the prior, and which rows they are; None without."""
        charged = [
            site for site in model_trace.nodes.values() if site["type"] == "sample" and site["infer"].get("charged")
        ]
        noise = [site for site in charged if "proposal" in site["infer"]]
        decisions = [site for site in charged if "labels" in site["infer"]]
        if not (noise or decisions):
            return latent, None
        other = latent
        if noise:
            eps = pyro.sample("wander", noise[-1]["fn"])
            other = other._replace(h=(noise[-1]["infer"]["proposal"] + eps).to(latent.h.dtype))
        if decisions:
            prior, infer = decisions[-1]["fn"].base_dist, decisions[-1]["infer"]
            tempered = AsyncCategorical(logits=prior.logits / self.temperature, validate_args=False)
            part = pyro.sample("wander_decision", tempered.to_event(1))
            other = other._replace(candidates=infer["candidates"] & (infer["labels"] == part[..., None]))
        device = latent.h.device
        draws = chance(lambda rows, generator: torch.rand(rows, generator=generator, device=device), len(latent.h))
        chosen = draws < self.scheduled_sampling
        pairs = zip(latent.parts, other.parts, strict=True)
        return Latent(*(torch.where(chosen[:, None, None], new, old) for old, new in pairs)), chosen
