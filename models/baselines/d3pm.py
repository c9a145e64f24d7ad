"""D3PM: discrete denoising diffusion with a structured forward process (arXiv 2107.03006)."""

from __future__ import annotations

from typing import Any

from ...tasks.base import Spec
from .diffusion import Diffusion
from .kernels import Absorbing, Uniform


class D3PM(Diffusion):
    """Diffusion whose network predicts y and is told the time, by default with uniform noise and 1,000 steps.

    Train it with ``gp.DenoisingELBO(auxiliary=0.01)`` for the published hybrid loss. Differences from the published
    code: blocks, post-norm, are those of the other systems, with relations where the mixer has them; the network's
    logits are not a truncated logistic over ordered values, and get no copy of z_t added.

    Args:
        spec, kernel, denoising, seed, options: as for :class:`gram_ppl.models.baselines.diffusion.Diffusion`.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        kernel: Uniform | Absorbing = Uniform(),  # noqa: B008 (frozen)
        denoising: int = 1000,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(spec, kernel=kernel, denoising=denoising, timed=True, seed=seed, **options)
