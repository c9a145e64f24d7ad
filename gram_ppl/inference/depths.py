"""Rollouts at every depth: what N trajectories of the prior answer after 1, 2, ... S supervision steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..program.model import rows_at_once
from ..state import Rollouts
from .rollout import trajectories


def rollouts_by_depth(
    model: nn.Module,
    x: Tensor,
    *,
    num_samples: int = 20,
    steps: int | None = None,
    seed: int = 0,
    chunk: int | None = None,
) -> list[Rollouts]:
    """The n-th of S rollouts holds the same trajectories after n supervision steps; selectors take each of them.

    Args:
        model: the program.
        x: inputs, ``[B, L_in]``.
        num_samples: N.
        steps: S; the model's N_sup if not given.
        seed: of the noise.
        chunk: trajectories in a batch, at least one input's; by default as many as fit the processor's cache.

    Raises:
        ValueError: no input, or arguments that :func:`gram_ppl.rollout` refuses.
    """
    if x.dim() != 2 or not len(x):
        raise ValueError(f"x must have shape [B, L_in] with B at least 1, got {tuple(x.shape)}")
    program: Any = model
    chunk = chunk or rows_at_once(program, program.spec.len_out)
    parts = []
    for first, rows in enumerate(x.split(max(1, chunk // max(1, num_samples)))):
        course = trajectories(model, rows, num_samples=num_samples, steps=steps, seed=seed + first)
        parts.append([_rollouts(step) for step in course])
    return [_joined(group) for group in zip(*parts, strict=True)]


def _rollouts(step: Any) -> Rollouts:
    ran = torch.full_like(step.residual, step.number, dtype=torch.int64)
    return Rollouts(step.tokens, step.log_prob, ran, step.residual, step.halt, step.value)


def _joined(parts: tuple[Rollouts, ...]) -> Rollouts:
    fields = zip(*parts, strict=True)
    return Rollouts(*(None if field[0] is None else torch.cat(field) for field in fields))  # type: ignore[arg-type]
