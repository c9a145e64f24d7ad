"""The one rollout loop: trajectories of the prior, decoded."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..program.model import Program, rows_at_once
from ..program.poutine import Streams
from ..runtime.precision import fast
from ..state import Latent, Rollouts, Step
from .chains import chains
from .options import Options, first_seed
from .strides import Strides


def trajectories(model: nn.Module, x: Tensor, **options: Any) -> Generator[Step, None, None]:
    """N trajectories of the prior for each input, all in one batch, yielded after every supervision step.

    Ends early when all trajectories have halted. Those of models that decide run on, and begin again nowhere.

    Args:
        model, x: as for :func:`rollout`, which gives the same trajectories for the same seed.
        options: the fields of :class:`gram_ppl.inference.options.Options` but ``chunk`` and ``shares``.
    """
    for name in ("chunk", "shares"):
        if name in options:
            raise TypeError(f"trajectories run all in one batch and take no {name}")
    x, how = checked(model, x, options, read=not (isinstance(x, Tensor) and x.is_cuda))
    rows = x.to(next(model.parameters()).device).repeat_interleave(how.num_samples, dim=0)
    streams = Streams(first_seed(how.seed), 0, len(rows), rows.device)
    strides = Strides(model, how, rows.device)
    for step, _ in _walk(strides, rows, streams, range(1, how.depth(model) + 1), how, batch=len(x)):
        yield step


def rollout(model: nn.Module, x: Tensor, **options: Any) -> Rollouts:
    """N trajectories of the prior for each input, decoded after the last supervision step of each.

    Trajectories are folded into the batch and run ``chunk`` rows at a time, so memory does not grow with N; those
    that halt leave the batch. On the CPU every trajectory has its own stream of noise, so that neither chunks nor
    halting change what it does (but for rounding); on CUDA chunks do.

    Args:
        model: the program p(y, τ | x).
        x: inputs, ``[B, L_in]``.
        options: ``num_samples``, ``steps``, ``halt``, ``noise``, ``seed`` and the other fields of
            :class:`gram_ppl.inference.options.Options`.

    Raises:
        ValueError: a number less than 1, or an x that :meth:`gram_ppl.Program.given` refuses.
        TypeError: the model is no :class:`gram_ppl.Program`, or an option has another name.
    """
    (x, how), program = checked(model, x, options), cast(Any, model)
    device, steps = next(model.parameters()).device, how.depth(model)
    chunk = how.chunk or rows_at_once(program, x.shape[1] or program.spec.len_out)
    seed, total = first_seed(how.seed), len(x) * how.num_samples
    if program.block is not None:
        return _chained(program, x.to(device), how, chunk)
    asked = range(1 if how.retry else min(how.halt.first, steps), steps + 1)
    parts, strides = [], Strides(program, how, device)
    mine = torch.arange(total) if how.shares is None else how.shares.some(total)
    for index in mine.to(x.device).split(chunk):
        rows = x[index // how.num_samples].to(device)
        streams = Streams(seed, int(index[0]), len(rows), device)
        *_, (step, ran) = _walk(strides, rows, streams, asked, how, batch=1)
        parts.append((step.tokens, step.log_prob, ran, step.residual, step.halt, step.value))
    whole = Rollouts(*(_each(lambda *some: torch.cat(some, dim=1), *fields) for fields in zip(*parts, strict=True)))
    if (shares := how.shares) is not None:
        whole = Rollouts(*(_each(lambda field: shares.gathered(field[0])[None, :total], field) for field in whole))
    return shaped(whole, len(x))


def _chained(program: Any, x: Tensor, how: Options, chunk: int) -> Rollouts:
    """The trajectories of a model that decides; processes share the inputs, or the trajectories of the only one."""
    if how.shares is None or how.shares.world == 1:
        return chains(program, x, how, chunk)
    shares = how.shares
    alone = len(x) == 1
    mine = shares.some(how.num_samples if alone else len(x)).to(x.device)
    seed = first_seed(how.seed) + shares.rank * how.num_samples * len(mine)
    part = replace(how, num_samples=len(mine)) if alone else how
    found = chains(program, x if alone else x[mine], replace(part, seed=seed), chunk)
    rows = (_each(lambda field: shares.gathered(field[0] if alone else field), field) for field in found)
    cut = how.num_samples if alone else len(x)
    return Rollouts(*(_each(lambda field: field[None, :cut] if alone else field[:cut], field) for field in rows))


def checked(model: Any, x: Any, options: dict[str, Any], *, read: bool = True) -> tuple[Tensor, Options]:
    """Inputs as tokens ``[B, L_in]``, and the options; for arguments and errors see :func:`rollout`."""
    if not isinstance(model, Program):
        raise TypeError(f"a rollout needs a gp.Program, and {type(model).__name__} is none")
    known = [field.name for field in fields(Options)]
    if unknown := options.keys() - {*known}:
        raise TypeError(f"a rollout runs where its model is and takes {', '.join(known)}; not {', '.join(unknown)}")
    return cast(Tensor, model.given(x, read=read)[0]), Options(**options)


def _each(change: Callable[..., Any], *tensors: Tensor | None) -> Any:
    """``change`` of tensors that may be absent; they are all there, or none is."""
    return None if tensors[0] is None else change(*tensors)


def shaped(rollouts: Rollouts, batch: int) -> Rollouts:
    """``B · N`` trajectories in whatever two dimensions, as ``[B, N]``."""
    return Rollouts(*(_each(lambda field: field.reshape(batch, -1, *field.shape[2:]), field) for field in rollouts))


@torch.no_grad()
def _walk(
    strides: Strides, x: Tensor, streams: Streams, asked: range, how: Options, *, batch: int
) -> Iterator[tuple[Step, Tensor]]:
    """Rows ``[B·N, L_in]`` through the program; at the supervision steps asked for, where they stand and how far each
    has come, ``[B, N]``. Rows that have halted stay as they are and cost nothing, but in a graph."""
    program, streams = strides.program, strides.drawing(streams)

    def initial(rows: Tensor) -> Latent:
        z: Latent = program.begin(rows, len(rows))
        return z._replace(h=streams.normal(z.h), l=streams.normal(z.l)) if how.restart else z

    latent = initial(x)
    chance = streams.gumbel(program.decode(latent).base_dist.logits) if how.sample else None  # [B·N, L_out, vocab_out]
    running = torch.ones(batch, len(x) // batch, dtype=torch.bool, device=x.device)
    ran = torch.zeros_like(running, dtype=torch.int64)
    active: Tensor | None = None  # rows in the batch, all if None
    state: list[Tensor | None] = []  # of all rows
    memory: Any = None
    for before, number in pairwise((0, *asked)):
        some = None if strides.graphed else active  # rows that run
        z = latent if some is None else latent.rows(some)
        rows = x if some is None else x[some]
        streams.present = some
        if how.retry and before and before % how.retry == 0:
            z = initial(rows)
        with fast(x.device), streams, how.noise or nullcontext():
            if number - before > 1:
                z = strides(rows, z, number - before - 1, before)
            old, z = z, strides(rows, z, 1, number - 1)
            logits = program.decode(z).base_dist.logits
            lucky = 0 if chance is None else chance if some is None else chance[some]
            tokens = (logits + lucky).argmax(dim=-1)
            log_prob = logits.gather(-1, tokens[..., None])[..., 0].sum(dim=-1)
            halt_and_value = program.judge(z.h) or (None, None)
        residual = (z.h - old.h).square().mean(dim=(1, 2)).sqrt()
        new = [*z, tokens, log_prob, residual, *halt_and_value]
        if active is not None and some is None:
            new = [None if field is None else field[active] for field in new]
        state = new if active is None else [_updated(*pair, active) for pair in zip(state, new, strict=True)]
        latent = Latent(*cast(Any, state[: len(z)]))
        ran = torch.where(running, number, ran)
        shown = (_each(lambda field: field.view(batch, -1, *field.shape[1:]), field) for field in state[len(z) :])
        tokens, log_prob, residual, logit, value = shown
        step = Step(number, latent, tokens, log_prob, residual, running, logit, value)
        if number >= how.halt.first:
            stop, memory = how.halt(step, memory)
            running = running & ~stop
            step = step._replace(running=running)
            active = None if running.all() else running.flatten().nonzero()[:, 0]
        yield step, ran
        if active is not None and not len(active):
            return


def _updated(whole: Tensor | None, part: Tensor | None, rows: Tensor) -> Tensor | None:
    return _each(lambda whole, part: whole.index_copy(0, rows, part), whole, part)
