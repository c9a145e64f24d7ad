"""GRAM: recursive reasoning whose every latent transition is stochastic (arXiv 2605.19376)."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from ..heads import Heads
from ..nn import Attention, Block, SwiGLU, TokenMixing
from ..program.poutine import register, transition
from ..runtime.precision import exactly, full
from ..state import Latent, num_rows
from ..tasks.base import Spec
from .encoders.patches import Patches
from .encoders.tokens import NodeTokens, PuzzleTokens, Tokens
from .noise import LearnedNoise, NoNoise
from .recursion import RecursiveCore


class GRAM(nn.Module):
    """A probability model of answers y given an input x by way of a latent trajectory.

    ::

        e_x = f_enc(x)                                     once a run; x = None is the empty embedding
        z_0 = (h_0, l_0)                                   fixed, stored with the weights
        for n = 1..N_sup, t = 1..T:
            l   = f_L(h + e_x, l), K times                 (6)
            u   = f_H(h, l)                                (7)
            eps ~ Normal(mu(u), sigma(u)² I)               (8), site "eps_{n}_{t}", event [L, D]
            h   = u + eps                                  (9)
        y ~ Categorical(f_dec(h)) for each output token    site "y", event [L_out]

    All sites are in the plate ``batch``. ``steps=1`` from a carried latent is one supervision step;
    ``steps=N_sup`` from z_0 is the whole trajectory of eq. 13; ``y=None`` samples the answer.

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
        mixer: how tokens are mixed: :class:`gram_ppl.nn.Attention` or :class:`gram_ppl.nn.TokenMixing`.
        encoder: how an input becomes latent tokens, and which of them are decoded: :class:`Tokens`,
            :class:`NodeTokens` (graphs), :class:`PuzzleTokens` (ARC) or :class:`Patches` (pictures).
        registers: register tokens in front of the input.
        positions: learned position embedding.
        noise: stochastic guidance: :class:`LearnedNoise`, or an ablation from :mod:`gram_ppl.models.noise`.
        heads: halt and value head; :func:`gram_ppl.heads.fit_heads` makes and fits them.
        seed: draws the weights and z_0; the global generator is left alone.
    """

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
        mixer: Attention | TokenMixing = Attention(),  # noqa: B008 (frozen)
        encoder: Tokens | NodeTokens | PuzzleTokens | Patches = Tokens(),  # noqa: B008 (frozen)
        registers: int = 1,
        positions: bool = True,
        noise: LearnedNoise | NoNoise = LearnedNoise(),  # noqa: B008 (frozen)
        heads: Heads | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "width": width,
            "hidden": hidden,
            "layers": layers,
            "low_steps": low_steps,
            "transitions": transitions,
            "supervision": supervision,
            "shared": shared,
            "hierarchy": hierarchy,
            "mixer": mixer,
            "encoder": encoder,
            "registers": registers,
            "positions": positions,
            "noise": noise,
            "heads": heads,
            "seed": seed,
        }
        self.spec = spec
        self.width = width
        self.transitions = transitions
        self.supervision = supervision
        self.noise = noise
        self.heads = heads
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = encoder.build(spec, width, registers, positions)
            length, relations = self.encoder.length, self.encoder.place(self.encoder.spec.relations)
            extra = self.encoder.num_example_relations
            self.core = RecursiveCore(
                lambda: Block(mixer.build(width, length, relations, extra), width, hidden or 2 * width),
                layers=layers,
                low_steps=low_steps,
                shared=shared,
                hierarchy=hierarchy,
            )
            self.decoder = self.encoder.decoder()
            if not isinstance(noise, NoNoise):
                self.guidance = SwiGLU(width, width, 2 * width, zero=True)
            self.register_buffer("h0", torch.randn(length, width))
            self.register_buffer("l0", torch.randn(length, width))

    def deterministic(self) -> GRAM:
        """A new model of the same size without guidance; its parameters become hidden units of the blocks."""
        spare = sum(parameter.numel() for parameter in self.guidance.parameters())
        hidden = (self.config["hidden"] or 2 * self.width) + round(spare / (3 * self.width * self.config["layers"]))
        return GRAM(self.spec, **{**self.config, "hidden": hidden, "noise": NoNoise(), "heads": None})

    @property
    def step_calls(self) -> int:
        """Network evaluations of one trajectory in one supervision step, T·(K + 1)."""
        return self.transitions * (self.core.low_steps + 1)

    def initial(self, batch: int) -> Latent:
        """z_0 for a batch, ``[B, L, D]`` each."""
        return Latent(*(state.expand(batch, -1, -1) for state in (self.h0, self.l0)))

    def prior(self, u: Tensor) -> TorchDistributionMixin:
        """p(eps | u): batch shape ``[B]``, event shape ``[L, D]`` (eq. 8)."""
        assert not isinstance(self.noise, NoNoise)
        return self.noise.distribution(exactly(self.guidance, u))

    def answer(self, h: Tensor) -> TorchDistributionMixin:
        """p(y | h): independent tokens, ``[B, L, D]`` -> batch shape ``[B]``, event shape ``[L_out]``."""
        first = self.encoder.first_out
        logits = self.decoder(h[..., first : first + self.encoder.num_out, :])
        return dist.Categorical(logits=full(logits)).to_event(1)

    def forward(
        self,
        x: Tensor | None = None,
        y: Tensor | None = None,
        *,
        latent: Latent | None = None,
        steps: int | None = None,
        start: int = 0,
    ) -> tuple[Latent, Tensor]:
        """The program. Tokens x ``[B, L_in]`` and y ``[B, L_out]``; returns the last state and y.

        Args:
            x: input; None or ``[B, 0]`` for the unconditional model, whose batch is then that of y or of
                ``latent``, or 1.
            y: observed answer; None samples it.
            latent: state to start from, z_0 if not given.
            steps: supervision steps to run, N_sup if not given.
            start: number of the first of them, the n of site names: how many ``latent`` has behind it.
        """
        register("model", self)
        batch = num_rows(x, y, latent)
        e, related = self.encoder(x, batch), self.encoder.related(x)
        z = self.initial(batch) if latent is None else latent
        with pyro.plate("batch", batch, dim=-1):
            for n in range(start, start + (self.supervision if steps is None else steps)):
                for t in range(self.transitions):
                    charged = t == self.transitions - 1
                    z = self.transition(z, e, related, name=f"eps_{n}_{t}", charged=charged, step=n)
            y = pyro.sample("y", self.answer(z.h), obs=y)
        return z, y

    def transition(
        self, z: Latent, e: Tensor, related: Tensor | None = None, *, name: str, charged: bool, step: int = 0
    ) -> Latent:
        """z_{t-1} → z_t (eq. 6 to 9), with one sample site unless the noise is :class:`NoNoise`.

        Handlers find the number of the supervision step, counted from 0, in ``infer["step"]`` of site and transition.
        """

        def move(z: Latent) -> Latent:
            u, low = self.core(z, e, related)
            if isinstance(self.noise, NoNoise):
                return Latent(u, low)
            infer: Any = {"proposal": u, "charged": charged, "step": step}
            eps = pyro.sample(name, self.prior(u), infer=infer)
            return Latent(u + eps, low)

        return transition(move, z, charged=charged, name=name, infer={"step": step})
