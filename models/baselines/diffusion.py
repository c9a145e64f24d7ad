"""Discrete diffusion as a Pyro program: what D3PM and MDLM share."""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import copy
from functools import partial
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from ...nn import SwiGLU, one_hot
from ...program.categorical import AsyncCategorical
from ...program.model import Program
from ...program.parameters import register
from ...state import Latent
from ...tasks.base import Spec
from .kernels import Absorbing, Uniform, log
from .stack import Stack

Given = Callable[[Tensor], TorchDistributionMixin]


class Diffusion(Program):
    """Answers by denoising, from noise z_T to y, one network call a step.

    ::

        z_T     ~ the kernel's noise                             site "z_T" (uniform noise only), event [L_out]
        for t = T..2:
            p_t     = softmax f(x, z_t, t / T)                   prediction of y
            z_{t-1} ~ Σ_y q(z_{t-1} | z_t, y) p_t(y)             site "z_{t-1}", event [L_out]
        y       ~ Categorical(f(x, z_1, 1 / T))                  site "y", event [L_out]

    Its guide is :class:`gram_ppl.guides.Noising`, q(z_{t-1} | z_t, y): with it the stock ``Trace_ELBO`` is the
    variational bound of the whole chain (arXiv 2107.03006, eq. 1), and :class:`gram_ppl.DenoisingELBO` draws one step
    of it for each row. A supervision step of a rollout is one denoising step; after T of them others change nothing.

    The state that is carried is ``Latent(h, l)``: the logits of the prediction ``[B, L_out, V]``, which are decoded,
    and z, one-hot ``[B, L_out, S]``.

    Args:
        spec: shapes and relations of the task.
        kernel: the forward process, :class:`gram_ppl.models.Uniform` or :class:`gram_ppl.models.Absorbing`.
        denoising: T.
        timed: whether the network is told t / T.
        seed: draws the weights; the global generator is left alone.
        options: ``width``, ``hidden``, ``layers``, ``mixer``, ``encoder``, ``registers`` and ``positions`` as for
            :class:`gram_ppl.models.GRAM`.

    Raises:
        ValueError: ``denoising`` is less than 1.
    """

    options = (Stack,)
    fixed: ClassVar[Collection[str]] = ("timed",)
    supervision = 1  # training draws one denoising step
    step_calls = 1
    depth: int

    def __init__(
        self, spec: Spec, *, kernel: Uniform | Absorbing, denoising: int, timed: bool, seed: int = 0, **options: Any
    ) -> None:
        super().__init__()
        if denoising < 1:
            raise ValueError(f"denoising must be at least 1, got {denoising}")
        self.spec = spec
        self.kernel = kernel
        self.depth = denoising
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stack = Stack(spec, **options)
            self.noisy = self.stack.encoder.target(kernel.states(spec.vocab_out))
            self.time = SwiGLU(self.stack.width, self.stack.width, self.stack.width) if timed else None
        self.width, self.length = self.stack.width, self.stack.encoder.length

    def respaced(self, denoising: int) -> Diffusion:
        """The same weights with another number of denoising steps."""
        if denoising < 1:
            raise ValueError(f"denoising must be at least 1, got {denoising}")
        other = copy(self)
        other.depth = denoising
        other.config = {**self.config, "denoising": denoising}
        return other

    @property
    def vocabulary(self) -> int | list[int]:
        """See :attr:`Program.vocabulary`."""
        return self.stack.encoder.vocabulary

    def initial(self, batch: int) -> Latent:
        """Nothing predicted, pure noise; uniform noise is drawn by the program's first step and is zero here."""
        weight = self.stack.encoder.empty
        h = weight.new_zeros(batch, self.spec.len_out, self.spec.vocab_out)
        z = weight.new_zeros(batch, self.spec.len_out, self.kernel.states(self.spec.vocab_out))
        return Latent(h, z if isinstance(self.kernel, Uniform) else self.kernel.start(z))

    def noised(self, y: Tensor, age: Tensor) -> Latent:
        """A draw of q(z_t | y), t = T − age: ``[B, L_out], [B]``, the latent that so many denoising steps leave."""
        h = self.initial(len(y)).h
        probs = self.kernel.marginal(one_hot(y, self.spec.vocab_out).to(h), self._alpha(self.depth - age))
        return Latent(h, one_hot(_categorical(probs).sample(), probs.shape[-1]).to(h))

    def predict(self, e: Tensor, related: Tensor | None, z: Tensor, t: Tensor) -> Tensor:
        """f(x, z_t, t / T): logits of y, ``[B, L_out, V]``; t is ``[B]``."""
        e = e + self.stack.place(self.noisy(z.argmax(dim=-1)))
        if self.time is not None:
            e = e + self.time(_waves(t / self.depth, self.width).to(e))[:, None]
        return self.kernel.known(self.stack.logits(self.stack(e, related)), z)

    def diffused(self, y: Tensor) -> TorchDistributionMixin:
        """Σ_y q(z_T | y) of probabilities y ``[B, L_out, V]``: event shape ``[L_out]``."""
        last = self.kernel.alpha(torch.ones((), device=y.device))
        return _categorical(self.kernel.marginal(y, last))

    def denoised(self, y: Tensor, z: Tensor, t: Tensor) -> TorchDistributionMixin:
        """Σ_y q(z_{t-1} | z_t, y) of probabilities y ``[B, L_out, V]`` at t ``[B]``: event shape ``[L_out]``."""
        return _categorical(self.kernel.backward(z, y, self._alpha(t - 1), self._alpha(t)))

    def answer(self, h: Tensor) -> TorchDistributionMixin:
        """p(y | z_t) from the logits h of the prediction: event shape ``[L_out]``."""
        return dist.Categorical(logits=h).to_event(1)

    def forward(
        self,
        x: Tensor | None = None,
        y: Tensor | None = None,
        *,
        latent: Latent | None = None,
        steps: int | None = None,
        start: int = 0,
        age: Tensor | None = None,
    ) -> tuple[Latent, Tensor]:
        """The program; see :meth:`Program.forward`.

        Args:
            x, y: tokens, ``[B, L_in]`` and ``[B, L_out]``, or None.
            latent: state to start from; noise if not given.
            steps: denoising steps, all T if not given.
            start: how many ``latent`` has behind it.
            age: the ``start`` of each row ``[B]``, for one step of rows at different times. Its site is "z", masked
                where t = 1, and y is masked elsewhere.
        """
        register(self.name, self)
        x, y, batch = self.given(x, y, latent)
        e, related = self.stack.encoder(x, batch), self.stack.encoder.related(x)
        h, z = (self.initial(batch) if latent is None else latent)[:2]
        with pyro.plate("batch", batch, dim=-1):
            if age is not None:
                t = self.depth - age
                last: Any = t == 1
                h = self.predict(e, related, z, t)
                with poutine.mask(mask=~last):
                    z = self._sample("z", partial(self.denoised, z=z, t=t), h.softmax(dim=-1), z, step=0)
                with poutine.mask(mask=last):
                    return Latent(h, z), pyro.sample("y", self.answer(h), obs=y)
            for n in range(start, min(start + (self.depth if steps is None else steps), self.depth)):
                if n == 0 and isinstance(self.kernel, Uniform):
                    noise = torch.full_like(h, 1 / h.shape[-1])
                    z = self._sample(f"z_{self.depth}", self.diffused, noise, z, step=n)
                t = torch.full((batch,), self.depth - n, device=z.device)
                h = self.predict(e, related, z, t)
                if n < self.depth - 1:
                    reverse = partial(self.denoised, z=z, t=t)
                    z = self._sample(f"z_{self.depth - n - 1}", reverse, h.softmax(dim=-1), z, step=n)
            y = pyro.sample("y", self.answer(h), obs=y)
        return Latent(h, z), y

    def _sample(self, name: str, given: Given, y: Tensor, z: Tensor, *, step: int) -> Tensor:
        """A noisy answer given probabilities of y: the network's here, the true answer's in the guide."""
        infer: Any = {"proposal": z, "given": given, "charged": True, "step": step}
        return one_hot(pyro.sample(name, given(y), infer=infer), z.shape[-1]).to(z)

    def _alpha(self, t: Tensor) -> Tensor:
        """Of each row, to be multiplied with tokens: ``[B] -> [B, 1, 1]``."""
        return self.kernel.alpha(t / self.depth)[:, None, None]


def _categorical(probs: Tensor) -> TorchDistributionMixin:
    return AsyncCategorical(logits=log(probs)).to_event(1)


def _waves(time: Tensor, width: int) -> Tensor:
    """Sines and cosines of a time in [0, 1], ``[B] -> [B, width]``."""
    frequency = torch.logspace(0, 3, (width + 1) // 2, device=time.device)
    angle = time[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)[:, :width]
