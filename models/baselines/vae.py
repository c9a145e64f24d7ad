"""A variational autoencoder: one Gaussian code for a whole answer (arXiv 1312.6114)."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from ...program.model import Program
from ...program.parameters import register
from ...state import Latent
from ...tasks.base import Spec
from .stack import Stack

NEVER = 1e4  # taken from the logit of a token that is no answer


class VAE(Program):
    """Answers from one Gaussian code, given the input or from nothing.

    ::

        z ~ Normal(0, I)                                       site "z", event [code]
        h = f(e_x + W z)
        y ~ Categorical(f_dec(h)) for each output token        site "y", event [L_out]

    Without the padding token two colours are left of the vocabulary of binarized pictures, and the likelihood is
    Bernoulli. Its guide is :class:`gram_ppl.guides.Recognition`; with ``gp.SegmentELBO(beta=1, balance=None)`` the loss
    is the bound. The state is ``Latent(h, l)``: ``[B, L, D]``, which is decoded, and z, ``[B, 1, code]``.

    Args:
        spec: shapes and relations of the task.
        code: dimensions of z.
        padding: whether token 0 is ever an answer.
        seed: draws the weights; the global generator is left alone.
        options: ``width``, ``hidden``, ``layers``, ``mixer``, ``encoder``, ``registers`` and ``positions`` as for
            :class:`gram_ppl.models.GRAM`; every latent token has a position besides.
    """

    options = (Stack,)
    supervision = 1
    depth = 1
    step_calls = 1

    def __init__(self, spec: Spec, *, code: int = 32, padding: bool = False, seed: int = 0, **options: Any) -> None:
        super().__init__()
        self.spec = spec
        self.code = code
        self.padding = padding
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stack = Stack(spec, **options)
            self.width, self.length = self.stack.width, self.stack.encoder.length
            self.spread = nn.Linear(code, self.width)
            self.places = nn.Parameter(torch.randn(self.stack.encoder.length, self.width))

    @property
    def vocabulary(self) -> int | list[int]:
        """See :attr:`Program.vocabulary`."""
        return self.stack.encoder.vocabulary

    def initial(self, batch: int) -> Latent:
        """Zeros: nothing is decoded before the code is drawn."""
        h = self.places.new_zeros(batch, *self.places.shape)
        return Latent(h, h.new_zeros(batch, 1, self.code))

    def prior(self, like: Tensor) -> TorchDistributionMixin:
        """p(z) for ``like [B, ...]``: event shape ``[code]``."""
        return dist.Normal(like.new_zeros(len(like), self.code, dtype=self.places.dtype), 1.0).to_event(1)

    def answer(self, h: Tensor) -> TorchDistributionMixin:
        """p(y | h): ``[B, L, D]`` -> event shape ``[L_out]``."""
        logits = self.stack.logits(h)
        if not self.padding:
            logits = torch.cat([logits[..., :1] - NEVER, logits[..., 1:]], dim=-1)
        return dist.Categorical(logits=logits).to_event(1)

    def forward(
        self,
        x: Tensor | None = None,
        y: Tensor | None = None,
        *,
        latent: Latent | None = None,
        steps: int | None = None,
        start: int = 0,
    ) -> tuple[Latent, Tensor]:
        """The program; see :meth:`Program.forward`. Steps after the first change nothing."""
        register(self.name, self)
        x, y, batch = self.given(x, y, latent)
        z = self.initial(batch) if latent is None else latent
        with pyro.plate("batch", batch, dim=-1):
            if start == 0 and steps != 0:
                e, related = self.stack.encoder(x, batch), self.stack.encoder.related(x)
                infer: Any = {"proposal": e, "charged": True, "step": 0}
                code = pyro.sample("z", self.prior(e), infer=infer)
                code = code.to(self.places.dtype)[..., None, :]
                h = self.stack(e + self.places + self.spread(code), related)
                z = Latent(h, code)
            y = pyro.sample("y", self.answer(z.h), obs=y)
        return z, y
