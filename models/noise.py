"""The stochastic guidance of a transition: the family of p(eps | u) and q(eps | u, y), and its ablations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from ..nn import SwiGLU
from ..runtime.precision import at_least_single, full


class NoiseHead(SwiGLU):
    """A network whose weights stay in float32 at least, whatever ``model.half()`` says."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NoiseHead:
        return super()._apply(at_least_single(fn), recurse)


@dataclass(frozen=True)
class LearnedNoise:
    """eps ~ Normal(mu, sigma²) with learned mean and bounded scale (eq. 8).

    sigma = floor + 2 · scale · sigmoid(raw): it starts at floor + scale and cannot grow past floor + 2 · scale.
    An unbounded sigma grows until the prior is useless.
    """

    floor: float = 0.01
    scale: float = 0.3

    def distribution(self, raw: Tensor) -> TorchDistributionMixin:
        """The Normal that raw head outputs ``[..., L, 2D]`` describe; event shape ``[L, D]``, float32 at least."""
        mu, raw_sigma = full(raw).chunk(2, dim=-1)
        return self._normal(mu, self.floor + 2 * self.scale * raw_sigma.sigmoid()).to_event(2)

    def _normal(self, mu: Tensor, sigma: Tensor) -> TorchDistributionMixin:
        return dist.Normal(mu, sigma)


@dataclass(frozen=True)
class UnboundedNoise(LearnedNoise):
    """An ablation: sigma = floor + scale · softplus(raw) / ln 2, which starts at floor + scale and has no bound."""

    def distribution(self, raw: Tensor) -> TorchDistributionMixin:
        """As :meth:`LearnedNoise.distribution`."""
        mu, raw_sigma = full(raw).chunk(2, dim=-1)
        return self._normal(mu, self.floor + self.scale * F.softplus(raw_sigma) / math.log(2)).to_event(2)


@dataclass(frozen=True)
class ZeroMeanNoise(LearnedNoise):
    """The paper's ablation "noise with mean 0": only the scale is learned."""

    def _normal(self, mu: Tensor, sigma: Tensor) -> TorchDistributionMixin:
        return dist.Normal(torch.zeros_like(mu), sigma)


class MeanNormal(dist.Normal):
    """A Normal whose samples are its mean: density and KL of the Normal, noise of scale zero."""

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.loc.expand(self._extended_shape(torch.Size(sample_shape)))


@dataclass(frozen=True)
class NoVariance(LearnedNoise):
    """The paper's ablation "mean with noise 0": eps is the mean, the KL that of the Normals."""

    def _normal(self, mu: Tensor, sigma: Tensor) -> TorchDistributionMixin:
        return MeanNormal(mu, sigma)


@dataclass(frozen=True)
class NoNoise:
    """No guidance at all: a deterministic recursive model, whose only sample site is the answer."""
