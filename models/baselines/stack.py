"""What the one-pass networks share: an encoder, a stack of blocks, a decoder."""

from __future__ import annotations

from torch import Tensor, nn

from ...nn import Attention, Block, Convolution, TokenMixing
from ...runtime.precision import full
from ...tasks.base import Spec
from ..encoders.patches import Patches
from ..encoders.tokens import NodeTokens, PuzzleTokens, Tokens


class Stack(nn.Module):
    """Blocks with weights of their own, between the encoder and the decoder of :class:`gram_ppl.models.GRAM`.

    Args:
        spec: shapes and relations of the task.
        width, hidden, layers, mixer, encoder, registers, positions: as for :class:`gram_ppl.models.GRAM`.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        width: int = 64,
        hidden: int | None = None,
        layers: int = 2,
        mixer: Attention | TokenMixing | Convolution = Attention(),  # noqa: B008 (frozen)
        encoder: Tokens | NodeTokens | PuzzleTokens | Patches = Tokens(),  # noqa: B008 (frozen)
        registers: int = 1,
        positions: bool = True,
    ) -> None:
        super().__init__()
        self.width = width
        self.mixer = mixer
        self.encoder = encoder.build(spec, width, registers, positions)
        length, relations = self.encoder.length, self.encoder.place(self.encoder.spec.relations)
        extra = self.encoder.num_example_relations
        self.blocks = nn.ModuleList(
            Block(mixer.build(width, length, relations, extra), width, hidden or 2 * width) for _ in range(layers)
        )
        self.decoder = self.encoder.decoder()

    def place(self, tokens: Tensor) -> Tensor:
        """What belongs to the decoded tokens at their place among all: ``[B, num_out, D] -> [B, L, D]``."""
        first = self.encoder.first_out
        return nn.functional.pad(tokens, (0, 0, first, self.encoder.length - first - self.encoder.num_out))

    def forward(self, e: Tensor, related: Tensor | None = None) -> Tensor:
        """``[B, L, D] -> [B, L, D]``; ``related``: relations of each example, ``[B, R, L, L]``."""
        for block in self.blocks:
            e = block(e, related)
        return e

    def logits(self, h: Tensor) -> Tensor:
        """``[B, L, D] -> [B, L_out, vocab_out]``, float32 at least."""
        first = self.encoder.first_out
        return full(self.decoder(h[..., first : first + self.encoder.num_out, :]))
