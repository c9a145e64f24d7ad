"""Building blocks of the recursive networks: RMS norm, SwiGLU, attention with relations, other mixers, block.

Every module maps ``[..., L, D] -> [..., L, D]`` for any leading batch dimensions. Mixers are chosen by an
object (:class:`Attention`, :class:`TokenMixing`, :class:`Convolution`) that a model takes as its ``mixer=`` argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rms_norm(x: Tensor) -> Tensor:
    """Root-mean-square norm over the last dimension, without a gain (arXiv 1910.07467)."""
    return x * (x.norm(dim=-1, keepdim=True) * x.shape[-1] ** -0.5 + 1e-6).reciprocal()


def one_hot(tokens: Tensor, vocab: int) -> Tensor:
    """Which token stands in each place, ``[...] int64 -> [..., vocab]`` bool.

    On the CPU torch's own looks at the tokens first, to check them.
    """
    return tokens[..., None] == torch.arange(vocab, device=tokens.device)


class SwiGLU(nn.Module):
    """Gated feed-forward network, ``down(silu(gate(x)) * up(x))`` (arXiv 2002.05202): ``[..., in] -> [..., out]``."""

    def __init__(self, width_in: int, hidden: int, width_out: int, *, zero: bool = False) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width_in, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width_out, bias=False)
        if zero:
            nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


def rotary(length: int, width: int, base: float = 10_000.0) -> Tensor:
    """Cosines and sines of rotary position embedding (arXiv 2104.09864): ``[2, length, width]``."""
    frequency = base ** (-torch.arange(0, width, 2) / width)
    angle = torch.outer(torch.arange(length), frequency).repeat(1, 2)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x: Tensor, cos_sin: Tensor) -> Tensor:
    """Apply :func:`rotary` to ``[..., length, width]``."""
    first, second = x.chunk(2, dim=-1)
    return x * cos_sin[0] + torch.cat([-second, first], dim=-1) * cos_sin[1]


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(q kᵀ / √d + bias) v: ``[B, H, L, d]`` each, bias ``[H, L, L]`` or ``[B, H, L, L]``.

    The fused kernel on an accelerator; on the CPU three plain batched products, which are faster there
    because the fused kernel makes one tiny product for each batch row and head.
    """
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(q.dtype))
    batch, heads, length, width = q.shape
    rows = batch * heads
    q, k, v = (tensor.reshape(rows, length, width) for tensor in (q, k, v))
    if bias is None:
        logits = torch.bmm(q * width**-0.5, k.transpose(1, 2))
    else:
        bias = bias.expand(batch, heads, length, length).reshape(rows, length, length)
        logits = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=width**-0.5)
    return torch.bmm(logits.softmax(dim=-1), v).view(batch, heads, length, width)


