"""Answers from the prior: the one rollout loop, and solving by rollout and selection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ..program.poutine import Anneal, Streams, Temperature
from ..runtime.precision import fast
from ..runtime.processes import Shares
from ..state import Answers, Latent, Rollouts, Step
from ..tasks.base import Task
from .halt import Halt, Never
from .select import MajorityVote, MostConfident, Selector


def trajectories(
    model: nn.Module,
    x: Tensor,
    *,
    num_samples: int = 20,
    steps: int | None = None,
    halt: Halt = Never(),  # noqa: B008 (frozen)
    noise: Messenger | None = None,
    restart: bool = False,
    sample: bool = False,
    retry: int | None = None,
    seed: int | None = None,
) -> Iterator[Step]:
    """N trajectories of the prior for each input, all in one batch, yielded after every supervision step.

    Args and errors: see :func:`rollout`, which gives the same trajectories for the same seed. Ends early when all
    trajectories have halted.
    """
    program, steps = _checked(model, x, num_samples=num_samples, steps=steps, retry=retry)
    rows = x.to(next(model.parameters()).device).repeat_interleave(num_samples, dim=0)
    streams = Streams(_start(seed), 0, len(rows), rows.device)
    asked = range(1, steps + 1)
    options: Any = {"halt": halt, "noise": noise, "restart": restart, "sample": sample, "retry": retry}
    for step, _ in _walk(program, rows, streams, asked, batch=len(x), **options):
        yield step


def rollout(
    model: nn.Module,
    x: Tensor,
    *,
    num_samples: int = 20,
    steps: int | None = None,
    chunk: int | None = None,
    halt: Halt = Never(),  # noqa: B008 (frozen)
    noise: Messenger | None = None,
    restart: bool = False,
    sample: bool = False,
    retry: int | None = None,
    seed: int | None = None,
    shares: Shares | None = None,
) -> Rollouts:
    """N trajectories of the prior for each input, decoded after the last supervision step of each.

    Trajectories are folded into the batch and run ``chunk`` rows at a time, so memory does not grow with N; those
    that halt leave the batch. On the CPU every trajectory has its own stream of noise, so that neither chunks nor
    halting change what it does (but for rounding); on CUDA chunks do.

    Args:
        model: the program p(y, τ | x).
        x: inputs, ``[B, L_in]``.
        num_samples: N.
        steps: supervision steps, any number; the model's :func:`depth`, N_sup, if not given.
        chunk: rows of a batch; by default as many as fit the processor's cache, or plenty on CUDA.
        halt: when a trajectory stops before ``steps``; see :mod:`gram_ppl.halt`.
        noise: a handler to run under, as :class:`gram_ppl.poutine.Temperature`.
        restart: draw z_0 anew from N(0, I) for each trajectory, instead of the model's.
        sample: draw the tokens of each trajectory from p(y | h) instead of taking the most probable ones. A trajectory
            has one set of random numbers for it, so that its answer is the same while its state stands still.
        retry: supervision steps after which a trajectory that has not halted begins again at z_0, with new noise; the
            answer of its last try counts.
        seed: of the noise; drawn from torch's global generator if not given.
        shares: processes that share the trajectories. All of them call, with the same seed, and each gets all.

    Raises:
        ValueError: ``num_samples``, ``steps``, ``chunk`` or ``retry`` is less than 1, or x is not ``[B, L_in]``.
    """
    program, steps = _checked(model, x, num_samples=num_samples, steps=steps, chunk=chunk, retry=retry)
    device = next(model.parameters()).device
    chunk = chunk or max(1, (2048 if device.type == "cpu" else 1 << 18) // (x.shape[1] or program.spec.len_out))
    seed, total = _start(seed), len(x) * num_samples
    asked = range(1 if retry else min(halt.first, steps), steps + 1)
    options: Any = {"halt": halt, "noise": noise, "restart": restart, "sample": sample, "retry": retry}
    parts = []
    mine = torch.arange(total) if shares is None else shares.some(total)
    for index in mine.to(x.device).split(chunk):
        rows = x[index // num_samples].to(device)
        streams = Streams(seed, int(index[0]), len(rows), device)
        *_, (step, ran) = _walk(program, rows, streams, asked, batch=1, **options)
        parts.append((step.tokens, step.log_prob, ran, step.residual, step.halt, step.value))
    whole = Rollouts(*(_each(lambda *some: torch.cat(some, dim=1), *fields) for fields in zip(*parts, strict=True)))
    if shares is not None:
        whole = Rollouts(*(_each(lambda field: shares.gathered(field[0])[None, :total], field) for field in whole))
    return _shaped(whole, len(x))


def _each(change: Callable[..., Any], *tensors: Tensor | None) -> Any:
    """``change`` of tensors that may be absent; they are all there, or none is."""
    return None if tensors[0] is None else change(*tensors)


def _shaped(rollouts: Rollouts, batch: int) -> Rollouts:
    """``B · N`` trajectories in whatever two dimensions, as ``[B, N]``."""
    return Rollouts(*(_each(lambda field: field.reshape(batch, -1, *field.shape[2:]), field) for field in rollouts))


def _checked(model: Any, x: Tensor, *, steps: int | None, **numbers: int | None) -> tuple[Any, int]:
    for name, value in {"steps": steps, **numbers}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if x.dim() != 2:
        raise ValueError(f"x must have shape [B, L_in], got {tuple(x.shape)}")
    return model, depth(model) if steps is None else steps


def depth(model: Any) -> int:
    """Supervision steps of a trajectory: N_sup, or the model's own ``depth`` where it ends by itself."""
    return int(model.supervision if model.depth is None else model.depth)


