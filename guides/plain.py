"""A guide for inference that runs guide and model one after the other."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..program.guide import Guide


class Plain(nn.Module):
    """A :class:`gram_ppl.Guide` as any other Pyro callable: the model runs a second time, and nothing else changes.

    ``pyro.infer.ReweightedWakeSleep`` and ``TraceEnum_ELBO`` refuse a guide that runs in one pass with its model. Other
    stock objectives, given such a guide, run the model that it was made for; with this they run the model given,
    whatever handlers it wears, and handlers around the guide act on it alone.

    Args:
        guide: what it calls.
    """

    def __init__(self, guide: Guide) -> None:
        super().__init__()
        self.guide = guide

    def forward(
        self, x: Tensor | None = None, y: Tensor | None = None, *, observations: Any = None, **kwargs: Any
    ) -> dict[str, Tensor]:
        """See :meth:`Guide.forward`; ``observations["y"]`` is what a sleep phase of wake-sleep dreamt of."""
        found: dict[str, Tensor] = self.guide(x, observations["y"] if observations else y, **kwargs)
        return found
