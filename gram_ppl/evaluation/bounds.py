"""Bounds on log p(y | x) of single examples, in nats: what a trained program and its guide are worth as a likelihood.

A trajectory τ drawn from the guide has the weight w = p(y, τ | x) / q(τ | x, y), and

    ELBO = E[log w]  ≤  IWAE_K = E[log mean of K weights]  ≤  log p(y | x)

where IWAE_K rises with K (eq. 13; importance-weighted bound of arXiv 1509.00519). All of them run the whole
trajectory from z_0 with y observed once; sites at which the guide is the prior cancel. Everything is evaluated without
gradients and without autocast, in the precision of the model's weights. Randomness is that of torch's global generator.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor

from ..program.model import Program, rows_at_once
from ..program.objective import SegmentELBO, analytic_kl
from ..program.poutine import Record
from ..runtime.arguments import whole
from ..runtime.precision import VALIDATIONS

LEAST_WEIGHTS = 100  # fewer say nothing about a tail


def log_weights(
    model: Any,
    guide: Any,
    x: Tensor | None,
    y: Tensor,
    *,
    num_particles: int,
    steps: int | None = None,
    chunk: int | None = None,
) -> Tensor:
    """log p(y, τ | x) − log q(τ | x, y) of K trajectories of each example, ``[K, B]`` nats.

    Particles are folded into the batch and run ``chunk`` rows at a time, so memory does not grow with K.

    Args:
        model: the program; handlers over it are kept.
        guide: a :class:`gram_ppl.Guide`, a Pyro guide ``guide(x, y, steps=...)`` that takes its batch size from its
            arguments, or None for the prior. Its samples must be those of its densities, which
            :class:`gram_ppl.models.NoVariance` breaks.
        x: inputs ``[B, L_in]``; None for the unconditional model.
        y: answers ``[B, L_out]``.
        num_particles: K.
        steps: supervision steps; the model's N_sup if not given.
        chunk: rows of a batch; by default as many as fit the processor's cache, or plenty on CUDA.

    Raises:
        ValueError: a number below 1, x and y that don't fit, or a guide whose sites don't fit the model's.
    """

    def weigh(x: Tensor | None, y: Tensor) -> Tensor:
        weight, sites = site_terms(model, guide, x, y, steps=steps)
        for q, p, value in sites.values():
            weight = weight + (p.log_prob(value) - q.log_prob(value))
        return weight

    return _fold(weigh, model, x, y, num_particles=num_particles, steps=steps, chunk=chunk)


def from_weights(log_weights: Tensor, num_particles: int) -> Tensor:
    """IWAE with k particles from K ≥ k weights, ``[K, B] -> [B]``: the mean over K // k groups; k = 1 is the ELBO.

    >>> weights = torch.tensor([[1.0], [3.0]]).log()
    >>> [round(gp.bounds.from_weights(weights, k).exp().item(), 3) for k in (1, 2)]  # geometric and arithmetic mean
    [1.732, 2.0]

    Raises:
        ValueError: k is not between 1 and K.
    """
    total = log_weights.shape[0]
    if not 1 <= num_particles <= total:
        raise ValueError(f"num_particles must be between 1 and the {total} weights given, got {num_particles}")
    groups = log_weights[: total - total % num_particles].unflatten(0, (-1, num_particles))
    return (groups.logsumexp(dim=1) - math.log(num_particles)).mean(dim=0)


def elbo(
    model: Any, guide: Any, x: Tensor | None, y: Tensor, *, num_particles: int = 100, **options: int | None
) -> Tensor:
    """The bound of eq. 13, ``[B]`` nats: the mean of K log weights.

    Plain Monte Carlo, no analytic KL: its error vanishes where the guide is the exact posterior, and with the same
    seed it is never above :func:`iwae`. For arguments and errors see :func:`log_weights`.
    """
    return from_weights(log_weights(model, guide, x, y, num_particles=num_particles, **options), 1)


def iwae(
    model: Any, guide: Any, x: Tensor | None, y: Tensor, *, num_particles: int = 100, **options: int | None
) -> Tensor:
    """The importance-weighted bound with K particles (arXiv 1509.00519), ``[B]`` nats.

    One draw of it: its expectation is the bound, a single draw may lie above log p(y | x). For arguments and errors
    see :func:`log_weights`.
    """
    return from_weights(log_weights(model, guide, x, y, num_particles=num_particles, **options), num_particles)


def log_prob(model: Any, x: Tensor | None, y: Tensor, *, num_samples: int = 1000, **options: int | None) -> Tensor:
    """Monte Carlo log p(y | x) = log mean_i p(y | h_T^(i)) over N trajectories of the prior, ``[B]`` nats.

    IWAE with the prior as guide: good where a fair share of the trajectories decode to y, far too low where none does.
    For arguments and errors see :func:`log_weights`.
    """
    return iwae(model, None, x, y, num_particles=num_samples, **options)


def kl(
    model: Any, guide: Any, x: Tensor | None, y: Tensor, *, num_particles: int = 10, **options: int | None
) -> dict[str, Tensor]:
    """KL(q ‖ p) of each site at which the guide is not the prior, ``[B]`` nats, by name of the site.

    Analytic where the families have one, else from the sample; mean over K trajectories of the guide. Their sum is
    the KL of eq. 13. For arguments and errors see :func:`log_weights`.
    """
    names: list[str] = []

    def divergences(x: Tensor | None, y: Tensor) -> Tensor:
        weight, sites = site_terms(model, guide, x, y, steps=options.get("steps"))
        names[:] = sites
        return torch.stack([analytic_kl(*site) for site in sites.values()]) if sites else weight.new_zeros(0, len(y))

    found = _fold(divergences, model, x, y, num_particles=num_particles, **options).mean(dim=-2)
    return dict(zip(names, found, strict=True))


def surrogate(
    model: Any, guide: Any, x: Tensor | None, y: Tensor, *, num_particles: int = 10, **options: int | None
) -> Tensor:
    """What training maximizes at β = 1, ``[B]`` nats: eq. 14, averaged over the supervision steps (figure 8).

    Each step n counts log p(y | h_T⁽ⁿ⁾) minus the KL charged in it, along trajectories of the guide; it is no bound. Of
    models that decide, a step is what leads to a decision. For arguments and errors see :func:`log_weights`.
    """
    program: Any = poutine.unwrap(model)
    steps = options.get("steps")
    block = program.block or 1 if isinstance(program, Program) else 1
    number = (program.supervision if steps is None else steps) // block

    def value(x: Tensor | None, y: Tensor) -> Tensor:
        latent, total = None, torch.zeros(())
        for _ in range(number):
            model_trace, guide_trace, (latent, _) = _run(model, guide, x, y, latent=latent, steps=block)
            nll, charged, _ = SegmentELBO().terms(model_trace, guide_trace)
            total = total - (nll + charged) / number
        return total

    return _fold(value, model, x, y, num_particles=num_particles, **options).mean(dim=0)


def pareto_k(log_weights: Tensor) -> Tensor:
    """Shape k of the generalized Pareto tail of each example's weights, ``[K, B] -> [B]``, by ArviZ.

    Up to 0.7 the importance-weighted estimate can be trusted; above it a few weights decide and the estimate is too
    low (Pareto-smoothed importance sampling, arXiv 1507.02646). −∞ where the largest weights are equal to a
    thousandth, so that there is no tail; ∞ where they differ by more than floating-point numbers can hold.

    Raises:
        ValueError: fewer than 100 weights, or another shape.
    """
    if log_weights.dim() != 2 or log_weights.shape[0] < LEAST_WEIGHTS:
        shape = list(log_weights.shape)
        raise ValueError(f"log_weights must have shape [K, B] with K at least {LEAST_WEIGHTS}, got {shape}")
    rows = log_weights.detach().T.cpu().double()
    total = rows.shape[1]
    tail = math.ceil(min(total / 5, 3 * total**0.5)) + 1
    largest = rows.topk(tail, dim=1).values
    width = largest[:, 0] - largest[:, -1]
    k = torch.where(width < 1e-3, -torch.inf, torch.inf).to(rows)
    fits = (width >= 1e-3) & (width < 700)
    if fits.any():
        k[fits] = torch.from_numpy(_psis(rows[fits].numpy()))
    k[width.isnan()] = torch.nan
    return k.to(log_weights)


def _psis(log_weights: np.ndarray) -> np.ndarray:
    """Pareto k of each row, by ArviZ 0.23 or 1.x; the latter takes the negative of the log weights."""
    import arviz

    if hasattr(arviz, "psislw"):
        return np.asarray(arviz.psislw(log_weights)[1])
    array_stats = importlib.import_module("arviz_stats.base").array_stats
    return np.asarray(array_stats.psislw(-log_weights)[1])


def _run(model: Any, guide: Any, x: Tensor | None, y: Tensor, **options: Any) -> tuple[Any, Any, Any]:
    """Model trace, guide trace, what the model returned; the guide None is the prior."""
    if guide is None:
        trace = Record()(model).get_trace(x, y, **options)
        return trace, Trace(), trace.nodes["_RETURN"]["value"]
    return SegmentELBO().run(model, guide, (x, y), options)


def site_terms(
    model: Any, guide: Any, x: Tensor | None, y: Tensor, *, steps: int | None
) -> tuple[Tensor, dict[str, tuple[Any, Any, Tensor]]]:
    """log p of what is observed, ``[B]``, and (q, p, value) of each latent site at which q is not p."""
    model_trace, guide_trace, _ = _run(model, guide, x, y, steps=steps)
    traces = prune_subsample_sites(model_trace), prune_subsample_sites(guide_trace)
    nodes, latents = (dict[str, Any](trace.nodes) for trace in traces)
    observed = [site for site in nodes.values() if site["type"] == "sample" and site["is_observed"]]
    log_likelihood = torch.stack([site["fn"].log_prob(site["value"]) for site in observed]).sum(dim=0)
    sites = {}
    for name, site in latents.items():
        if site["type"] != "sample" or site["is_observed"]:
            continue
        q, value = site["fn"], site["value"]
        if site["mask"] is not None or (isinstance(site["scale"], float) and site["scale"] != 1):
            raise ValueError(f"a handler around the guide scales or masks {name!r}, so this is no bound")
        if name not in nodes:
            raise ValueError(f"the guide samples {name!r}, which the model doesn't have")
        if q.batch_shape != (len(y),):
            raise ValueError(
                f"the guide's batch at {name!r} is {list(q.batch_shape)}, expected [{len(y)}]: "
                "particles are folded into the batch, so take its size from x or y"
            )
        if q is not nodes[name]["fn"]:
            sites[name] = (q, nodes[name]["fn"], value)
    return log_likelihood, sites


@torch.no_grad()
def _fold(
    value: Callable[[Tensor | None, Tensor], Tensor],
    model: Any,
    x: Tensor | None,
    y: Tensor,
    *,
    num_particles: int,
    steps: int | None = None,
    chunk: int | None = None,
) -> Tensor:
    """``value(x, y)``, ``[..., rows]``, of K particles of each example, a chunk of rows at a time: ``[..., K, B]``."""
    whole(num_particles=num_particles, steps=steps, chunk=chunk)
    program: Any = poutine.unwrap(model)
    if isinstance(program, Program):
        x, y, _ = program.given(x, y, read=True)  # type: ignore[assignment]
    if y.dim() != 2 or (x is not None and (x.dim() != 2 or len(x) != len(y))):
        found = "None" if x is None else list(x.shape)
        raise ValueError(f"x and y must have shapes [B, L_in] and [B, L_out], got {found} and {list(y.shape)}")
    device = next(program.parameters()).device
    x, y = None if x is None else x.to(device), y.to(device)
    chunk = chunk or rows_at_once(program, max(y.shape[1], 0 if x is None else x.shape[1]))
    parts = []
    with precise(device):
        for rows in torch.arange(num_particles * len(y), device=device).split(chunk):
            index = rows % len(y)
            parts.append(value(None if x is None else x[index], y[index]))
    return torch.cat(parts, dim=-1).unflatten(-1, (num_particles, len(y)))


@contextmanager
def precise(device: torch.device) -> Iterator[None]:
    """Within: no autocast, full float32 products, no validation of distributions; all restored afterwards."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with pyro.settings.context(**dict.fromkeys(VALIDATIONS, False)), torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