def _start(seed: int | None) -> int:
    """Where the rows' seeds start: far apart for neighbouring seeds."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return int(torch.randint(2**62, (), generator=generator))


@torch.no_grad()
def _walk(
    program: Any,
    x: Tensor,
    streams: Streams,
    asked: range,
    *,
    batch: int,
    halt: Halt,
    noise: Messenger | None,
    restart: bool,
    sample: bool,
    retry: int | None,
) -> Iterator[tuple[Step, Tensor]]:
    """Rows ``[B·N, L_in]`` through the program; at the supervision steps asked for, where they stand and how far each
    has come, ``[B, N]``. Rows that have halted stay as they are and cost nothing."""

    def initial(rows: int) -> Latent:
        z = program.initial(rows)
        return Latent(*(streams.normal(part) for part in z)) if restart else z

    latent = initial(len(x))
    chance = streams.gumbel(program.answer(latent.h).base_dist.logits) if sample else None  # [B·N, L_out, vocab_out]
    running = torch.ones(batch, len(x) // batch, dtype=torch.bool, device=x.device)
    ran = torch.zeros_like(running, dtype=torch.int64)
    active: Tensor | None = None  # rows in the batch, all if None
    state: list[Tensor | None] = []  # of all rows
    memory: Any = None
    for before, number in pairwise((0, *asked)):
        z = latent if active is None else Latent(*(part[active] for part in latent))
        rows = x if active is None else x[active]
        streams.present = active
        if retry and before and before % retry == 0:
            z = initial(len(rows))
        with fast(x.device), streams, noise or nullcontext():
            if number - before > 1:
                z, _ = program(rows, latent=z, steps=number - before - 1, start=before)
            old, (z, _) = z, program(rows, latent=z, steps=1, start=number - 1)
            logits = program.answer(z.h).base_dist.logits
            lucky = 0 if chance is None else chance if active is None else chance[active]
            tokens = (logits + lucky).argmax(dim=-1)
            log_prob = logits.gather(-1, tokens[..., None])[..., 0].sum(dim=-1)
            halt_and_value = program.judge(z.h) or (None, None)
        residual = (z.h - old.h).square().mean(dim=(1, 2)).sqrt()
        new = [*z, tokens, log_prob, residual, *halt_and_value]
        state = new if active is None else [_updated(*pair, active) for pair in zip(state, new, strict=True)]
        latent = Latent(*cast(list[Tensor], state[:2]))
        ran = torch.where(running, number, ran)
        shown = (_each(lambda field: field.view(batch, -1, *field.shape[1:]), field) for field in state[2:])
        tokens, log_prob, residual, logit, value = shown
        step = Step(number, latent, tokens, log_prob, residual, running, logit, value)
        if number >= halt.first:
            stop, memory = halt(step, memory)
            running = running & ~stop
            step = step._replace(running=running)
            active = None if running.all() else running.flatten().nonzero()[:, 0]
        yield step, ran
        if active is not None and not len(active):
            return


def _updated(whole: Tensor | None, part: Tensor | None, rows: Tensor) -> Tensor | None:
    return _each(lambda whole, part: whole.index_copy(0, rows, part), whole, part)


def generate(
    model: nn.Module,
    *,
    num_samples: int = 100,
    steps: int | None = None,
    noise: Messenger | None = None,
    seed: int | None = None,
) -> Tensor:
    """Samples of the unconditional model, ``[N, L_out]`` int64: the same program with the empty embedding.

    Processes that ``torchrun`` or ``accelerate launch`` started share the samples: all of them call, with the same
    seed, and each gets all.

    Args:
        model: the program, trained with ``x=None`` or on :class:`gram_ppl.tasks.Unconditional`.
        num_samples: N.
        steps: supervision steps; the model's N_sup if not given.
        noise, seed: as for :func:`rollout`.
    """
    nothing = torch.zeros(1, 0, dtype=torch.long)
    shares = Shares(1, next(model.parameters()).device)
    options: Any = {"num_samples": num_samples, "steps": steps, "noise": noise, "seed": seed}
    return rollout(model, nothing, **options, shares=shares).tokens[0]


@dataclass(frozen=True)
class Mode:
    """What :func:`solve` does where it is told no more than a purpose.

    Args:
        depth: supervision steps, as a multiple of N_sup.
        first, last: factor on the noise in the first and in the last step, in equal steps between.
        select: the selector.
    """

    depth: int
    first: float
    last: float
    select: Selector

    def noise(self, steps: int) -> Temperature:
        """The handler for so many supervision steps."""
        return Temperature(self.first if self.first == self.last else Anneal(self.first, self.last, steps))


# The best on the validation splits of 4×4 Sudoku and of 8 queens alike (docs/inference.md).
MODES = {"accuracy": Mode(4, 0.5, 0.5, MostConfident()), "coverage": Mode(4, 1.5, 0.0, MajorityVote())}


def solve(
    model: nn.Module,
    task: Task,
    x: Tensor,
    *,
    num_samples: int = 20,
    steps: int | None = None,
    select: Selector | None = None,
    mode: str | None = None,
    halt: Halt = Never(),  # noqa: B008 (frozen)
    noise: Messenger | None = None,
    restart: bool = False,
    sample: bool = False,
    retry: int | None = None,
    seed: int | None = None,
    shares: Shares | None = None,
) -> Answers:
    """Roll out N trajectories and select one answer for each input.

    A selector with ``views`` (:class:`gram_ppl.select.SymmetryVote`) sees one trajectory of each of N versions of the
    input, its answers mapped back.

    Args:
        model: the program.
        task: its verifier says which answers hold.
        x: inputs, ``[B, L_in]`` or one input ``[L_in]``.
        num_samples: N.
        steps: supervision steps; those of the mode, or the model's N_sup, if not given.
        select: how to choose among the N; that of the mode, or :class:`gram_ppl.select.MajorityVote`, if not given.
        mode: ``"accuracy"`` for one right answer, ``"coverage"`` for many different ones (:data:`MODES`); what is
            given besides goes before it.
        halt, noise, restart, sample, retry, seed, shares: as for :func:`rollout`.

    Raises:
        ValueError: an unknown mode, or arguments that :func:`rollout` refuses.
    """
    if mode is not None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        preset, program = MODES[mode], cast(Any, model)
        steps = preset.depth * depth(program) if steps is None else steps
        noise = preset.noise(steps) if noise is None else noise
        select = select or preset.select
    select = select or MajorityVote()
    x = x if x.dim() > 1 else x[None]
    options: dict[str, Any] = {"steps": steps, "halt": halt, "noise": noise, "restart": restart, "sample": sample}
    options |= {"retry": retry, "seed": seed, "shares": shares}
    if hasattr(select, "views"):
        generator = torch.Generator().manual_seed(_start(seed))
        views, undo = select.views(task, x.cpu(), num_samples, generator)
        out = rollout(model, views.flatten(0, 1), num_samples=1, **options)
        out = _shaped(out, len(x))
        out = out._replace(tokens=undo(out.tokens.cpu()).to(out.tokens.device))
    else:
        out = rollout(model, x, num_samples=num_samples, **options)
    x = x.to(out.tokens.device)
    index, score = select(task, x, out)
    tokens = out.tokens[torch.arange(x.shape[0], device=x.device), index]
    return Answers(tokens, task.verify(x, tokens), score, index, out)
