"""Forward processes of discrete diffusion: how the tokens of an answer become noise (arXiv 2107.03006, section 3).

A kernel keeps each token with probability alpha(t), which falls from 1 at time 0 to 0 at time 1, and replaces it by
noise otherwise. Tokens are one-hot or probabilities in the last dimension: V of answers, S of noisy answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Uniform:
    """Noise is any of the V tokens: q(z_t | y) = alpha y + (1 − alpha) / V; S = V.

    alpha falls by the cosine schedule (arXiv 2102.09672), cos²(π/2 · (t + offset) / (1 + offset)), normalised.
    """

    offset: float = 0.008

    def states(self, vocab: int) -> int:
        """S for V tokens."""
        return vocab

    def alpha(self, time: Tensor) -> Tensor:
        """Probability that a token is still there at ``time`` in [0, 1]."""

        def height(time: Tensor | float) -> Tensor:
            angle = (torch.as_tensor(time) + self.offset) / (1 + self.offset) * (math.pi / 2)
            return angle.cos().square()

        return height(time) / height(0.0)

    def start(self, like: Tensor) -> Tensor:
        """Probabilities of pure noise in the shape of ``like [..., S]``."""
        return torch.full_like(like, 1 / like.shape[-1])

    def marginal(self, y: Tensor, alpha: Tensor) -> Tensor:
        """q(z_t | y), ``[..., V] -> [..., S]``."""
        return alpha * y + (1 - alpha) / y.shape[-1]

    def backward(self, z: Tensor, y: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """q(z_s | z_t, y) for s < t by Bayes' rule, averaged over y: ``[..., S], [..., V] -> [..., S]``.

        Args:
            z: z_t, one-hot.
            y: probabilities: the answer, one-hot, for the posterior of the forward process, or a prediction of it.
            near, far: alpha at s and at t.
        """
        noise, between = 1 / z.shape[-1], far / near
        forward = between * z + (1 - between) * noise  # q(z_t | z_s) as a function of z_s
        weight = y / (far * z + (1 - far) * noise)  # y / q(z_t | y)
        return forward * (near * weight + (1 - near) * noise * weight.sum(dim=-1, keepdim=True))

    def known(self, logits: Tensor, z: Tensor) -> Tensor:
        """A prediction of y given z_t: nothing is known for sure."""
        return logits


@dataclass(frozen=True)
class Absorbing:
    """Noise is a mask, which no answer holds: S = V + 1, the mask last; alpha = 1 − t.

    A token that is not masked is that of the answer (arXiv 2107.03006; "SUBS" in arXiv 2406.07524).
    """

    def states(self, vocab: int) -> int:
        """S for V tokens."""
        return vocab + 1

    def alpha(self, time: Tensor) -> Tensor:
        """Probability that a token is not masked at ``time`` in [0, 1]."""
        return 1 - time

    def start(self, like: Tensor) -> Tensor:
        """All masked, in the shape of ``like [..., S]``."""
        return nn.functional.pad(torch.zeros_like(like[..., 1:]), (0, 1), value=1.0)

    def marginal(self, y: Tensor, alpha: Tensor) -> Tensor:
        """See :meth:`Uniform.marginal`."""
        return torch.cat([alpha * y, (1 - alpha).expand(*y.shape[:-1], 1)], dim=-1)

    def backward(self, z: Tensor, y: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """See :meth:`Uniform.backward`: a masked token is revealed with probability (near − far) / (1 − far)."""
        reveal = ((near - far) / (1 - far)).expand(*z.shape[:-1], 1)
        masked = z[..., -1:]
        return masked * torch.cat([reveal * y, 1 - reveal], dim=-1) + (1 - masked) * z

    def known(self, logits: Tensor, z: Tensor) -> Tensor:
        """A prediction of y given z_t, log probabilities: tokens that are not masked stay."""
        return torch.where(z[..., -1:] > 0, logits.log_softmax(dim=-1), log(z[..., :-1]))


def log(probs: Tensor) -> Tensor:
    """Finite logarithms of probabilities that may be zero."""
    return probs.clamp(min=1e-30).log()
