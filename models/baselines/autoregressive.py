"""An autoregressive transformer over the tokens of an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from ...nn import Attention, Block, one_hot
from ...program.model import Program
from ...program.parameters import register
from ...runtime.precision import full
from ...state import Latent
from ...tasks.base import Spec
from ..encoders.tokens import NodeTokens, PuzzleTokens, Tokens

CERTAIN = 100.0  # logit of a token that is written


class ChainRule(dist.TorchDistribution):
    """Categorical tokens one after the other, p(y) = Π p(y_i | y_<i): event shape ``[L_out]``.

    Args:
        logits: of all tokens given all tokens, ``[B, L_out] -> [B, L_out, V]``; those of token i read tokens before i.
        batch, length: B and L_out.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (as torch has it)
    support = dist.constraints.independent(dist.constraints.nonnegative_integer, 1)

    def __init__(self, logits: Callable[[Tensor], Tensor], batch: int, length: int, device: torch.device) -> None:
        self.logits, self.device = logits, device
        super().__init__(torch.Size([batch]), torch.Size([length]), validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ChainRule:
        """Itself; other batch shapes are not to be had."""
        if torch.Size(batch_shape) != self.batch_shape:
            raise NotImplementedError(f"this batch is {list(self.batch_shape)} and cannot be {list(batch_shape)}")
        return self

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 (as torch has it)
        """One answer a row, ``[B, L_out]``."""
        if torch.Size(sample_shape):
            raise NotImplementedError("one answer at a time")
        y = torch.zeros(*self.batch_shape, *self.event_shape, dtype=torch.long, device=self.device)
        for place in range(y.shape[-1]):
            y[:, place] = dist.Categorical(logits=self.logits(y)[:, place]).sample()
        return y

    def log_prob(self, value: Tensor) -> Tensor:
        """``[B, L_out] -> [B]``."""
        logits = self.logits(value).log_softmax(dim=-1)
        return logits.gather(-1, value[..., None])[..., 0].sum(dim=-1)


class Autoregressive(Program):
    """A transformer that reads the input and writes the answer token by token.

    ::

        y_i ~ Categorical(f(x, y_1 .. y_{i-1})), i = 1..L_out    all in site "y", event [L_out]

    The input's tokens see each other; behind them stand the answer's tokens, shifted by one, which see the input and
    what is before them. Relations hold between them as between the tokens that they stand for; two more say which
    input token an answer token stands for, and which answer token is just before. Given y, its density is one pass
    through the network. Its guide is :class:`gram_ppl.guides.Empty`.

    A supervision step of a rollout writes one token, site "token_i"; after L_out of them further steps change nothing.
    The state is ``Latent(h, l)``: ``[B, L_out, V]``, a large logit at each token that is written, and ``[B, 1, 1]``.

    Args:
        spec: shapes and relations of the task.
        width, hidden, layers, mixer, encoder, registers, positions, seed: as for :class:`gram_ppl.models.GRAM`; answer
            tokens always have learned positions.

    Raises:
        ValueError: an encoder without a latent token for each answer token, or a mixer other than attention.
    """

    supervision = 1  # all tokens of an answer are trained at once
    step_calls = 1
    depth: int

    def __init__(
        self,
        spec: Spec,
        *,
        width: int = 64,
        hidden: int | None = None,
        layers: int = 2,
        mixer: Attention = Attention(),  # noqa: B008 (frozen)
        encoder: Tokens | NodeTokens | PuzzleTokens = Tokens(),  # noqa: B008 (frozen)
        registers: int = 1,
        positions: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.spec, self.width, self.depth = spec, width, spec.len_out
        if not isinstance(mixer, Attention):
            raise ValueError(f"Autoregressive needs attention to mix its tokens, got {mixer}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = encoder.build(spec, width, registers, positions)
            if self.encoder.num_out != spec.len_out:
                raise ValueError(f"Autoregressive: {self.encoder.num_out} tokens are decoded to {spec.len_out} answers")
            relations, extra = self._relations(), self.encoder.num_example_relations
            self.length = length = self.encoder.length + spec.len_out
            self.blocks = nn.ModuleList(
                Block(mixer.build(width, length, relations, extra, self._seen()), width, hidden or 2 * width)
                for _ in range(layers)
            )
            self.target = self.encoder.target()
            self.places = nn.Parameter(torch.randn(spec.len_out, width))
            self.decoder = nn.Linear(width, spec.vocab_out, bias=False)

    def _wide(self, relations: Tensor) -> Tensor:
        """Relations of latent tokens, with answer tokens behind them: ``[..., L, L] -> [..., L + L_out, L + L_out]``.

        Answer token i asks as y_i, which it predicts, and answers as y_{i-1}, which it holds; the first holds nothing.
        """
        first, length = self.encoder.first_out, self.encoder.length
        asks = torch.cat([torch.arange(length), torch.arange(first, first + self.spec.len_out)])
        holds = torch.cat([torch.arange(length), torch.arange(first - 1, first + self.spec.len_out - 1)])
        wide = relations[..., asks.to(relations.device), :][..., holds.clamp(min=0).to(relations.device)]
        wide[..., length] = 0
        return wide

    def _relations(self) -> Tensor:
        first, length, num = self.encoder.first_out, self.encoder.length, self.spec.len_out
        given = self.encoder.place(self.encoder.spec.relations)
        own = torch.zeros(2, length + num, length + num)
        place = torch.arange(num)
        own[0, length + place, first + place] = 1
        own[1, length + place, length + place] = 1
        own[1, length] = 0
        return own if given is None else torch.cat([self._wide(given.float()), own])

    def _seen(self) -> Tensor:
        """What each token may read, ``[L + L_out, L + L_out]`` bool."""
        length, num = self.encoder.length, self.spec.len_out
        seen = torch.ones(length + num, length + num, dtype=torch.bool).tril()
        seen[:length, :length] = True
        return seen

    @property
    def vocabulary(self) -> int | list[int]:
        """See :attr:`Program.vocabulary`."""
        return self.encoder.vocabulary

    def initial(self, batch: int) -> Latent:
        """Nothing written."""
        h = self.places.new_zeros(batch, self.spec.len_out, self.spec.vocab_out)
        return Latent(h, h.new_zeros(batch, 1, 1))

    def logits(self, e: Tensor, related: Tensor | None, y: Tensor) -> Tensor:
        """Of every token given those before it: ``[B, L, D], [B, L_out] -> [B, L_out, V]``, float32 at least."""
        held = nn.functional.pad(self.target(y[:, :-1]), (0, 0, 1, 0)) + self.places
        h = torch.cat([e, held.to(e.dtype)], dim=1)
        wide = None if related is None else self._wide(related)
        for block in self.blocks:
            h = block(h, wide)
        return full(self.decoder(h[:, self.encoder.length :]))

    def answer(self, h: Tensor) -> TorchDistributionMixin:
        """Tokens that are written, and any token where none is: ``[B, L_out, V]`` -> event shape ``[L_out]``."""
        return dist.Categorical(logits=h).to_event(1)

    def forward(
        self,
        x: Tensor | None = None,
        y: Tensor | None = None,
        *,
        latent: Latent | None = None,
        steps: int | None = None,
        start: int = 0,
    ) -> tuple[Latent, Tensor]:
        """The program; see :meth:`gram_ppl.models.GRAM.forward`.

        Given y, or without a latent, y is one site, whatever ``steps`` says; from a latent, ``steps`` tokens are
        written behind the ``start`` that it has.
        """
        register(self.name, self)
        x, y, batch = self.given(x, y, latent)
        e, related = self.encoder(x, batch), self.encoder.related(x)
        z = self.initial(batch) if latent is None else latent
        with pyro.plate("batch", batch, dim=-1):
            if y is not None:
                whole = dist.Categorical(logits=self.logits(e, related, y)).to_event(1)
                return z, pyro.sample("y", whole, obs=y)
            if latent is None:
                chain = ChainRule(lambda y: self.logits(e, related, y), batch, self.depth, e.device)
                y = pyro.sample("y", chain)
                return Latent(self._written(y), z.l), y
            h, written = z.h, z.h.argmax(dim=-1)
            for n in range(start, min(start + (self.depth if steps is None else steps), self.depth)):
                token = pyro.sample(f"token_{n}", dist.Categorical(logits=self.logits(e, related, written)[:, n]))
                written = torch.cat([written[:, :n], token[:, None], written[:, n + 1 :]], dim=1)
                h = torch.cat([h[:, :n], self._written(token[:, None]), h[:, n + 1 :]], dim=1)
            return Latent(h, z.l), pyro.sample("y", self.answer(h))

    def _written(self, y: Tensor) -> Tensor:
        return CERTAIN * one_hot(y, self.spec.vocab_out).to(self.places)
