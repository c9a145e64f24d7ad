"""The named tuples that travel between task, model, guide, objective, training and inference.

B batch rows, N trajectories of a row, L latent tokens, L_in and L_out input and output tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """What a task gives to training."""

    x: Tensor  #: [B, L_in] int64, input tokens
    y: Tensor  #: [B, L_out] int64, one solution of each x, drawn uniformly among its solutions


class Latent(NamedTuple):
    """The latent state z = (h, l) at the end of a supervision step (paper, section 3)."""

    h: Tensor  #: [B, L, D] high-level state, the one that is decoded
    l: Tensor  #: [B, L, D] low-level state
    candidates: Tensor | None = None  #: [B, L_out, vocab_out] bool, of models that decide: tokens not excluded yet

    def map(self, change: Callable[[Tensor], Tensor]) -> Latent:
        """Each part changed; one that is absent stays so."""
        return Latent(*(None if part is None else change(part) for part in self))  # type: ignore[arg-type]

    def rows(self, some: slice | Tensor) -> Latent:
        """Some rows of the batch."""
        return self.map(lambda part: part[some])

    def moved(self, h: Tensor, l: Tensor) -> Latent:
        """The state after a transition, with the same candidates."""
        return Latent(h, l, self.candidates)

    @property
    def sets(self) -> Tensor:
        """The candidates, of models that decide.

        Raises:
            ValueError: there are none.
        """
        if self.candidates is None:
            raise ValueError("a model that decides needs a state with candidates: begin with model.begin(x, batch)")
        return self.candidates

    @property
    def parts(self) -> list[Tensor]:
        """Those that are there."""
        return [part for part in self if part is not None]


def num_rows(x: Tensor | None, y: Tensor | None, latent: Latent | None) -> int:
    """B of a program's arguments: that of the first that is given, 1 of none."""
    given = next((value for value in (x, y, latent and latent.h) if value is not None), None)
    return 1 if given is None else given.shape[0]


def joined(latents: Sequence[Latent]) -> Latent:
    """The rows of several states, one after the other."""
    parts = zip(*(latent.parts for latent in latents), strict=True)
    return Latent(*(torch.cat(some) for some in parts))


class SegmentInfo(NamedTuple):
    """What one evaluation of the segment objective leaves behind; all tensors detached."""

    latent: Latent  #: state after the segment, to be carried into the next one
    nll: Tensor  #: [] nats a puzzle: -log p(y | h_T), mean over the batch
    kl: Tensor  #: [] nats a puzzle: the charged KL, mean over the batch
    kl_rows: Tensor  #: [B] nats: the charged KL of each row
    correct: Tensor  #: [B, L_out] bool: argmax p(y | h_T) equals y
    halted: Tensor | None = None  #: [B] bool: rows that need no further supervision step; None where rows don't halt
    from_prior: Tensor | None = None  #: [B] bool: rows whose state is a sample of the prior; None where none can be


class Step(NamedTuple):
    """Where the N trajectories of each of B inputs stand after one supervision step."""

    number: int  #: supervision steps run so far, from 1
    latent: Latent  #: [B·N, L, D] each, trajectories of one input next to each other
    tokens: Tensor  #: [B, N, L_out] int64, argmax of the decoder, or a sample of it
    log_prob: Tensor  #: [B, N] log p(tokens | h): the decoder's confidence in its own answer, nats
    residual: Tensor  #: [B, N] root mean square change of h in this supervision step
    running: Tensor  #: [B, N] bool: trajectories that have not halted
    halt: Tensor | None  #: [B, N] logit of the halt head; None without heads
    value: Tensor | None  #: [B, N] the value head's guess of the accuracy, in [0, 1]; None without heads


class Rollouts(NamedTuple):
    """N trajectories of the prior for each of B inputs, decoded after the last supervision step of each."""

    tokens: Tensor  #: [B, N, L_out] int64, argmax of the decoder, or a sample of it
    log_prob: Tensor  #: [B, N] log p(tokens | h): the decoder's confidence in its own answer, nats
    steps: Tensor  #: [B, N] int64, supervision steps that each trajectory ran
    residual: Tensor  #: [B, N] root mean square change of h in the last of them
    halt: Tensor | None = None  #: [B, N] logit of the halt head; None without heads
    value: Tensor | None = None  #: [B, N] the value head's guess of the accuracy, in [0, 1]; None without heads
    answered: Tensor | None = None  #: [B, N] bool: an answer was found, else tokens are -1; None where it always is
    restarts: Tensor | None = None  #: [B, N] int64: how often a trajectory began again; None where none does


class Answers(NamedTuple):
    """One selected answer for each of B inputs."""

    tokens: Tensor  #: [B, L_out] int64
    verified: Tensor  #: [B] bool, by the task's verifier
    score: Tensor  #: [B] the selector's score, a share in [0, 1] for votes
    chosen: Tensor  #: [B] int64, which of the N trajectories
    rollouts: Rollouts  #: all N of them
    answered: Tensor | None = None  #: [B] bool: there is an answer, else its tokens are -1; None if there always is
    calls: Tensor | None = None  #: [B] int64: network evaluations of all N; None of models that don't count them
    restarts: Tensor | None = None  #: [B] int64: how often trajectories began again; None of models that never do


class Symmetry(NamedTuple):
    """One symmetry for each of B boards: tokens change places and names."""

    cells: Tensor  #: [B, L] int64: the cell whose token moves here
    names: Tensor  #: [B, V] int64: the new name of each token

    def __call__(self, boards: Tensor) -> Tensor:
        """``[B, L]`` int64 tokens in 0 .. V - 1 to the same shape; no tokens, ``[B, 0]``, stay none."""
        return self.names.gather(1, boards.gather(1, self.cells)) if boards.shape[1] else boards

    def sets(self, candidates: Tensor) -> Tensor:
        """Sets of tokens in place of tokens, ``[B, L, V]`` bool."""
        moved = candidates.gather(1, self.cells[..., None].expand_as(candidates))
        return moved.gather(2, self.names.argsort(1)[:, None].expand_as(candidates))

    def inverse(self) -> Symmetry:
        """The symmetries that undo these."""
        return Symmetry(self.cells.argsort(1), self.names.argsort(1))

    def rows(self, some: slice) -> Symmetry:
        """Those of some boards."""
        return Symmetry(self.cells[some], self.names[some])

    def to(self, device: torch.device) -> Symmetry:
        """The same on a device."""
        return Symmetry(self.cells.to(device), self.names.to(device))
