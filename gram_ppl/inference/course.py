"""The course of N trajectories of one input, as somebody who watches sees it: guesses, decisions, new beginnings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .chains import Pool
from .options import Options, first_seed
from .rollout import trajectories


class Moment(NamedTuple):
    """Where N trajectories stand; those that have ended stay as they were."""

    number: int  # supervision steps run so far
    tokens: Tensor  # [N, L_out] int64, the decoder's most probable ones
    confidence: Tensor  # [N, L_out] their probability
    candidates: Tensor | None  # [N, L_out, V] bool, what the tokens may still be; None of models that don't decide
    changed: Tensor  # [N, L_out] bool: another token than a step ago, or fewer candidates than before the decision
    running: Tensor  # [N] bool: neither halted nor answered nor at the end of its budget
    answered: Tensor  # [N] bool: the tokens are its answer
    again: Tensor  # [N] bool: contradicts itself, or has not halted in time; begins again where steps are left


def course(model: nn.Module, x: Tensor, **options: Any) -> Iterator[Moment]:
    """N trajectories of one input ``[L_in]``: after every supervision step or, of models that decide, every decision.

    They are those of :func:`gram_ppl.rollout` under the same seed, all in one batch.

    Args:
        model: the program.
        x: the input; ``[0]`` for boards from nothing.
        options: the fields of :class:`gram_ppl.inference.options.Options` but ``chunk`` and ``shares``.
    """
    program: Any = model
    return (_walking if program.block is None else _deciding)(program, x, Options(**options), options)


@torch.no_grad()
def _deciding(program: Any, x: Tensor, how: Options, _: dict[str, Any]) -> Iterator[Moment]:
    num, device = how.num_samples, next(program.parameters()).device
    pool = Pool(program, x[None].to(device), how, first_seed(how.seed), num)
    begun = program.begin(pool.x, 1).sets.repeat(num, 1, 1)
    state = [begun.int().argmax(dim=-1), 1 / begun.sum(dim=-1), begun]
    for number, move in enumerate(pool.moves(), 1):
        rows = move.rows
        for whole, part in zip(state, (move.tokens, move.log_prob.exp(), move.candidates), strict=True):
            whole[rows] = part.to(whole)
        changed = torch.zeros_like(begun[..., 0])
        changed[rows] = (move.before != move.candidates).any(dim=-1)
        running, again = torch.zeros(2, num, dtype=torch.bool, device=device)
        running[pool.rows] = True
        again[rows] = move.wrong
        tokens, confidence, held = (part.clone() for part in state)
        answered = pool.answered.clone()
        yield Moment(number * program.block, tokens, confidence, held, changed, running, answered, again)


@torch.no_grad()
def _walking(program: Any, x: Tensor, how: Options, options: dict[str, Any]) -> Iterator[Moment]:
    before, last = None, how.depth(program)
    for step in trajectories(program, x[None], **options):
        tokens = step.tokens[0]
        probs = program.decode(step.latent).base_dist.probs
        confidence = probs.gather(-1, tokens[..., None])[..., 0]
        changed = torch.zeros_like(tokens, dtype=torch.bool) if before is None else tokens != before
        running = step.running[0] & (step.number < last)
        again = running & (how.retry is not None and step.number % how.retry == 0)
        yield Moment(step.number, tokens, confidence, None, changed, running, ~running, again)
        before = tokens
