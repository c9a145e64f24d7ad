"""Trajectories of models that decide: each goes on until it has an answer, or begins again at a contradiction.

A trajectory without a contradiction whose tokens are all decided has found its answer; no verifier is asked, but the
network itself may be, again, under other symmetries. One that contradicts itself begins again with new noise. One whose
budget is spent has no answer. Rows of the batch that are done give their place to trajectories that wait for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..program.poutine import Streams
from ..runtime.precision import fast
from ..state import Latent, Rollouts, Symmetry, joined
from .options import Options, first_seed
from .strides import Strides

NONE = -1  # every token of an answer that was not found


class Move(NamedTuple):
    """What one decision did to the R rows in the batch."""

    rows: Tensor  # [R] which trajectories they are
    before: Tensor  # [R, L_out, V] bool: candidates before the decision
    candidates: Tensor  # [R, L_out, V] bool: and after it
    tokens: Tensor  # [R, L_out] int64: the decoder's most probable candidates
    log_prob: Tensor  # [R, L_out] their log p(token | h)
    answered: Tensor  # [R] bool: the tokens are the answer
    wrong: Tensor  # [R] bool: the row contradicts itself, and begins again


class Pool:
    """The rows in the batch, and what is known of all trajectories.

    Args:
        program: the model.
        x: the inputs, ``[B, L_in]``, on its device.
        how: options.
        seed: of the noise.
        size: rows of the batch.
    """

    def __init__(self, program: Any, x: Tensor, how: Options, seed: int, size: int) -> None:
        total, device = len(x) * how.num_samples, x.device
        self.program, self.x, self.how, self.size = program, x, how, size
        self.budget = max(1, how.depth(program) // program.block) * program.block
        self.strides = Strides(program, how, device)
        self.streams = self.strides.drawing(Streams(seed, 0, total, device))
        self.turns = torch.Generator().manual_seed(seed)
        there = how.symmetries is not None and how.symmetries(1, torch.Generator()) is not None
        self.views = how.views if there else 1
        self.waiting = torch.arange(total, device=device)
        if how.first_answer:  # a trajectory of each input before the second of any
            self.waiting = self.waiting.view(len(x), -1).T.flatten()
        self.rows = self.waiting[:0]  # [R] which trajectories are in the batch
        self.z: Latent | None = None  # their states
        self.tokens = torch.full((total, program.spec.len_out), NONE, device=device)
        self.log_prob, self.residual = torch.full((2, total), -torch.inf, device=device).unbind()
        self.heads: Tensor | None = None  # [2, total] halt logit and value, of a model with heads
        self.ran, self.restarts = torch.zeros(2, total, dtype=torch.int64, device=device).unbind()
        self.answered = torch.zeros(total, dtype=torch.bool, device=device)
        self.solved = torch.zeros(len(x), dtype=torch.bool, device=device)  # inputs that need no further trajectory

    def run(self) -> Rollouts:
        """All of them, ``[B, N]``."""
        for _ in self.moves():
            pass
        fields = (self.tokens, self.log_prob, self.ran, self.residual)
        shape = (len(self.x), self.how.num_samples)
        tokens, log_prob, ran, residual = (field.unflatten(0, shape) for field in fields)
        answered, restarts = self.answered.view(shape), self.restarts.view(shape)
        halt, value = (None, None) if self.heads is None else self.heads.unflatten(1, shape).unbind()
        return Rollouts(tokens, log_prob, ran, residual, halt, value, answered, restarts)

    def moves(self) -> Iterator[Move]:
        """Decision after decision, until all have an answer or have spent their budget."""
        while self.fill():
            yield self.move()

    def owner(self, rows: Tensor) -> Tensor:
        """The inputs that trajectories belong to."""
        return rows // self.how.num_samples

    def fill(self) -> bool:
        """Give free places to trajectories that wait; whether there is anything to do."""
        if self.how.first_answer:
            self.waiting = self.waiting[~self.solved[self.owner(self.waiting)]]
        new, self.waiting = self.waiting.tensor_split([self.size - len(self.rows)])
        if len(new):
            begun = self.program.begin(self.x[self.owner(new)], len(new))
            self.z = begun if self.z is None else joined([self.z, begun])
            self.rows = torch.cat([self.rows, new])
        return bool(len(self.rows))

    def move(self) -> Move:
        """One decision of each row: record answers, begin again at contradictions, drop those that are done."""
        program, rows = self.program, self.rows
        assert self.z is not None
        x, before, turn = self.turned(rows, self.z)
        self.streams.present = rows
        with fast(x.device), self.streams, self.how.noise or nullcontext():
            z = self.strides(x, before, program.block)
            answered, wrong = program.settled(z, before)
            y = program.decode(z)
            tokens = y.base_dist.logits.argmax(dim=-1)
            log_prob = y.base_dist.logits.amax(dim=-1)
            judged = program.judge(z.h)
            if self.views > 1:
                answered, wrong = self.again(answered, wrong, z)
        self.residual[rows] = (z.h - before.h).square().mean(dim=(1, 2)).sqrt().to(self.residual)
        if judged is not None:
            self.heads = self.log_prob.new_zeros(2, len(self.ran)) if self.heads is None else self.heads
            self.heads[:, rows] = torch.stack(judged).to(self.heads)
        if turn is not None:
            back = turn.inverse()
            z, tokens = z._replace(candidates=back.sets(z.sets)), back(tokens)
            log_prob = log_prob.gather(1, back.cells)
        done = Move(rows, self.z.sets, z.sets, tokens, log_prob, answered, wrong)
        self.ran[rows] += program.block
        found = rows[answered]
        self.tokens[found], self.log_prob[found] = tokens[answered], log_prob[answered].sum(dim=-1).to(self.log_prob)
        self.answered[found] = True
        self.restarts[rows[wrong]] += 1
        begun = program.begin(self.x[self.owner(rows)], len(rows))
        pairs = zip(begun.parts, z.parts, strict=True)
        z = Latent(*(torch.where(wrong[:, None, None], new, old.to(new.dtype)) for new, old in pairs))
        stays = ~answered & (self.ran[rows] < self.budget)
        if self.how.first_answer:
            self.solved[self.owner(found)] = True
            stays &= ~self.solved[self.owner(rows)]
        self.rows, self.z = rows[stays], z.rows(stays)
        return done

    def turned(self, rows: Tensor, z: Latent) -> tuple[Tensor, Latent, Symmetry | None]:
        """Inputs and states of rows under a fresh symmetry of each, as they are without symmetries."""
        x = self.x[self.owner(rows)]
        turn = None if self.how.symmetries is None else self.how.symmetries(len(rows), self.turns)
        if turn is None:
            return x, z, None
        turn = turn.to(x.device)
        return turn(x), z._replace(candidates=turn.sets(z.sets)), turn

    def again(self, answered: Tensor, wrong: Tensor, first: Latent) -> tuple[Tensor, Tensor]:
        """Answers and contradictions once boards that are decided everywhere have been read under more symmetries.

        Args:
            answered, wrong: after the first reading, ``[R]`` bool.
            first: the states that it led to, of R rows.
        """
        assert self.z is not None
        program = self.program
        decided = (self.z.sets.sum(dim=-1) == 1).all(dim=-1)
        rows, z = self.rows[decided], self.z.rows(decided)
        if not len(rows):
            return answered, wrong
        total, self.streams.present = program.doubt(first.h[decided]), rows
        for _ in range(1, self.views):
            x, turned, _ = self.turned(rows, z)
            total = total + program.doubt(self.strides(x, turned, program.block).h)
        self.ran[rows] += (self.views - 1) * program.block
        holds = (total / self.views).sigmoid() <= program.certain
        return answered.masked_scatter(decided, holds), wrong.masked_scatter(decided, ~holds)


@torch.no_grad()
def chains(program: Any, x: Tensor, how: Options, size: int) -> Rollouts:
    """N trajectories of each input ``[B, L_in]``, ``size`` of them side by side: what a rollout is for such models."""
    return Pool(program, x, how, first_seed(how.seed), size).run()
