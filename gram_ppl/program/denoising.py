"""The objective of diffusion models: one denoising step of the variational bound for each row."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from .objective import SegmentELBO


class DenoisingELBO(SegmentELBO):
    """An unbiased estimate of the bound of a whole chain from one step of it: T times the KL of a random time.

    ::

        t ~ Uniform{1..T} for each row,  z_t ~ q(z_t | y)
        loss = T · KL(q(z_{t-1} | z_t, y) ‖ p(z_{t-1} | z_t, x))    t > 1
        loss = −T · log p(y | z_1, x)                               t = 1

    over L_out (arXiv 2107.03006, eq. 1 and 4; its KL of z_T, which trains nothing, is left out). The times of a batch
    are spread evenly over 1..T with a common random offset (arXiv 2107.00630, appendix I.1), each uniform.

    Args:
        auxiliary: weight of −log p(y | z_t, x) at all times, the hybrid loss of D3PM; 0 is the bound.
    """

    def __init__(self, auxiliary: float = 0.0) -> None:
        super().__init__(beta=1.0, balance=None)
        self.auxiliary = auxiliary

    def run(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
        """See :meth:`SegmentELBO.run`; a carried latent gives way to a noised answer."""
        program: Any = poutine.unwrap(model)
        y = args[1]
        age = self.times(len(y), program.depth, y.device)
        kwargs = {**kwargs, "latent": program.noised(y, age), "steps": 1, "age": age}
        return super().run(poutine.scale(model, scale=float(program.depth)), guide, args, kwargs)

    def times(self, batch: int, depth: int, device: torch.device) -> Tensor:
        """Denoising steps that each row has behind it, ``[batch]`` int64 in 0..T − 1."""
        place = (torch.arange(batch, device=device) + torch.rand((), device=device)) / batch
        place = place[torch.randperm(batch, device=device)]
        return (place * depth).long().clamp(max=depth - 1)

    def terms(self, model_trace: Any, guide_trace: Any) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`SegmentELBO.terms`; the auxiliary loss counts as likelihood."""
        nll, kl, balanced = super().terms(model_trace, guide_trace)
        if self.auxiliary:
            site = model_trace.nodes["y"]
            nll = nll - self.auxiliary * site["fn"].log_prob(site["value"])
        return nll, kl, balanced
