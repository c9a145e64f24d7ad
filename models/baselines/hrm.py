"""The hierarchical reasoning model (arXiv 2506.21734): two networks, two time scales, a one-step gradient."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ...state import Latent
from ...tasks.base import Spec
from ..recursion import RecursiveCore, through
from .halting import Halting


class OneStepCore(RecursiveCore):
    """The networks of another core; the gradient is that of the last low-level and the high-level update."""

    def __init__(self, core: RecursiveCore) -> None:
        assert core.high is not None
        blocks = iter([*core.low, *core.high])
        options: dict[str, Any] = {"layers": len(core.low), "low_steps": core.low_steps, "shared": False}
        super().__init__(lambda: next(blocks), **options)

    def forward(self, z: Latent, e: Tensor, related: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See :meth:`RecursiveCore.forward`."""
        h, low = z.h, z.l
        with torch.no_grad():
            for _ in range(self.low_steps - 1):
                low = through(self.low, low + h + e, related)
        low = through(self.low, low + h + e, related)
        assert self.high is not None
        return through(self.high, h + low, related), low


class HRM(Halting):
    """A fast network f_L and a slow one f_H, trained by a one-step gradient, halted by Q-learning.

    ::

        l        = f_L(h + e_x, l), K times
        h        = f_H(h, l)
        halt     ~ Bernoulli(sigmoid(q_halt))        site "halt": is the answer right?
        continue ~ Bernoulli(sigmoid(q_continue))    site "continue", observed at a probability:
                   sigmoid(max(q_halt', q_continue')) of the next supervision step, of q_halt' after the last

    The "continue" site's density at a probability p is the mean log density over a coin that falls on one with p:
    minus the binary cross-entropy with a soft target. The target has no gradient. The paper's T and N are K
    (``low_steps``) and T (``transitions``). It halts where q_halt > q_continue: that difference is the halting
    logit of its rollouts.

    Differences from the published code: softmax in place of stablemax cross-entropy, an initial state for each token,
    PyTorch's initial weights, relations in the attention where the mixer has them, AdamW in place of Adam-atan2.
    Published, test time always runs all supervision steps.

    Args:
        spec: shapes and relations of the task.
        exploration, options: as for :class:`gram_ppl.models.baselines.halting.Halting`.

    Raises:
        ValueError: ``low_steps`` is less than 1.
    """

    def __init__(self, spec: Spec, *, exploration: float = 0.1, **options: Any) -> None:
        super().__init__(spec, actions=2, shared=False, exploration=exploration, **options)
        if self.core.low_steps < 1:
            raise ValueError(f"low_steps must be at least 1, got {self.core.low_steps}")
        self.core = OneStepCore(self.core)

    def observe(self, x: Tensor | None, y: Tensor, z: Latent, last: Tensor) -> None:
        """See :meth:`Halting.observe`."""
        super().observe(x, y, z, last)
        target = self.going_on(x, z, last)
        q = self.q_values(z.h)[:, 1]
        pyro.sample("continue", dist.Bernoulli(logits=q, validate_args=False), obs=target)  # the value is a probability

    @torch.no_grad()
    def going_on(self, x: Tensor | None, z: Latent, last: Tensor) -> Tensor:
        """What continuing is worth, a probability ``[B]``: the best Q value one supervision step ahead."""
        e, related = self.encoder(x, len(z.h)), self.encoder.related(x)
        for _ in range(self.transitions):
            z = z.moved(*self.core(z, e, related))
        halt, more = self.q_values(z.h).unbind(dim=-1)
        return torch.where(last, halt, torch.maximum(halt, more)).sigmoid()
