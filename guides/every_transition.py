"""The literal reading of the paper: the posterior acts in every transition, only the last is charged."""

from __future__ import annotations

from .amortized import AmortizedGuide


class EveryTransition(AmortizedGuide):
    """As :class:`AmortizedGuide`, but y enters all T transitions while eq. 14 charges only the last.

    The uncharged transitions are a free channel for y; kept to be compared with.
    """

    def acts(self, charged: bool) -> bool:
        """Always."""
        return True
