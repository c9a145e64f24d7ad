"""The guide of a program without latent sites."""

from __future__ import annotations

from .prior import PriorGuide


class Empty(PriorGuide):
    """Nothing to infer: for deterministic models, whose only site is the observed answer.

    Raises:
        ValueError: the model has a latent site after all.
    """

    def acts(self, charged: bool) -> bool:
        """Never, and a latent site is a mistake."""
        raise ValueError("the model has latent sites, and gp.guides.Empty is for programs without any")
