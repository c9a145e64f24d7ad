"""What stops a training step, in words: a loss that is not finite, and too little memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..runtime.precision import fast
from ..state import Latent


class NonFiniteLoss(RuntimeError):
    """The loss or its gradient became NaN or infinite; the message says at which update and site."""


def not_finite(segment: Any, update: int, x: Tensor, y: Tensor, latent: Latent) -> NonFiniteLoss:
    """The error for a bound segment whose loss is not finite.

    It runs once more on rows x ``[B, L_in]``, y ``[B, L_out]`` and their latent, to say in which site the first bad
    number stands.
    """
    with torch.no_grad(), fast(y.device):
        traces = segment.elbo.run(segment.model, segment.guide, (x, y), {"latent": latent, "steps": 1})
    where = "the gradient"
    for name, site in traces[0].nodes.items():
        if site["type"] == "sample" and not torch.isfinite(site["fn"].log_prob(site["value"])).all():
            where = f"site {name!r}"
            break
    return NonFiniteLoss(f"update {update}: the loss is not finite, first seen in {where}")


def out_of_memory(update: int, batch_size: int, supervision: int, kept: str) -> torch.OutOfMemoryError:
    """The error for an update that did not fit; it says which batch size to try.

    Args:
        update: the number of updates before it.
        batch_size: rows that did not fit.
        supervision: N_sup, of which a batch size is a multiple.
        kept: what is left of the run, in words.
    """
    half = batch_size // 2 // supervision * supervision
    advice = f"try batch_size={half}" if half else "this is the smallest batch size, so try a smaller width"
    return torch.OutOfMemoryError(
        f"update {update}: out of memory with batch_size={batch_size}: {advice}, in a new run; {kept}"
    )
