"""Answers from the prior: the one rollout loop, and solving by rollout and selection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .numerics import fast
from .select import MajorityVote, Selector
from .state import Answers, Rollouts
from .tasks.base import Task


@torch.no_grad()
def rollout(
    model: nn.Module, x: Tensor, *, num_samples: int = 20, steps: int | None = None, chunk: int | None = None
) -> Rollouts:
    """N trajectories of the prior for each input, decoded after the last supervision step.

    Trajectories are folded into the batch and run ``chunk`` rows at a time, so memory does not grow with N.
    Randomness is that of torch's global generator.

    Args:
        model: the program p(y, τ | x).
        x: inputs, ``[B, L_in]``.
        num_samples: N.
        steps: supervision steps, any number; the model's N_sup if not given.
        chunk: rows of a batch; by default as many as fit the processor's cache, or plenty on CUDA.

    Raises:
        ValueError: ``num_samples``, ``steps`` or ``chunk`` is less than 1, or x is not ``[B, L_in]``.
    """
    for name, value in (("num_samples", num_samples), ("steps", steps), ("chunk", chunk)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if x.dim() != 2:
        raise ValueError(f"x must have shape [B, L_in], got {tuple(x.shape)}")
    program: Any = model
    device = next(model.parameters()).device
    rows = x.to(device).repeat_interleave(num_samples, dim=0)
    length = x.shape[1] or program.spec.len_out
    chunk = chunk or max(1, (2048 if device.type == "cpu" else 1 << 18) // length)
    tokens, log_prob = [], []
    with fast(device):
        for part in rows.split(chunk):
            z, _ = program(part, steps=steps)
            best = program.answer(z.h).base_dist.logits.log_softmax(dim=-1).max(dim=-1)
            tokens.append(best.indices)
            log_prob.append(best.values.sum(dim=-1))
    shape = (x.shape[0], num_samples)
    return Rollouts(torch.cat(tokens).view(*shape, -1), torch.cat(log_prob).view(shape))


def generate(model: nn.Module, *, num_samples: int = 100, steps: int | None = None) -> Tensor:
    """Samples of the unconditional model, ``[N, L_out]`` int64: the same program with the empty embedding.

    Args:
        model: the program, trained with ``x=None`` or on :class:`gram_ppl.tasks.Unconditional`.
        num_samples: N.
        steps: supervision steps; the model's N_sup if not given.
    """
    nothing = torch.zeros(1, 0, dtype=torch.long)
    return rollout(model, nothing, num_samples=num_samples, steps=steps).tokens[0]


def solve(
    model: nn.Module,
    task: Task,
    x: Tensor,
    *,
    num_samples: int = 20,
    steps: int | None = None,
    select: Selector | None = None,
) -> Answers:
    """Roll out N trajectories and select one answer for each input.

    Args:
        model: the program.
        task: its verifier says which answers hold.
        x: inputs, ``[B, L_in]`` or one input ``[L_in]``.
        num_samples: N.
        steps: supervision steps; the model's N_sup if not given.
        select: how to choose among the N; :class:`gram_ppl.select.MajorityVote` if not given.
    """
    x = x if x.dim() > 1 else x[None]
    out = rollout(model, x, num_samples=num_samples, steps=steps)
    x = x.to(out.tokens.device)
    index, score = (select or MajorityVote())(task, x, out)
    tokens = out.tokens[torch.arange(x.shape[0], device=x.device), index]
    return Answers(tokens, task.verify(x, tokens), score, index, out)
