"""Trajectories as ArviZ data: an ``InferenceData`` with ArviZ 0.23, a ``DataTree`` with ArviZ 1.x.

==================  ====================================================================================
group               what is in it
==================  ====================================================================================
``prior``           trajectories of p(τ | x)
``posterior``       trajectories of the guide q(τ | x, y)
``sample_stats``    of the latter: KL of each transition, log p(y | h) after each step, log weight
``observed_data``   y
``constant_data``   x
==================  ====================================================================================

A trajectory is one draw of one chain. The latent states, thousands of numbers for each, stay behind; kept is what they
decode to, how good it is, and what the heads say of it.

==================  ====================================================================================
dimension           coordinates
==================  ====================================================================================
``chain``           0
``draw``            trajectories, from 0
``example``         rows of x, from 0
``step``            supervision steps, from 1
``transition``      transitions of a step, from 1
``token``           tokens of the answer, from 0
``input_token``     tokens of the input, from 0
==================  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..evaluation.bounds import precise, site_terms
from ..inference.depths import rollouts_by_depth
from ..program.model import rows_at_once
from ..program.objective import analytic_kl
from ..state import Latent, Rollouts
from ..tasks.base import Task

AXES = ("chain", "draw", "example")
STATS = {"kl": ("step", "transition"), "log_likelihood": ("step",), "log_weight": ()}


def to_arviz(
    model: Any,
    guide: Any,
    task: Task,
    x: Tensor,
    y: Tensor | None = None,
    *,
    num_samples: int = 100,
    steps: int | None = None,
    seed: int = 0,
    chunk: int | None = None,
) -> Any:
    """Prior and posterior trajectories of some examples, for ArviZ's tables and plots.

    ``prior`` and ``posterior`` hold for each step ``tokens`` (argmax of the decoder), ``violations`` (of the task's
    constraints), ``log_prob`` (the decoder's confidence in its own tokens, nats), ``residual`` (root mean square change
    of h) and, for a model with heads, ``halt`` and ``value``, both probabilities.
    ``sample_stats`` holds ``kl`` (KL(q ‖ p) in nats, that of decisions among it, analytic where there is a form, zero
    where the guide is the prior), ``log_likelihood`` (log p(y | h) in nats) and ``log_weight``, log p(y, τ | x) −
    log q(τ | x, y), whose mean is the ELBO of eq. 13.

    Args:
        model: the program; handlers over it act on the posterior only.
        guide: its guide.
        task: counts violations.
        x: inputs, ``[B, L_in]``.
        y: an answer to each, ``[B, L_out]``; without it there is a prior and nothing else.
        num_samples: trajectories of each example, in either group.
        steps: supervision steps; the model's N_sup if not given.
        seed: of both groups; the global generator is left as it was.
        chunk: trajectories in a batch.

    Returns:
        ``arviz.InferenceData`` or ``xarray.DataTree``, as the installed ArviZ has it.

    Raises:
        ValueError: shapes that don't fit, a number below 1, or a guide whose sites don't fit the model's.
    """
    options: dict[str, Any] = {"num_samples": num_samples, "steps": steps, "seed": seed, "chunk": chunk}
    program: Any = poutine.unwrap(model)
    course = rollouts_by_depth(program, x, **options)
    groups = {"prior": _decoded(task, x, course)}
    if y is not None:
        if y.dim() != 2 or len(y) != len(x):
            raise ValueError(f"y must have shape [B, L_out] with B = {len(x)}, got {tuple(y.shape)}")
        course, stats = _posterior(model, guide, x, y, num_samples, len(course), seed, chunk)
        groups["posterior"] = _decoded(task, x, course)
        groups["sample_stats"] = {name: ((*AXES, *STATS[name]), _array(value)) for name, value in stats.items()}
        groups["observed_data"] = {"y": (("example", "token"), _array(y))}
    if x.shape[1]:
        groups["constant_data"] = {"x": (("example", "input_token"), _array(x))}
    return _wrapped({name: _dataset(variables) for name, variables in groups.items()})


def _decoded(task: Task, x: Tensor, course: list[Rollouts]) -> dict[str, Any]:
    """Variables of ``prior`` or ``posterior``: fields ``[B, N, ...]`` of S rollouts as ``[1, N, B, S, ...]``."""

    def stacked(value: Callable[[Rollouts], Tensor]) -> Any:
        return _array(torch.stack([value(out) for out in course], dim=2).transpose(0, 1)[None])

    device = course[0].tokens.device
    per_step = (*AXES, "step")
    found: dict[str, Any] = {
        "tokens": ((*per_step, "token"), stacked(lambda out: out.tokens)),
        "violations": (per_step, stacked(lambda out: task.violations(x.to(device)[:, None], out.tokens))),
        "log_prob": (per_step, stacked(lambda out: out.log_prob)),
        "residual": (per_step, stacked(lambda out: out.residual)),
    }
    if course[0].value is not None:
        found["halt"] = (per_step, stacked(lambda out: out.halt.sigmoid()))  # type: ignore[union-attr]
        found["value"] = (per_step, stacked(lambda out: out.value))  # type: ignore[arg-type,return-value]
    return found


class _States(Messenger):
    """Keeps the state after the last transition of every supervision step."""

    def __init__(self) -> None:
        super().__init__()
        self.z: list[Latent] = []

    def _pyro_post_transition(self, msg: Any) -> None:
        if msg["kwargs"]["charged"]:
            self.z.append(msg["value"])


@torch.no_grad()
def _posterior(
    model: Any, guide: Any, x: Tensor, y: Tensor, num: int, steps: int, seed: int, chunk: int | None
) -> tuple[list[Rollouts], dict[str, Tensor]]:
    """Rollouts of the guide after each step, and :data:`STATS` as ``[1, N, B, ...]``."""
    program: Any = poutine.unwrap(model)
    device = next(program.parameters()).device
    x, y = x.to(device), y.to(device)
    chunk = chunk or rows_at_once(program, y.shape[1])
    parts: list[list[Tensor]] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), precise(device):
        torch.manual_seed(seed)
        for rows in torch.arange(num * len(y), device=device).split(chunk):
            parts.append(_run(model, guide, x[rows % len(y)], y[rows % len(y)], steps))
    columns = [torch.cat(column).unflatten(0, (num, len(y))) for column in zip(*parts, strict=True)]
    tokens, log_prob, residual, log_likelihood, kl, log_weight, *heads = columns
    stats = {"kl": kl[None], "log_likelihood": log_likelihood[None], "log_weight": log_weight[None]}
    course = []
    for n in range(steps):
        halt, value = (head[:, :, n].T for head in heads) if heads else (None, None)
        ran = torch.full(log_weight.T.shape, n + 1, device=device)
        shown = tokens[:, :, n].transpose(0, 1), log_prob[:, :, n].T
        course.append(Rollouts(*shown, ran, residual[:, :, n].T, halt, value))
    return course, stats


def _run(model: Any, guide: Any, x: Tensor, y: Tensor, steps: int) -> list[Tensor]:
    """One pass of R rows: tokens ``[R, S, L_out]``; log p of the tokens, residual and log p of y ``[R, S]``; KL
    ``[R, S, T]``; log weight ``[R]``; halt logit and value ``[R, S]`` if there are heads."""
    program: Any = poutine.unwrap(model)
    with _States() as states:
        weight, sites = site_terms(model, guide, x, y, steps=steps)
    start, kl = program.initial(len(y)).h, weight.new_zeros(len(y), steps, program.transitions)
    for name, (q, p, value) in sites.items():
        weight = weight + (p.log_prob(value) - q.log_prob(value))
        kind, *place = name.split("_")
        if kind == "decision":  # in the transition that it follows
            kl[:, int(place[0]), -1] += analytic_kl(q, p, value)
            continue
        if kind != "eps" or len(place) != 2:
            raise ValueError(f"the guide samples {name!r}, expected sites eps_{{step}}_{{transition}}")
        kl[:, int(place[0]), int(place[1])] += analytic_kl(q, p, value)
    hs = [z.h for z in states.z]
    moves = [(after - before).square().mean(dim=(1, 2)).sqrt() for before, after in pairwise([start, *hs])]
    answers = [program.decode(z) for z in states.z]
    best = [answer.base_dist.logits.max(dim=-1) for answer in answers]
    columns = [
        torch.stack([found.indices for found in best], dim=1),
        torch.stack([found.values.sum(dim=-1) for found in best], dim=1),
        torch.stack(moves, dim=1),
        torch.stack([answer.log_prob(y) for answer in answers], dim=1),
        kl,
        weight,
    ]
    judged = [program.judge(h) for h in hs]
    if judged[0] is not None:
        columns += [torch.stack(head, dim=1) for head in zip(*judged, strict=True)]
    return columns


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _dataset(variables: dict[str, tuple[tuple[str, ...], np.ndarray]]) -> Any:
    """Named arrays as an ``xarray.Dataset``, with a coordinate for each dimension."""
    import xarray

    sizes = {name: size for dims, values in variables.values() for name, size in zip(dims, values.shape, strict=True)}
    first = {"step": 1, "transition": 1}
    coords = {name: np.arange(size) + first.get(name, 0) for name, size in sizes.items()}
    return xarray.Dataset(variables, coords)


def _wrapped(groups: dict[str, Any]) -> Any:
    """Datasets as the container of the installed ArviZ; that of 1.x is xarray's own tree."""
    import arviz
    import xarray

    if arviz.__version__ >= "1":
        return xarray.DataTree.from_dict(groups)
    return arviz.InferenceData(**groups)
