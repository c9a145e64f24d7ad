"""GRAM's training segment and rollout as somebody writes them at first: plain torch, float32, eager, no Pyro.

A baseline for the benchmarks. It shares no code with the project, and computes the same function of the same weights:
one post-norm block as f_L and f_H, attention with relations through ``F.scaled_dot_product_attention``, Gaussian
guidance, charged carry, balanced KL, clipped AdamW with torch's defaults, a weight average. B rows, L tokens, D width,
H heads, R relations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def norm(x: Tensor) -> Tensor:
    """RMS norm over the last dimension, without a gain."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-6)


class SwiGLU(nn.Module):
    """``[..., in] -> [..., out]``"""

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width_in, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class SelfAttention(nn.Module):
    """``[B, L, D] -> [B, L, D]``; logits get a learned scalar for each head and relation ``[R, L, L]``."""

    def __init__(self, width: int, heads: int, relations: Tensor | None) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.relation = None if relations is None else nn.Parameter(torch.zeros(heads, len(relations)))
        self.register_buffer("related", relations, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        bias = None if self.relation is None else torch.einsum("hr,rij->hij", self.relation, self.related)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """``[B, L, D] -> [B, L, D]``"""

    def __init__(self, width: int, heads: int, relations: Tensor | None) -> None:
        super().__init__()
        self.mixer = SelfAttention(width, heads, relations)
        self.mlp = SwiGLU(width, 2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = norm(x + self.mixer(x))
        return norm(x + self.mlp(x))


class PlainGRAM(nn.Module):
    """Model and guide in one; parameters by the names of ``gp.models.GRAM`` and ``gp.guides.AmortizedGuide``.

    Args:
        model, guide: whose sizes and weights are taken: one shared block, one latent token for each token, registers
            or none in front.
    """

    h0: Tensor  # [L, D]
    l0: Tensor  # [L, D]

    def __init__(self, model: Any, guide: Any) -> None:
        super().__init__()
        width, mixer = model.width, model.core.low[0].mixer
        self.low_steps, self.transitions, self.first = model.core.low_steps, model.transitions, model.encoder.first_out
        self.supervision = model.supervision
        self.floor, self.scale = model.noise.floor, model.noise.scale
        self.embed = nn.Embedding(model.spec.vocab_in, width)
        self.positions = nn.Parameter(torch.zeros(model.encoder.num_out, width))
        self.registers = nn.Parameter(torch.zeros(self.first, width))
        self.block = Block(width, mixer.heads, None if mixer.relation is None else mixer.related)
        self.guidance = SwiGLU(width, width, 2 * width)
        self.decoder = nn.Linear(width, model.spec.vocab_out, bias=False)
        self.target = nn.Embedding(model.spec.vocab_out, width)
        self.posterior = SwiGLU(width, width, 2 * width)
        self.register_buffer("h0", model.h0.clone())
        self.register_buffer("l0", model.l0.clone())
        with torch.no_grad():
            for own, given in self.pairs(model, guide):
                own.copy_(given)

    def pairs(self, model: Any, guide: Any) -> list[tuple[Tensor, Tensor]]:
        """Each parameter of this module beside the same one of model and guide."""
        encoder = model.encoder
        found = [(self.embed.weight, encoder.tokens.weight), (self.positions, encoder.positions)]
        found += [(self.registers, encoder.extra), (self.target.weight, guide.target.weight)]
        for own, given in [
            (self.block, model.core.low[0]), (self.guidance, model.guidance), (self.decoder, model.decoder),
            (self.posterior, guide.guidance),
        ]:  # fmt: skip
            theirs = dict(given.named_parameters())
            found += [(parameter, theirs[name]) for name, parameter in own.named_parameters()]
        return found

    def encode(self, x: Tensor) -> Tensor:
        """``[B, L_in] -> [B, L, D]``"""
        tokens = self.embed(x) + self.positions
        e = torch.cat([self.registers.expand(len(x), -1, -1), tokens], dim=1)
        return e * e.shape[-1] ** 0.5

    def core(self, h: Tensor, low: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """Proposal u and the next low-level state, ``[B, L, D]`` each."""
        for _ in range(self.low_steps):
            low = self.block(low + h + e)
        return self.block(h + low), low

    def gaussian(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation from what a noise head puts out, ``[B, L, 2D] -> [B, L, D]`` twice."""
        mu, raw_sigma = raw.chunk(2, dim=-1)
        return mu, self.floor + 2 * self.scale * torch.sigmoid(raw_sigma)

    def move(self, h: Tensor, low: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """One transition under the prior."""
        u, low = self.core(h, low, e)
        mu, sigma = self.gaussian(self.guidance(u))
        return u + mu + sigma * torch.randn_like(mu), low

    def loss(
        self, x: Tensor, y: Tensor, h: Tensor, low: Tensor, beta: float, balance: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of a supervision step in nats a token, and the state ``[B, L, D]`` twice after it."""
        e = self.encode(x)
        with torch.no_grad():
            for _ in range(self.transitions - 1):
                h, low = self.move(h, low, e)
        u, low = self.core(h, low, e)
        mu_p, sigma_p = self.gaussian(self.guidance(u))
        seen = F.pad(self.target(y), (0, 0, self.first, 0))
        mu_q, sigma_q = self.gaussian(self.posterior(u + seen))
        h = u + mu_q + sigma_q * torch.randn_like(mu_q)
        to_prior = kl(mu_q.detach(), sigma_q.detach(), mu_p, sigma_p)
        to_posterior = kl(mu_q, sigma_q, mu_p.detach(), sigma_p.detach())
        logits = self.decoder(h[:, self.first :])
        nll = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum") / len(x)
        loss = nll + beta * (balance * to_prior + (1 - balance) * to_posterior)
        return loss / y.shape[1], h.detach(), low.detach()

    @torch.no_grad()
    def rollout(self, x: Tensor, num_samples: int, steps: int) -> Tensor:
        """Tokens of N trajectories of the prior for each input, ``[B, L_in] -> [B, N, L_out]``, all in one batch."""
        e = self.encode(x.repeat_interleave(num_samples, dim=0))
        h, low = self.h0.expand_as(e), self.l0.expand_as(e)
        for _ in range(steps * self.transitions):
            h, low = self.move(h, low, e)
        return self.decoder(h[:, self.first :]).argmax(dim=-1).view(len(x), num_samples, -1)


def kl(mu_q: Tensor, sigma_q: Tensor, mu_p: Tensor, sigma_p: Tensor) -> Tensor:
    """KL(q ‖ p) of a row, mean over the batch, nats."""
    ratio = sigma_q / sigma_p
    terms = 0.5 * (ratio**2 + ((mu_q - mu_p) / sigma_p) ** 2 - 1) - torch.log(ratio)
    return terms.sum(dim=(1, 2)).mean()


class PlainTrainer:
    """The plain update: clipped AdamW, each parameter averaged; weights of linear layers are decayed.

    Args:
        plain: the model.
        beta, balance: weight of the KL, and the share of it that trains the prior.
        lr, decay, ema: rate, weight decay, and decay of the weight average.
    """

    def __init__(
        self,
        plain: PlainGRAM,
        beta: float = 1.0,
        balance: float = 0.8,
        lr: float = 1e-3,
        decay: float = 0.1,
        ema: float = 0.999,
    ) -> None:
        self.plain, self.beta, self.balance, self.ema = plain, beta, balance, ema
        linear = [module.weight for module in plain.modules() if isinstance(module, nn.Linear)]
        others = [p for p in plain.parameters() if not any(p is weight for weight in linear)]
        groups = [{"params": linear, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))
        self.average = [parameter.detach().clone() for parameter in plain.parameters()]

    def step(self, x: Tensor, y: Tensor, h: Tensor, low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One update; loss and the next state."""
        self.optimizer.zero_grad()
        loss, h, low = self.plain.loss(x, y, h, low, self.beta, self.balance)
        loss.backward()
        nn.utils.clip_grad_norm_(self.plain.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for averaged, parameter in zip(self.average, self.plain.parameters(), strict=True):
                averaged.lerp_(parameter, 1 - self.ema)
        return loss.detach(), h, low

    def run(self, batches: Iterator[Any], rows: int, updates: int) -> list[float]:
        """Losses of so many updates: batch after batch takes the place of the oldest ``rows`` of the rows in flight.

        The first batches fill them.
        """
        supervision = self.plain.supervision
        x, y = (torch.cat(tensors) for tensors in zip(*(next(batches) for _ in range(supervision)), strict=True))
        h, low = (state.repeat(len(x), 1, 1) for state in (self.plain.h0, self.plain.l0))
        losses = []
        for update in range(updates):
            if update > 0:
                oldest = slice(update % supervision * rows, (update % supervision + 1) * rows)
                x[oldest], y[oldest] = next(batches)
                h[oldest], low[oldest] = self.plain.h0, self.plain.l0
            loss, h, low = self.step(x, y, h, low)
            losses.append(loss.item())
        return losses
