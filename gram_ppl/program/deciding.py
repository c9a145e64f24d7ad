"""The objective of models that decide: GRAM's own, and what their heads learn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ..nn import one_hot
from ..state import Latent
from .objective import SegmentELBO, observe


class DecidingELBO(SegmentELBO):
    """:class:`SegmentELBO` of rows whose candidates may exclude y already, with two auxiliary losses.

    A row that has lost y trains the heads alone. For each state that is scored, observed sites of the objective (not of
    the model; no bound has them) say

    ====================  ===========================================================================================
    "keep_{n}"            which candidates are right: a weighted Bernoulli of each, in nats a token as the NLL
    "contradiction_{n}"   whether y is lost: a Bernoulli
    ====================  ===========================================================================================

    Args:
        keep: price of a right candidate that is called wrong, and of a wrong one that is called right; the loss is the
            mean over candidates and non-candidates of each token (8 : 1 in arXiv 2605.08605).
        contradiction: weight of the Bernoulli of a lost y, beside an NLL in nats a token.
        beta, balance, window, every_step, steps: as for :class:`SegmentELBO`; ``steps`` must be a multiple of the
            model's ``block`` for the last decision to be one of the prior's (``fit``'s ``own_states``).
    """

    def __init__(
        self,
        beta: float | Callable[[float], float] = 1.0,
        balance: float | None = 0.8,
        *,
        keep: tuple[float, float] = (4.0, 0.5),
        contradiction: float = 0.1,
        window: bool | int = True,
        every_step: bool = False,
        steps: int = 1,
    ) -> None:
        super().__init__(beta, balance, window=window, every_step=every_step, steps=steps)
        self.keep = keep
        self.contradiction = contradiction

    def supervise(self, program: Any, y: Tensor, states: dict[int, Latent], model_trace: Any) -> None:
        """See :meth:`SegmentELBO.supervise`."""
        super().supervise(program, y, states, model_trace)
        for step, z in states.items():
            truth = z.sets & one_hot(y, program.spec.vocab_out)
            if program.contradiction is not None and self.contradiction:
                lost = (~truth.any(dim=-1).all(dim=-1)).to(z.h.dtype)
                doubt = dist.Bernoulli(logits=program.doubt(z.h), validate_args=False)
                scale = self.contradiction * y.shape[-1] / len(states)
                observe(model_trace, f"contradiction_{step}", doubt, lost, scale=scale)
            if program.keep is not None:
                weight = torch.where(truth, *self.keep)
                logits = program.keep_logits(z.h)
                price = binary_cross_entropy_with_logits(logits, truth.to(logits), weight, reduction="none")
                factor = dist.Unit(-price.mean(dim=-1).sum(dim=-1) / len(states))
                observe(model_trace, f"keep_{step}", factor, factor.sample())

    def terms(self, model_trace: Any, guide_trace: Any) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`SegmentELBO.terms`; the NLL of a row that has lost y is 0."""
        nll, kl, balanced = super().terms(model_trace, guide_trace)
        return nll.masked_fill(nll.isinf(), 0), kl, balanced
