"""A categorical distribution that a graph can sample from."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor


class AsyncCategorical(dist.Categorical):
    """A Categorical whose samples don't make the processor wait, as ``torch.multinomial`` does for its checks.

    One draw is the same as torch's from the same random numbers: the largest of p / Exponential(1).
    """

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """See :class:`torch.distributions.Distribution`."""
        if len(sample_shape):
            return super().sample(sample_shape)
        with torch.no_grad():
            return (self.probs / torch.empty_like(self.probs).exponential_()).argmax(dim=-1)
