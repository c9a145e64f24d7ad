"""Deterministic recursion: low-level updates, then the high-level update (eq. 6 and 7), decoded at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from ..heads import Heads
from ..nn import Attention, Block, Convolution, TokenMixing
from ..program.model import Program
from ..program.parameters import register
from ..program.poutine import supervision, transition
from ..runtime.arguments import whole
from ..runtime.precision import full
from ..state import Latent
from ..tasks.base import Spec
from .encoders.patches import Patches
from .encoders.tokens import NodeTokens, PuzzleTokens, Tokens


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
        h, low = z.h, z.l
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


class Recursive(Program):
    """A deterministic recursive program: what GRAM is without guidance, and the base of it and of the baselines.

    ::

        e_x = f_enc(x)                                     once a run; x = None is the empty embedding
        z_0 = (h_0, l_0)                                   fixed, stored with the weights
        for n = 1..N_sup, t = 1..T:
            l = f_L(h + e_x, l), K times                   (6)
            h = f_H(h, l)                                  (7)
        y ~ Categorical(f_dec(h)) for each output token    site "y", event [L_out]

    All sites are in the plate ``batch``.

    Args:
        spec: shapes and relations of the task.
        width: D.
        hidden: hidden units of the blocks' SwiGLU; 2·D if not given.
        layers: blocks of f_L and of f_H.
        low_steps: K, low-level updates of a transition.
        transitions: T, transitions of a supervision step.
        supervision: N_sup, supervision steps of a trajectory in training.
        shared: f_L and f_H are one network.
        hierarchy: two states on two time scales; without it h alone is updated K + 1 times, the paper's ablation.
        mixer: how tokens are mixed: :class:`gram_ppl.nn.Attention`, :class:`gram_ppl.nn.TokenMixing` or
            :class:`gram_ppl.nn.Convolution`.
        encoder: how an input becomes latent tokens, and which of them are decoded: :class:`Tokens`,
            :class:`NodeTokens` (graphs), :class:`PuzzleTokens` (ARC) or :class:`Patches` (pictures).
        registers: register tokens in front of the input.
        positions: learned position embedding.
        heads: halt and value head; :func:`gram_ppl.fit_heads` makes and fits them.
        seed: draws the weights and z_0; the global generator is left alone.
    """

    core: RecursiveCore
    h0: Tensor  # [L, D]
    l0: Tensor  # [L, D]

    def __init__(
        self,
        spec: Spec,
        *,
        width: int = 64,
        hidden: int | None = None,
        layers: int = 1,
        low_steps: int = 2,
        transitions: int = 2,
        supervision: int = 4,
        shared: bool = True,
        hierarchy: bool = True,
        mixer: Attention | TokenMixing | Convolution = Attention(),  # noqa: B008 (frozen)
        encoder: Tokens | NodeTokens | PuzzleTokens | Patches = Tokens(),  # noqa: B008 (frozen)
        registers: int = 1,
        positions: bool = True,
        heads: Heads | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(spec, Spec):
            raise ValueError(f"expected the spec of a task, found {type(spec).__name__}: is it task.spec?")
        whole(width=width, hidden=hidden, layers=layers, transitions=transitions, supervision=supervision)
        whole(0, low_steps=low_steps, registers=registers)
        self.spec = spec
        self.width = width
        self.heads: Heads | None = heads
        self.transitions = transitions
        self.supervision = supervision
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = encoder.build(spec, width, registers, positions)
            self.length = length = self.encoder.length
            relations = self.encoder.place(self.encoder.spec.relations)
            extra = self.encoder.num_example_relations
            self.core = RecursiveCore(
                lambda: Block(mixer.build(width, length, relations, extra), width, hidden or 2 * width),
                layers=layers,
                low_steps=low_steps,
                shared=shared,
                hierarchy=hierarchy,
            )
            self.decoder = self.encoder.decoder()
            self.build()
            self.register_buffer("h0", torch.randn(length, width))
            self.register_buffer("l0", torch.randn(length, width))

    def build(self) -> None:
        """Make the modules of a subclass, whose weights are drawn before z_0."""

    @property
    def step_calls(self) -> int:  # type: ignore[override]
        """Network evaluations of one trajectory in one supervision step, T·(K + 1)."""
        return self.transitions * (self.core.low_steps + 1)

    @property
    def vocabulary(self) -> int | list[int]:
        """See :attr:`Program.vocabulary`."""
        return self.encoder.vocabulary

    def initial(self, batch: int) -> Latent:
        """See :meth:`Program.initial`."""
        return Latent(self.h0, self.l0).map(lambda state: state.expand(batch, -1, -1))

    def answer(self, h: Tensor) -> TorchDistributionMixin:
        """See :meth:`Program.answer`."""
        return dist.Categorical(logits=full(self.decoder(self.decoded(h)))).to_event(1)

    def decoded(self, h: Tensor) -> Tensor:
        """The latent tokens that stand for the answer's, ``[..., L, D] -> [..., num_out, D]``."""
        first = self.encoder.first_out
        return h[..., first : first + self.encoder.num_out, :]

    def forward(
        self,
        x: Tensor | None = None,
        y: Tensor | None = None,
        *,
        latent: Latent | None = None,
        steps: int | None = None,
        start: int = 0,
    ) -> tuple[Latent, Tensor]:
        """See :meth:`Program.forward`."""
        register(self.name, self)
        x, y, batch = self.given(x, y, latent)
        e, related = self.encoder(x, batch), self.encoder.related(x)
        z = self.begin(x, batch) if latent is None else latent
        with pyro.plate("batch", batch, dim=-1):
            for n in self.numbers(start, steps):
                z = self.step(z, e, related, n)
            y = pyro.sample("y", self.decode(z), obs=y)
        return z, y

    def numbers(self, start: int, steps: int | None) -> range:
        """The supervision steps that :meth:`forward` runs."""
        return range(start, start + (self.supervision if steps is None else steps))

    def step(self, z: Latent, e: Tensor, related: Tensor | None, n: int) -> Latent:
        """Supervision step n: T transitions."""
        for t in range(self.transitions):
            z = self.transition(z, e, related, name=f"eps_{n}_{t}", charged=t == self.transitions - 1, step=n)
        after: Any = {"step": n}
        return supervision(z, infer=after)

    def transition(
        self, z: Latent, e: Tensor, related: Tensor | None = None, *, name: str, charged: bool, step: int = 0
    ) -> Latent:
        """z_{t-1} → z_t, an effect: handlers find the number of the supervision step in its ``infer["step"]``."""
        infer: Any = {"charged": charged, "step": step}
        return transition(
            lambda z: self.move(z, e, related, name, infer), z, charged=charged, name=name, infer={"step": step}
        )

    def move(self, z: Latent, e: Tensor, related: Tensor | None, name: str, infer: Any) -> Latent:
        """The transition itself; a subclass may have a sample site in it, with this name and what handlers ask for."""
        return z.moved(*self.core(z, e, related))
