"""The contract of a policy of decisions."""

from __future__ import annotations

import torch

from ..models.decisions import DROPPED, Policy, View, parts
from .claims import Claims

SHAPE = (4, 5, 6)  # B, L_out, V


def check_policy(policy: Policy, *, views: int = 24, seed: int = 0) -> None:
    """See that a policy keeps what :class:`gram_ppl.models.decisions.Policy` promises, on random views.

    Labels of the right shape and dtype, drawn from the view alone, row by row, that separate candidates now and then.

    Args:
        policy: what is checked.
        views: how many views, from those of an untrained model to those of a sure one.
        seed: of the views.

    Raises:
        AssertionError: a promise is broken; a sentence names the fault.
    """
    claim, generator = Claims(policy), torch.Generator().manual_seed(seed)
    decided, left = False, False
    for k in range(views):
        candidates = torch.rand(SHAPE, generator=generator) < 0.6
        candidates[..., 0] |= ~candidates.any(-1)
        logits = 10 * k / views * torch.randn(SHAPE, generator=generator)
        log_prob = logits.masked_fill(~candidates, -torch.inf).log_softmax(-1)
        order, keep = torch.randn(SHAPE[:2], generator=generator), torch.rand(SHAPE, generator=generator)
        view = View(log_prob, candidates, order, keep)
        before = [part.clone() for part in view if part is not None]
        outside = torch.get_rng_state()
        labels = claim.runs(policy, "__call__", "a view", view)
        drawn = not torch.equal(torch.get_rng_state(), outside)
        claim(not drawn, "__call__", "it draws from torch's global generator: take view.order")
        claim(isinstance(labels, torch.Tensor), "__call__", f"expected labels, found {type(labels).__name__}")
        good = labels.shape == SHAPE and labels.dtype == torch.int64
        claim(good, "__call__", f"expected labels {list(SHAPE)} int64, found {list(labels.shape)} {labels.dtype}")
        claim((labels >= DROPPED).all(), "__call__", f"a label is below {DROPPED}")
        same = all(torch.equal(one, part) for one, part in zip(before, view, strict=True) if part is not None)
        claim(same, "__call__", "it changes the view that it is given")
        numbers = parts(labels, candidates)
        claim(torch.equal(numbers, parts(policy(view), candidates)), "__call__", "the same view gives other parts")
        for row in range(SHAPE[0]):
            one = View(*(part[row : row + 1] for part in view if part is not None))
            alone = parts(policy(one), one.candidates)
            claim(torch.equal(alone[0], numbers[row]), "__call__", "the rows of a batch depend on each other")
        gone = (numbers == DROPPED) & candidates
        first = torch.where(candidates, numbers, SHAPE[-1]).amin(-1, keepdim=True)
        left |= bool((candidates & ~gone).any())
        decided |= bool((gone | (candidates & (numbers != first))).any())
    claim(decided, "__call__", f"in none of {views} views does it separate candidates, so that nothing is ever decided")
    claim(left, "__call__", "it drops every candidate, so that no answer is left")