class AttentionMixer(nn.Module):
    """Multi-head self-attention whose logits get a learned scalar for each head and relation.

    The scalar of head i and relation j starts at ``relation_init`` where ``j == i mod (R + 1)`` and at zero
    elsewhere, so every relation has heads of its own and every (R + 1)-th head starts free.
    """

    cos_sin: Tensor | None
    related: Tensor  # [R, L, L]
    hidden: Tensor | None  # [L, L], 0 where row may read column, else -inf

    def __init__(
        self,
        width: int,
        length: int,
        relations: Tensor | None,
        per_example: int,
        options: Attention,
        seen: Tensor | None = None,
    ) -> None:
        super().__init__()
        if width % options.heads:
            raise ValueError(f"width {width} is not a multiple of heads {options.heads}")
        self.heads = options.heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        head_width = width // options.heads
        self.register_buffer("cos_sin", rotary(length, head_width) if options.rope else None, persistent=False)
        hidden = None if seen is None else torch.zeros(length, length).masked_fill(~seen, -torch.inf)
        self.register_buffer("hidden", hidden, persistent=False)
        self.relation: nn.Parameter | None = None
        static = torch.zeros(0, length, length) if relations is None else relations.to(torch.get_default_dtype())
        count = static.shape[0] + per_example
        if options.relations and count:
            scalars = torch.zeros(options.heads, count)
            for head in range(options.heads):
                if head % (count + 1) < count:
                    scalars[head, head % (count + 1)] = options.relation_init
            self.relation = nn.Parameter(scalars)
            self.register_buffer("related", static, persistent=False)

    def bias(self, related: Tensor | None = None) -> Tensor | None:
        """The bias of the attention logits, None where there are no relations and every token may read all others.

        ``[H, L, L]``; with relations of each example ``[B, R', L, L]`` behind the task's own, ``[B, H, L, L]``.
        """
        if self.relation is None:
            return None if self.hidden is None else self.hidden.expand(self.heads, -1, -1)
        count, length, _ = self.related.shape
        bias = (self.relation[:, :count] @ self.related.flatten(1)).view(-1, length, length)
        if self.hidden is not None:
            bias = bias + self.hidden
        return bias if related is None else bias + torch.einsum("hr,brij->bhij", self.relation[:, count:], related)

    def forward(self, x: Tensor, related: Tensor | None = None) -> Tensor:
        *lead, length, width = x.shape
        qkv = self.qkv(x).view(-1, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.cos_sin is not None:
            q, k = rotate(q, self.cos_sin), rotate(k, self.cos_sin)
        bias = self.bias(related)
        if bias is not None and bias.dim() > 3:  # of each example, for all particles
            bias = bias.expand(*lead, -1, -1, -1).flatten(0, -4)
        mixed = attend(q, k, v, bias)
        return self.out(mixed.transpose(1, 2).reshape(*lead, length, width))


class TokenMixer(nn.Module):
    """A SwiGLU over the token dimension, the paper's mixer for Sudoku (as in MLP-Mixer, arXiv 2105.01601)."""

    def __init__(self, length: int, hidden: int) -> None:
        super().__init__()
        self.mlp = SwiGLU(length, hidden, length)

    def forward(self, x: Tensor, related: Tensor | None = None) -> Tensor:
        return self.mlp(x.transpose(-1, -2)).transpose(-1, -2)


@dataclass(frozen=True)
class Attention:
    """Mix tokens by attention.

    Args:
        heads: number of heads H; divides the width.
        rope: rotary position embedding on queries and keys.
        relations: add a learned scalar per head for each of the task's relations (not in the paper).
        relation_init: where the scalar of a head's own relation starts.
    """

    heads: int = 4
    rope: bool = False
    relations: bool = True
    relation_init: float = 5.0

    def build(
        self, width: int, length: int, relations: Tensor | None, per_example: int = 0, seen: Tensor | None = None
    ) -> AttentionMixer:
        """The module for ``[..., length, width]``, relations ``[R, length, length]`` and R' more of each example.

        ``seen [length, length]`` bool: which tokens (columns) each token (row) may read, all if not given.
        """
        return AttentionMixer(width, length, relations, per_example, self, seen)


@dataclass(frozen=True)
class TokenMixing:
    """Mix tokens by a SwiGLU over the token dimension of ``hidden`` units (the paper's Sudoku setting)."""

    hidden: int = 128

    def build(self, width: int, length: int, relations: Tensor | None, per_example: int = 0) -> nn.Module:
        """The module for ``[..., length, width]``; relations are not used."""
        return TokenMixer(length, self.hidden)


class ConvolutionMixer(nn.Module):
    """A convolution over the cells of a board, each channel by itself, then a linear map of the channels."""

    def __init__(self, width: int, options: Convolution) -> None:
        super().__init__()
        self.size = options.rows, options.columns
        self.cells = nn.Conv2d(width, width, options.kernel, padding=options.kernel // 2, groups=width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, related: Tensor | None = None) -> Tensor:
        board = x.reshape(-1, *self.size, x.shape[-1]).permute(0, 3, 1, 2)
        return self.out(self.cells(board).permute(0, 2, 3, 1).reshape(x.shape))


@dataclass(frozen=True)
class Convolution:
    """Mix the cells of a board with those around them, for rules that are local, such as those of mazes.

    Beyond the edge there are zeros, so a cell knows that it lies there. A token costs the same on every board, where
    attention pays for each pair; what is far away is reached by recursion (as in arXiv 2106.04537). The model has
    ``registers=0``, and the board's cells as its tokens, row by row.

    Args:
        rows: of the board.
        columns: of the board.
        kernel: how many cells wide and high, an odd number.
    """

    rows: int
    columns: int
    kernel: int = 3

    def build(self, width: int, length: int, relations: Tensor | None, per_example: int = 0) -> nn.Module:
        """The module for ``[..., length, width]``; relations are not used.

        Raises:
            ValueError: the tokens are not those of the board, or the kernel has no middle.
        """
        if length != self.rows * self.columns:
            raise ValueError(
                f"Convolution: {self.rows} x {self.columns} cells are {self.rows * self.columns} tokens, and the model "
                f"has {length}; it must have registers=0."
            )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel: expected an odd number, found {self.kernel}.")
        return ConvolutionMixer(width, self)


class Block(nn.Module):
    """Post-norm block: mix the tokens, then a SwiGLU on each; a norm ends both (paper, section 4)."""

    def __init__(self, mixer: nn.Module, width: int, hidden: int) -> None:
        super().__init__()
        self.mixer = mixer
        self.mlp = SwiGLU(width, hidden, width)

    def forward(self, x: Tensor, related: Tensor | None = None) -> Tensor:
        x = rms_norm(x + self.mixer(x, related))
        return rms_norm(x + self.mlp(x))
