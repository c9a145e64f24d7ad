"""The deterministic part of a transition: low-level updates, then the high-level proposal (eq. 6 and 7)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ..nn import Block
from ..state import Latent


class RecursiveCore(nn.Module):
    """f_L and f_H, each a stack of post-norm blocks on the sum of what it reads.

    Args:
        block: makes one block; called ``layers`` times for each network.
        layers: blocks of a network.
        low_steps: K, low-level updates of a transition.
        shared: one network serves as f_L and f_H (as in TRM, arXiv 2510.04871).
        hierarchy: without it there is one state, h, which f_L updates K + 1 times, u = f(... f(h + e_x) + e_x); the
            low-level state stays as it is.

    Raises:
        ValueError: two networks without a hierarchy.
    """

    def __init__(
        self, block: Callable[[], Block], *, layers: int, low_steps: int, shared: bool, hierarchy: bool = True
    ) -> None:
        super().__init__()
        if not (shared or hierarchy):
            raise ValueError("without a hierarchy there is one network: shared=False needs hierarchy=True")
        self.low_steps = low_steps
        self.hierarchy = hierarchy
        self.low = nn.Sequential(*(block() for _ in range(layers)))
        self.high = None if shared else nn.Sequential(*(block() for _ in range(layers)))

    def forward(self, z: Latent, e: Tensor, related: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Proposal u and new low-level state, ``[B, L, D]`` each.

        l_k = f_L(h + e_x, l_{k-1}) for k = 1..K, u = f_H(h, l_K). ``related [B, R, L, L]``: relations of each example.
        """
        h, low = z
        if not self.hierarchy:
            for _ in range(self.low_steps + 1):
                h = through(self.low, h + e, related)
            return h, low
        injected = h + e
        for _ in range(self.low_steps):
            low = through(self.low, low + injected, related)
        high = self.low if self.high is None else self.high
        return through(high, h + low, related), low


def through(blocks: nn.Sequential, x: Tensor, related: Tensor | None) -> Tensor:
    for block in blocks:
        x = block(x, related)
    return x
