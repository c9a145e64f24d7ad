"""Policies: after some supervision steps, how the candidates of each output token are cut into parts.

A policy labels candidates; those of one label are one part. A decision says which part of each token holds the answer,
so a token whose candidates all have one label is left as it is. A policy of your own is a class with this one method::

    @dataclass(frozen=True)
    class Corner:
        def __call__(self, view: View) -> Tensor:      # decides the first token and no other
            labels = torch.zeros_like(view.candidates, dtype=torch.int64)
            labels[:, 0] = torch.arange(labels.shape[-1])
            return labels
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pyro.distributions as dist
import torch
from torch import Tensor

DROPPED = -1  # the label of a token that is excluded outright, with no part for it


class View(NamedTuple):
    """What a policy may look at: everything that model and guide both know."""

    log_prob: Tensor  #: [B, L_out, V] log p(y_i = v | h) among the candidates, −∞ or nearly so for others
    candidates: Tensor  #: [B, L_out, V] bool
    order: Tensor  #: [B, L_out] standard normal numbers, drawn anew for every decision
    keep: Tensor | None  #: [B, L_out, V] probability that a candidate is right, of a model with a keep head

    @property
    def open(self) -> Tensor:
        """Tokens with several candidates left, ``[B, L_out]`` bool."""
        return self.candidates.sum(dim=-1) > 1

    def apart(self, chosen: Tensor) -> Tensor:
        """Labels that decide the chosen tokens ``[B, L_out]`` wholly: each candidate is a part of its own."""
        return torch.arange(self.candidates.shape[-1], device=chosen.device) * chosen[..., None]


class Policy(Protocol):
    """``view -> labels [B, L_out, V] int64``; labels of tokens that are no candidates don't matter."""

    def __call__(self, view: View) -> Tensor: ...


@dataclass(frozen=True)
class RandomCells:
    """Some uniformly random open tokens are decided wholly: the order of arXiv 2503.05979, eq. 2.

    Args:
        num: how many.
    """

    num: int = 1

    def __call__(self, view: View) -> Tensor:
        """See :class:`Policy`."""
        return view.apart(_highest(view.order, view.open, self.num))


@dataclass(frozen=True)
class SurestCells:
    """The open tokens that the decoder is surest of are decided wholly; the order is then the model's own.

    Args:
        num: how many.
    """

    num: int = 1

    def __call__(self, view: View) -> Tensor:
        """See :class:`Policy`."""
        return view.apart(_highest(view.log_prob.amax(dim=-1), view.open, self.num))


@dataclass(frozen=True)
class AllSure:
    """Of each open token with a candidate above ``threshold``: is it that candidate or another?

    Args:
        threshold: probability.
    """

    threshold: float = 0.999

    def __call__(self, view: View) -> Tensor:
        """See :class:`Policy`."""
        best = view.log_prob.amax(dim=-1, keepdim=True)
        return ((view.log_prob < best) & (best.exp() > self.threshold)).long()


@dataclass(frozen=True)
class RuleOut:
    """Of each token: is it one of the candidates below ``epsilon``, or another?

    Args:
        epsilon: probability.
    """

    epsilon: float = 0.01

    def __call__(self, view: View) -> Tensor:
        """See :class:`Policy`."""
        return (view.log_prob.exp() < self.epsilon).long()


@dataclass(frozen=True)
class Drop:
    """Candidates of open tokens to which the keep head gives less than ``threshold`` are excluded outright.

    No part stands for them: an answer that has one of them can't be reached any more (arXiv 2605.08605).

    Args:
        threshold: probability.
    """

    threshold: float = 0.1

    def __call__(self, view: View) -> Tensor:
        """See :class:`Policy`."""
        if view.keep is None:
            raise ValueError("Drop needs a model with a keep head: Deciding(..., keep=True)")
        return torch.where((view.keep < self.threshold) & view.open[..., None], DROPPED, 0)


@dataclass(frozen=True)
class Both:
    """Two policies at once: candidates are in one part if neither separates them.

    The second one sees what the first one leaves: tokens that it decides or drops are no candidates any more.

    Args:
        first, second: the policies.
    """

    first: Policy
    second: Policy

    def __call__(self, view: View) -> Tensor:
        """See :class:`Policy`."""
        one = self.first(view)
        gone = (one == DROPPED) | (_alone(one, view.candidates) & (one != DROPPED))
        left = view._replace(candidates=view.candidates & ~gone)
        two = self.second(left)
        dropped = (one == DROPPED) | ((two == DROPPED) & left.candidates)
        two = torch.where(left.candidates, two, 0)
        return torch.where(dropped, DROPPED, one * (two.amax() + 1) + two)


def _alone(labels: Tensor, candidates: Tensor) -> Tensor:
    """Candidates that are a part of their own."""
    same = (labels[..., None] == labels[..., None, :]) & candidates[..., None, :]
    return candidates & (same.sum(dim=-1) == 1)


def _highest(score: Tensor, among: Tensor, num: int) -> Tensor:
    """The ``num`` places with the highest score among some, ``[B, L], [B, L] -> [B, L]`` bool."""
    score = score.masked_fill(~among, -torch.inf)
    least = score.topk(min(num, score.shape[-1]), dim=-1).values[..., -1:]
    return among & (score >= least)


def parts(labels: Tensor, candidates: Tensor) -> Tensor:
    """Labels as the number of the first candidate of the part; tokens that are excluded are :data:`DROPPED`.

    ``[B, L_out, V], [B, L_out, V] -> [B, L_out, V]`` int64.
    """
    labels = torch.where(candidates, labels, DROPPED)
    same = labels[..., None] == labels[..., None, :]  # [B, L_out, V, V]
    return torch.where(labels == DROPPED, DROPPED, same.int().argmax(dim=-1))


def masses(log_prob: Tensor, numbers: Tensor) -> Tensor:
    """log p(part), by the number of the part: ``[B, L_out, V], [B, L_out, V] -> [B, L_out, V]``.

    A number that no part has gets the log of the smallest normal number. Where everything is excluded, all are equal.
    """
    probs = log_prob.exp().masked_fill(numbers == DROPPED, 0)
    mass = torch.zeros_like(probs).scatter_add(-1, numbers.clamp(min=0), probs)
    return mass.clamp(min=torch.finfo(mass.dtype).tiny).log()


class Among(dist.Categorical):
    """A Categorical over the candidates alone; others have the log density −∞, and no gradient.

    Where there is no candidate, all have −∞, and samples are those of the logits.

    Args:
        logits: ``[..., V]``.
        candidates: ``[..., V]`` bool.
    """

    def __init__(self, logits: Tensor, candidates: Tensor) -> None:
        some = candidates | ~candidates.any(dim=-1, keepdim=True)
        super().__init__(logits=logits.masked_fill(~some, torch.finfo(logits.dtype).min), validate_args=False)
        self.candidates = candidates

    def expand(self, batch_shape: Any, _instance: Any = None) -> Among:
        """See :class:`torch.distributions.Distribution`."""
        shape = (*batch_shape, self.logits.shape[-1])
        return Among(self.logits.expand(shape), self.candidates.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """``[...] -> [...]``."""
        value, logits, candidates = torch.broadcast_tensors(value[..., None], self.logits, self.candidates)
        place = value[..., :1]
        held = candidates.gather(-1, place)[..., 0]
        return torch.where(held, logits.gather(-1, place)[..., 0], -torch.inf)
