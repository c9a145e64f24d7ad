"""Guides that never look at the target."""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor

from ..program.guide import Guide


class PriorGuide(Guide):
    """q = p: trajectories from the prior, KL zero; the objective is then a plain likelihood."""

    needs_y = False

    def acts(self, charged: bool) -> bool:
        """Never."""
        return False

    def posterior(self, u: Tensor, y: Tensor, prior: dist.TorchDistribution) -> dist.TorchDistribution:
        """The prior itself."""
        return prior


class Empty(PriorGuide):
    """Nothing to infer: for deterministic models, whose only site is the observed answer.

    Raises:
        ValueError: the model has a latent site after all.
    """

    def acts(self, charged: bool) -> bool:
        """Never, and a latent site is a mistake."""
        raise ValueError("the model has latent sites, and gp.guides.Empty is for programs without any")
