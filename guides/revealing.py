"""The guide of models that decide and have no noise besides."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from torch import Tensor

from ..program.guide import Guide


class Revealing(Guide):
    """The posterior of a decision is the part that holds y; anything else that is random follows the prior.

    It has no parameters, and of a model without Gaussian guidance it is the exact posterior of each decision given the
    order of the decisions.

    Args:
        model: a :class:`gram_ppl.models.Deciding`.
        seed: of nothing; every guide of a preset takes one.
    """

    def __init__(self, model: Any, *, seed: int = 0) -> None:
        super().__init__(model)

    def posterior(self, u: Tensor, y: Tensor, prior: dist.TorchDistribution) -> dist.TorchDistribution:
        """The prior itself."""
        return prior
