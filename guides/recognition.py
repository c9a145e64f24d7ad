"""The recognition network of a variational autoencoder."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..nn import Attention, Block
from ..program.guide import Guide


class Recognition(Guide):
    """q(z | x, y) = Normal(mu, sigma² I), from the mean over the tokens of a block on e_x and y (arXiv 1312.6114).

    Args:
        model: a :class:`gram_ppl.models.VAE`.
        seed: draws the weights.
    """

    def __init__(self, model: Any, *, seed: int = 0) -> None:
        super().__init__(model)
        self.config = {"seed": seed}
        self.place = model.stack.place
        width, mixer = model.width, model.stack.mixer
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.target = model.stack.encoder.target()
            self.places = nn.Parameter(torch.randn(model.stack.encoder.length, width))
            heads = mixer.heads if isinstance(mixer, Attention) else 4
            self.block = Block(Attention(heads).build(width, model.stack.encoder.length, None), width, 2 * width)
            self.code = nn.Linear(width, 2 * model.code)

    def posterior(self, u: Tensor, y: Tensor, prior: dist.TorchDistribution) -> dist.TorchDistribution:
        """q(z | x, y), event shape ``[code]``; u is e_x, ``[B, L, D]``."""
        h = self.block(u + self.places + self.place(self.target(y)))
        mu, raw = self.code(h.mean(dim=1)).to(self.places.dtype).chunk(2, dim=-1)
        return dist.Normal(mu, nn.functional.softplus(raw) + 1e-3).to_event(1)
