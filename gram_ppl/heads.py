"""Halt head and value head: what a state says about the answer it decodes to (paper, appendices A.1 and A.2).

Both are fitted on states of *prior* rollouts, with weights of the core that stand still for them: heads fitted on
posterior states halt at once at inference.

==========  ===========================  ==================================================================
head        reads                        probability of
==========  ===========================  ==================================================================
halt        h after supervision step n   the answer decoded there is right, ``task.verify``
value       h after supervision step n   the trajectory's *last* answer will be right, the r of the LPRM
==========  ===========================  ==================================================================

"Right" is the verifier's word, since an input may have several solutions. The halt head is the paper's variant that
has no Q value for going on. Both minimise the cross-entropy, a proper score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .runtime.arguments import Captured


@dataclass(frozen=True)
class FirstToken:
    """The heads read the first latent token, as in the paper; a small model has not learned to write there."""

    def __call__(self, h: Tensor) -> Tensor:
        """``[B, L, D] -> [B, D]``."""
        return h[:, 0]


@dataclass(frozen=True)
class MeanToken:
    """The heads read the mean over all latent tokens."""

    def __call__(self, h: Tensor) -> Tensor:
        """``[B, L, D] -> [B, D]``."""
        return h.mean(dim=1)


class Heads(nn.Module, metaclass=Captured):
    """Halt and value head, one hidden layer for both; no gradient goes into the state that they read.

    Only :class:`~gram_ppl.training.fit_heads.HeadTrainer` trains them: their parameters ask for no gradient elsewhere.

    Args:
        width: D.
        hidden: hidden units; D if not given.
        pool: what is read of a state, :class:`MeanToken` or :class:`FirstToken`.
        seed: draws the weights.
    """

    def __init__(
        self, width: int, *, hidden: int | None = None, pool: MeanToken | FirstToken = MeanToken(), seed: int = 0
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.pool = pool
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mlp = nn.Sequential(nn.Linear(width, hidden or width), nn.SiLU(), nn.Linear(hidden or width, 2))
        self.requires_grad_(False)

    def read(self, h: Tensor) -> Tensor:
        """What the heads see of a state, ``[B, L, D] -> [B, D]``, without a gradient."""
        return self.pool(h.detach()).to(next(self.parameters()).dtype)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Logit of the halt head and the value, a probability: ``[B, L, D] -> [B], [B]``."""
        halt, value = self.mlp(self.read(h)).float().unbind(dim=-1)
        return halt, value.sigmoid()


def attach(model: Any, heads: Heads) -> None:
    """Give a model its heads; they are saved and loaded with it."""
    model.heads = heads.to(next(model.parameters()).device)
    model.config["heads"] = heads
