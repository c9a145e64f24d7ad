"""MDLM: masked diffusion language model (arXiv 2406.07524)."""

from __future__ import annotations

from typing import Any

from ...tasks.base import Spec
from .diffusion import Diffusion
from .kernels import Absorbing


class MDLM(Diffusion):
    """Masked diffusion: absorbing noise, a network that is not told the time, tokens that are not masked carried over.

    With these the bound of a step is a weighted cross-entropy of the masked tokens. Its sites keep T discrete steps,
    where the publication takes the limit of many; :meth:`respaced` changes their number after training.

    Args:
        spec, denoising, seed, options: as for :class:`gram_ppl.models.baselines.diffusion.Diffusion`.
    """

    fixed = ("timed", "kernel")

    def __init__(self, spec: Spec, *, denoising: int = 64, seed: int = 0, **options: Any) -> None:
        super().__init__(spec, kernel=Absorbing(), denoising=denoising, timed=False, seed=seed, **options)
