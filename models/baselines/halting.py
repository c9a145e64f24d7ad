"""What HRM and TRM share: deterministic recursion whose Q values, read off the first latent token, say when to stop."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from ...program.poutine import chance
from ...runtime.precision import full
from ...state import Latent
from ...tasks.base import Spec
from ..recursion import Recursive


class Halting(Recursive):
    """Deterministic recursion with adaptive computation time (Q-halting) in training.

    ::

        z_{t}  = core(z_{t-1}, e_x)                    t = 1..T, deterministic
        y     ~ Categorical(f_dec(h_T))                site "y", event [L_out]
        q      = W h_T[0] + b                          a Q value for each action
        halt  ~ Bernoulli(sigmoid(q_halt))             site "halt", observed: 1[argmax f_dec(h_T) = y]

    The Q sites are there where y is given, and weigh 0.5 · L_out, so that the loss of a supervision step is the mean
    cross-entropy of a token and half the binary cross-entropy of each Q value, per row. Their gradient flows into the
    core. A trainer asks :meth:`halts` which rows give way to fresh puzzles.

    Args:
        spec: shapes and relations of the task.
        actions: Q values: 1 for halt, 2 for halt and continue.
        exploration: probability with which a row must run a number of supervision steps drawn from 2..N_sup.
        options: all other arguments of :class:`gram_ppl.models.GRAM` but ``noise``.
    """

    halting = True
    fixed = ("actions", "shared")

    def __init__(self, spec: Spec, *, actions: int, exploration: float = 0.1, **options: Any) -> None:
        super().__init__(spec, **options)
        self.exploration = exploration
        self.q = nn.utils.skip_init(nn.Linear, self.width, actions)  # draws nothing from the global generator
        nn.init.zeros_(self.q.weight)
        nn.init.constant_(self.q.bias, -5.0)

    def q_values(self, h: Tensor) -> Tensor:
        """Logits of the Q values, ``[B, L, D] -> [B, actions]``, float32 at least."""
        return full(self.q(h[:, 0]))

    def judge(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Program.judge`: fitted heads go before the Q values."""
        return super().judge(h) or self.verdict(h)

    def verdict(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Halting logit, positive where it halts, and probability of a right answer: ``[B, L, D] -> [B], [B]``."""
        q = self.q_values(h)
        return q[:, 0] - q[:, 1:].sum(dim=-1), q[:, 0].sigmoid()

    def halts(self, h: Tensor, age: Tensor) -> Tensor:
        """Rows that halt in training after ``age [B]`` supervision steps: ``[B, L, D] -> [B]`` bool.

        The exploration draws from torch's global generator.
        """
        most = max(self.supervision, 2) + 1
        explores = chance(lambda rows, g: torch.rand(rows, device=age.device, generator=g), len(age)) < self.exploration
        least = chance(lambda rows, g: torch.randint(2, most, (rows,), device=age.device, generator=g), len(age))
        return (self.verdict(h)[0] > 0) & (age >= least * explores)

    def forward(
        self,
        x: Tensor | None = None,
        y: Tensor | None = None,
        *,
        latent: Latent | None = None,
        steps: int | None = None,
        start: int = 0,
        age: Tensor | None = None,
    ) -> tuple[Latent, Tensor]:
        """See :meth:`Program.forward`; ``age [B]`` is the ``start`` of each row where rows differ."""
        x, y, _ = self.given(x, y, latent)
        z, answer = super().forward(x, y, latent=latent, steps=steps, start=start)
        if y is not None:
            behind = torch.full(y.shape[:1], start, device=y.device) if age is None else age
            last = behind + (self.supervision if steps is None else steps) >= self.supervision
            # The same plate once more: without a size it adds no second subsample site to the trace.
            with pyro.plate("batch", dim=-1), poutine.scale(scale=0.5 * y.shape[-1]):
                self.observe(x, y, z, last)
        return z, answer

    def observe(self, x: Tensor | None, y: Tensor, z: Latent, last: Tensor) -> None:
        """The Q sites of the state z; ``last [B]`` bool: rows that have run N_sup supervision steps."""
        with torch.no_grad():
            right = (self.answer(z.h).base_dist.logits.argmax(dim=-1) == y).all(dim=-1)
        q = self.q_values(z.h)[:, 0]
        pyro.sample("halt", dist.Bernoulli(logits=q), obs=right.to(q.dtype))
