"""The guide of diffusion models: the forward process, read backwards by Bayes' rule."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from torch import Tensor

from ..nn import one_hot
from ..program.guide import Guide


class Noising(Guide):
    """q(z_{t-1} | z_t, y), and q(z_T | y) at the start: exact, without parameters (arXiv 2107.03006, eq. 3).

    Args:
        model: a :class:`gram_ppl.models.baselines.diffusion.Diffusion`.
    """

    def posterior(self, u: Tensor, y: Tensor, prior: dist.TorchDistribution) -> dist.TorchDistribution:
        """q(z_{t-1} | z_t, y), event shape ``[L_out]``; u is z_t, one-hot ``[B, L_out, S]``."""
        model: Any = self.model
        answer = one_hot(y, model.spec.vocab_out).to(u)
        return self._infer["given"](answer.expand(*u.shape[:-1], -1))
