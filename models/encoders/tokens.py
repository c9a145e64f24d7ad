"""Between tokens and latent tokens: the embedding of an input, and which latent tokens are decoded.

An encoder is chosen by an object (:class:`Tokens`, :class:`NodeTokens`, :class:`PuzzleTokens`,
:class:`gram_ppl.models.Patches`) that the model takes as its ``encoder=`` argument.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...tasks.base import Spec
from ...tasks.edges import adjacency, num_nodes


class Encoder(nn.Module):
    """e_x = f_enc(x): embeddings scaled by √D, learned positions, register tokens in front.

    The latent tokens are ``registers`` register tokens, then M embedded input tokens; where the answer has a length
    of its own, L_out answer tokens follow. Without an input, the empty embedding takes the place of every input
    token (the unconditional model of the paper's section 3).

    Args:
        tokens: what embeds an input, ``[B, L_in] -> [B, M, D]``.
        spec: shapes of the task.
        width: D.
        length: M.
        slots: answer tokens behind the input tokens.
        registers: number of register tokens (the paper's puzzle tokens).
        positions: learn a position embedding; without it only RoPE and relations tell tokens apart.
    """

    num_example_relations = 0

    def __init__(
        self, tokens: nn.Module, spec: Spec, width: int, length: int, slots: int, registers: int, positions: bool
    ) -> None:
        super().__init__()
        self.spec = spec
        self.width = width
        self.vocabulary: int | list[int] = spec.vocab_in  # see :attr:`gram_ppl.Program.vocabulary`
        self.slots = slots
        self.length = registers + length + slots
        self.registers = registers
        self.first_out = registers + (length if slots else 0)
        self.num_out = slots or length
        self.scale = width**0.5
        std = width**-0.5
        self.tokens = tokens
        self.empty = nn.Parameter(torch.randn(width) * std)
        self.extra = nn.Parameter(torch.randn(registers + slots, width) * std)
        self.positions = nn.Parameter(torch.randn(length, width) * std) if positions else None

    def place(self, relations: Tensor | None) -> Tensor | None:
        """The task's relations as relations of latent tokens, ``[R, M, M] -> [R, L, L]``.

        Registers are related to nothing, nor are answer tokens unless the relations cover them.
        """
        if relations is None:
            return None
        behind = self.length - self.registers - relations.shape[-1]
        return nn.functional.pad(relations, (self.registers, behind) * 2)

    def related(self, x: Tensor | None) -> Tensor | None:
        """Relations of each example, ``[B, L_in] -> [B, num_example_relations, L, L]``; None if there are none."""
        return None

    def target(self, vocab: int | None = None) -> nn.Module:
        """A fresh embedding of answers, ``[B, L_out] -> [B, num_out, D]``; ``vocab`` where they have more tokens."""
        return nn.Embedding(vocab or self.spec.vocab_out, self.width)

    def decoder(self) -> nn.Module:
        """A fresh f_dec, from the decoded latent tokens to logits, ``[B, num_out, D] -> [B, L_out, vocab_out]``."""
        return nn.Linear(self.width, self.spec.vocab_out, bias=False)

    def forward(self, x: Tensor | None, batch: int) -> Tensor:
        """``[B, L_in] -> [B, L, D]``; ``None`` or no tokens, ``[B, 0]``, is the empty embedding, ``batch`` times."""
        if x is None or x.shape[-1] == 0:
            tokens = self.empty.expand(batch, self.length - self.registers - self.slots, -1)
        else:
            # a parameter without a gradient would break distributed training
            tokens = self.tokens(x) + 0 * self.empty
        if self.positions is not None:
            tokens = tokens + self.positions
        extra = self.extra.expand(batch, -1, -1)
        with torch.autocast(tokens.device.type, enabled=False):  # bfloat16's on a CPU refuses float16
            whole = torch.cat([extra[:, : self.registers], tokens, extra[:, self.registers :]], dim=1)
        return self.scale * whole


def _embedding(num: int, width: int) -> nn.Embedding:
    tokens = nn.Embedding(num, width)
    nn.init.normal_(tokens.weight, std=width**-0.5)
    return tokens


@dataclass(frozen=True)
class Tokens:
    """Each input token is a latent token; answers of another length get tokens of their own behind them."""

    def build(self, spec: Spec, width: int, registers: int, positions: bool) -> Encoder:
        """The encoder module of a task."""
        slots = 0 if spec.len_out == spec.len_in else spec.len_out
        return Encoder(_embedding(spec.vocab_in, width), spec, width, spec.len_in, slots, registers, positions)


class _AdjacencyRows(nn.Module):
    """The neighbours of each node, ``[B, n (n - 1) / 2] -> [B, n, D]``."""

    def __init__(self, nodes: int, width: int) -> None:
        super().__init__()
        self.row = nn.Linear(nodes, width, bias=False)
        nn.init.normal_(self.row.weight, std=(nodes * width) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.row(adjacency(x).to(self.row.weight.dtype))


class NodeEncoder(Encoder):
    """A latent token for each node of a graph whose edge tokens are the input; its edges are the relation."""

    num_example_relations = 1

    def related(self, x: Tensor | None) -> Tensor:
        """The adjacency matrix among node tokens, ``[B, 1, L, L]``; no edges without an input."""
        if x is None or x.shape[-1] == 0:
            return torch.zeros(1, 1, self.length, self.length, device=self.empty.device)
        pad = (self.registers, 0) * 2
        return nn.functional.pad(adjacency(x).unsqueeze(-3).to(self.empty.dtype), pad)


@dataclass(frozen=True)
class NodeTokens:
    """One latent token a node instead of one an edge (graph tasks): n tokens in place of n (n - 1) / 2 + n."""

    def build(self, spec: Spec, width: int, registers: int, positions: bool) -> Encoder:
        """The encoder module of a task whose input is the edge tokens of a graph.

        Raises:
            ValueError: the input is no triangle of edges over L_out nodes.
        """
        nodes = num_nodes(spec.len_in)
        if nodes != spec.len_out:
            raise ValueError(f"NodeTokens: {spec.len_in} edge tokens are no graph on {spec.len_out} nodes")
        tokens = _AdjacencyRows(nodes, width)
        return NodeEncoder(tokens, spec._replace(relations=None), width, nodes, 0, registers, positions)


class _PuzzleAndCanvas(nn.Module):
    """Embeds the first token, a puzzle's number, and the canvas behind it by tables of their own."""

    def __init__(self, puzzles: int, vocab: int, width: int) -> None:
        super().__init__()
        self.puzzle = nn.Embedding(puzzles, width)
        nn.init.zeros_(self.puzzle.weight)
        self.canvas = _embedding(vocab, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.puzzle(x[..., :1]), self.canvas(x[..., 1:])], dim=-2)


class PuzzleEncoder(Encoder):
    """The puzzle's number is one more register; the canvas tokens are the answer tokens (ARC)."""

    def __init__(self, puzzles: int, spec: Spec, width: int, registers: int, positions: bool) -> None:
        tokens = _PuzzleAndCanvas(puzzles, spec.vocab_in, width)
        super().__init__(tokens, spec, width, spec.len_in, 0, registers, positions)
        self.vocabulary = [puzzles] + spec.len_out * [spec.vocab_in]
        self.first_out = registers + 1
        self.num_out = spec.len_out


@dataclass(frozen=True)
class PuzzleTokens:
    """An input of a puzzle number and a canvas (ARC): an embedding for each puzzle, starting at zero.

    Args:
        puzzles: how many puzzles there are, ``task.num_puzzles``.
    """

    puzzles: int

    def build(self, spec: Spec, width: int, registers: int, positions: bool) -> Encoder:
        """The encoder module of a task with ``L_in = 1 + L_out``.

        Raises:
            ValueError: other lengths.
        """
        if spec.len_in != 1 + spec.len_out:
            raise ValueError(f"PuzzleTokens: expected one token before {spec.len_out}, found {spec.len_in} in all")
        return PuzzleEncoder(self.puzzles, spec, width, registers, positions)
