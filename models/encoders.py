"""Between tokens and latent tokens: the embedding of an input, and which latent tokens are decoded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..tasks.base import Spec


class TokenEncoder(nn.Module):
    """e_x = f_enc(x): embeddings scaled by √D, learned positions, register tokens in front.

    The latent tokens are ``registers`` register tokens, then the L_in input tokens; where the output has
    another length than the input, L_out answer tokens follow. Without an input, the empty embedding takes
    the place of every input token (the unconditional model of the paper's section 3).

    Args:
        spec: shapes of the task.
        width: D.
        registers: number of register tokens (the paper's puzzle tokens).
        positions: learn a position embedding; without it only RoPE and relations tell tokens apart.
    """

    def __init__(self, spec: Spec, width: int, registers: int, positions: bool) -> None:
        super().__init__()
        self.slots = 0 if spec.len_out == spec.len_in else spec.len_out
        self.length = registers + spec.len_in + self.slots
        self.registers = registers
        self.first_out = registers + (spec.len_in if self.slots else 0)
        self.scale = width**0.5
        std = width**-0.5
        self.tokens = nn.Embedding(spec.vocab_in, width)
        nn.init.normal_(self.tokens.weight, std=std)
        self.empty = nn.Parameter(torch.randn(width) * std)
        self.extra = nn.Parameter(torch.randn(registers + self.slots, width) * std)
        self.positions = nn.Parameter(torch.randn(spec.len_in, width) * std) if positions else None

    def place(self, relations: Tensor | None) -> Tensor | None:
        """Relations of input tokens as relations of latent tokens, ``[R, L_in, L_in] -> [R, L, L]``.

        Registers and answer tokens are related to nothing.
        """
        return None if relations is None else nn.functional.pad(relations, (self.registers, self.slots) * 2)

    def forward(self, x: Tensor | None, batch: int) -> Tensor:
        """``[B, L_in] -> [B, L, D]``; ``None`` is the empty embedding, ``batch`` times."""
        if x is None:
            tokens = self.empty.expand(batch, self.length - self.registers - self.slots, -1)
        else:
            # a parameter without a gradient would break distributed training
            tokens = self.tokens(x) + 0 * self.empty
        if self.positions is not None:
            tokens = tokens + self.positions
        extra = self.extra.expand(batch, -1, -1)
        return self.scale * torch.cat([extra[:, : self.registers], tokens, extra[:, self.registers :]], dim=1)
