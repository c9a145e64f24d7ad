"""The default guide, Gaussian guidance that sees the target in the charged transition, and its literal reading."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..nn import SwiGLU
from ..program.guide import Guide


class AmortizedGuide(Guide):
    """q(eps | u, y), the same family as the model's prior (eq. 12), charged carry.

    One SwiGLU network reads u plus an embedding of the target token at each output position; its last layer
    starts at zero, so training starts at q = p.

    Args:
        model: a :class:`gram_ppl.models.GRAM`, or a program with its ``width``, ``noise``, ``spec`` and ``encoder``.
        seed: draws the weights.
    """

    def __init__(self, model: Any, *, seed: int = 0) -> None:
        super().__init__(model)
        self.config = {"seed": seed}
        self.noise = model.noise
        self.first = model.encoder.first_out
        self.after = model.encoder.length - self.first - model.encoder.num_out
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.target = model.encoder.target()
            self.guidance = SwiGLU(model.width, model.width, 2 * model.width, zero=True)

    def posterior(self, u: Tensor, y: Tensor, prior: dist.TorchDistribution) -> dist.TorchDistribution:
        """q(eps | u, y): batch shape ``[B]``, event shape ``[L, D]``."""
        target = nn.functional.pad(self.target(y), (0, 0, self.first, self.after))
        return self.noise.distribution(self.guidance(u + target))


class EveryTransition(AmortizedGuide):
    """As :class:`AmortizedGuide`, but y enters all T transitions while eq. 14 charges only the last.

    The uncharged transitions are a free channel for y; kept to be compared with.
    """

    def acts(self, charged: bool) -> bool:
        """Always."""
        return True
