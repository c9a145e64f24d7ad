"""The tiny recursive model (arXiv 2510.04871): one small network on two time scales."""

from __future__ import annotations

from typing import Any

from ...tasks.base import Spec
from .halting import Halting


class TRM(Halting):
    """One network f updates latent and answer in turn; the gradient is that of a whole transition.

    ::

        l    = f(h + e_x, l), K times
        h    = f(h, l)
        halt ~ Bernoulli(sigmoid(q_halt))    site "halt": is the answer right?

    The paper's z and y are l and h here, its n and T are K (``low_steps``) and T (``transitions``). It halts where
    q_halt > 0; the Q value of going on, which HRM has, is gone.

    Differences from the published code: softmax in place of stablemax cross-entropy, an initial state for each token,
    PyTorch's initial weights, relations in the attention where the mixer has them, plain AdamW.

    Args:
        spec: shapes and relations of the task.
        exploration, options: as for :class:`gram_ppl.models.baselines.halting.Halting`.
    """

    def __init__(self, spec: Spec, *, exploration: float = 0.1, **options: Any) -> None:
        super().__init__(spec, actions=1, shared=True, exploration=exploration, **options)
