"""GRAM: recursive reasoning whose every latent transition is stochastic (arXiv 2605.19376)."""

from __future__ import annotations

from typing import Any

import pyro
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from ..runtime.precision import exactly
from ..state import Latent
from ..tasks.base import Spec
from .noise import LearnedNoise, NoiseHead, NoNoise
from .recursion import Recursive


class GRAM(Recursive):
    """A probability model of answers y given an input x by way of a latent trajectory.

    ::

        e_x = f_enc(x)                                     once a run; x = None is the empty embedding
        z_0 = (h_0, l_0)                                   fixed, stored with the weights
        for n = 1..N_sup, t = 1..T:
            l   = f_L(h + e_x, l), K times                 (6)
            u   = f_H(h, l)                                (7)
            eps ~ Normal(mu(u), sigma(u)² I)               (8), site "eps_{n}_{t}", event [L, D]
            h   = u + eps                                  (9)
        y ~ Categorical(f_dec(h)) for each output token    site "y", event [L_out]

    All sites are in the plate ``batch``. ``steps=1`` from a carried latent is one supervision step;
    ``steps=N_sup`` from z_0 is the whole trajectory of eq. 13; ``y=None`` samples the answer.

    Args:
        spec: shapes and relations of the task.
        noise: stochastic guidance: :class:`LearnedNoise`, or an ablation from :mod:`gram_ppl.models.noise`.
        options: all other arguments, from ``width`` to ``seed``, of :class:`gram_ppl.models.recursion.Recursive`.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        noise: LearnedNoise | NoNoise = LearnedNoise(),  # noqa: B008 (frozen)
        **options: Any,
    ) -> None:
        self.noise = noise
        super().__init__(spec, **options)

    def build(self) -> None:
        """See :meth:`Recursive.build`: the network of the guidance, which starts at zero."""
        if not isinstance(self.noise, NoNoise):
            self.guidance = NoiseHead(self.width, self.width, 2 * self.width, zero=True)

    def deterministic(self) -> GRAM:
        """A new model of the same size without guidance; its parameters become hidden units of the blocks."""
        spare = sum(parameter.numel() for parameter in self.guidance.parameters())
        hidden = (self.config["hidden"] or 2 * self.width) + round(spare / (3 * self.width * self.config["layers"]))
        return GRAM(self.spec, **{**self.config, "hidden": hidden, "noise": NoNoise(), "heads": None})

    def prior(self, u: Tensor) -> TorchDistributionMixin:
        """p(eps | u): batch shape ``[B]``, event shape ``[L, D]`` (eq. 8)."""
        assert not isinstance(self.noise, NoNoise)
        return self.noise.distribution(exactly(self.guidance, u))

    def move(self, z: Latent, e: Tensor, related: Tensor | None, name: str, infer: Any) -> Latent:
        """z_{t-1} → z_t (eq. 6 to 9), with one sample site unless the noise is :class:`NoNoise`."""
        u, low = self.core(z, e, related)
        if isinstance(self.noise, NoNoise):
            return z.moved(u, low)
        proposed: Any = {"proposal": u, **infer}
        eps = pyro.sample(name, self.prior(u), infer=proposed)
        return z.moved((u + eps).to(self.h0.dtype), low)
