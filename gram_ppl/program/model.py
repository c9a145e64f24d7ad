"""What a model promises to the loops that train it, roll it out and store it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from ..runtime.arguments import Captured
from ..state import Latent
from ..tasks.base import Spec


class Program(nn.Module, metaclass=Captured):
    """A Pyro model p(y, τ | x) with a latent state that is carried from one supervision step to the next.

    A model of your own defines :meth:`initial`, :meth:`answer` and :meth:`forward`, and sets ``spec``, ``width`` and
    ``supervision``; everything else has a default. The arguments of the constructor are kept in ``config``, from which
    a checkpoint builds the model again; the first one is ``spec``.
    """

    without: ClassVar[Collection[str]] = ("spec",)
    fixed: ClassVar[Collection[str]] = ()  # arguments of its bases that a class chooses

    spec: Spec  # of the task
    width: int  # D, the width of what :meth:`initial` gives and the heads read
    supervision: int  # N_sup, supervision steps of a trajectory in training
    depth: int | None = None  # supervision steps after which further ones change nothing; None where there is no end
    step_calls: int | None = None  # network evaluations of one trajectory in one supervision step, where known
    block: int | None = None  # supervision steps between decisions; None for models without (:meth:`settled`)
    halting = False  # rows end by themselves in training: forward takes ``age`` and :meth:`halts` says which

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.core: nn.Module | None = None  # the deterministic part of a transition, which may run compiled
        self.heads: nn.Module | None = None  # halt and value head, :class:`gram_ppl.heads.Heads`

    def initial(self, batch: int) -> Latent:
        """z_0 for a batch, ``[B, L, D]`` each."""
        raise NotImplementedError(f"{type(self).__name__} must define initial(batch)")

    def begin(self, x: Tensor | None, batch: int) -> Latent:
        """The state that trajectories of inputs begin in, z_0 and what the inputs ``[B, L_in]`` leave undecided."""
        return self.initial(batch)

    def answer(self, h: Tensor) -> TorchDistributionMixin:
        """p(y | h): independent tokens, ``[B, L, D]`` -> batch shape ``[B]``, event shape ``[L_out]``."""
        raise NotImplementedError(f"{type(self).__name__} must define answer(h)")

    def decode(self, z: Latent) -> TorchDistributionMixin:
        """p(y | z), the whole state: batch shape ``[B]``, event shape ``[L_out]``."""
        return self.answer(z.h)

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
        raise NotImplementedError(f"{type(self).__name__} must define forward(x, y, *, latent, steps, start)")

    def judge(self, h: Tensor) -> tuple[Tensor, Tensor] | None:
        """Halting logit and value of states, ``[B, L, D] -> [B], [B]``; None without heads."""
        return None if self.heads is None else self.heads(h)

    def settled(self, z: Latent, before: Latent) -> tuple[Tensor, Tensor]:
        """Of models that decide: trajectories that have an answer, and those that contradict themselves, ``[B]`` bool.

        Args:
            z: the state after a decision.
            before: the state before the supervision steps that led to it.
        """
        raise NotImplementedError(f"{type(self).__name__} makes no decisions")

    def halts(self, h: Tensor, age: Tensor) -> Tensor:
        """Rows that halt in training after ``age [B]`` supervision steps: ``[B, L, D] -> [B]`` bool."""
        raise NotImplementedError(f"{type(self).__name__} has rows that halt and must define halts(h, age)")
