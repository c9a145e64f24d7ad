"""When a trajectory stops thinking: objects for ``halt=`` of rollouts (adaptive depth; paper, appendix A.1)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..runtime.arguments import probability
from ..state import Step


class Halt(Protocol):
    """``(step, memory) -> (stop [B, N] bool, memory)``, asked after each supervision step from ``first`` on.

    ``memory`` is whatever the object wants to see again at the next step, None in the beginning.
    """

    @property
    def first(self) -> int:
        """The first supervision step, counted from 1, after which it wants to be asked."""
        ...

    def __call__(self, step: Step, memory: Any) -> tuple[Tensor, Any]: ...


@dataclass(frozen=True)
class Never:
    """Every trajectory runs all supervision steps."""

    first = sys.maxsize

    def __call__(self, step: Step, memory: Any) -> tuple[Tensor, Any]:
        """See :class:`Halt`."""
        return torch.zeros_like(step.running), None


@dataclass(frozen=True)
class Above:
    """What rules about a probability share; their threshold and the first supervision step that they look at.

    Raises:
        ValueError: the threshold is no probability, or ``at_least`` is less than 1.
    """

    threshold: float
    at_least: int = 1

    def __post_init__(self) -> None:
        probability(threshold=self.threshold)
        if self.at_least < 1:
            raise ValueError(f"at_least must be at least 1, got {self.at_least}")

    @property
    def first(self) -> int:
        """See :class:`Halt`."""
        return self.at_least


@dataclass(frozen=True)
class HaltHead(Above):
    """Stop where the halt head gives the decoded answer more than ``threshold`` probability of being right.

    Args:
        threshold: probability, the paper's 0.5 if not given.
        at_least: supervision steps that every trajectory runs.

    Raises:
        ValueError: the threshold is no probability, or ``at_least`` is less than 1; when asked, a model without heads.
    """

    threshold: float = 0.5

    def __call__(self, step: Step, memory: Any) -> tuple[Tensor, Any]:
        """See :class:`Halt`."""
        if step.halt is None:
            raise ValueError("HaltHead needs a model with heads: fit them with gp.fit_heads(model, task)")
        return step.halt.sigmoid() > self.threshold, None


@dataclass(frozen=True)
class Confident(Above):
    """Stop where the decoder gives its own answer, all tokens together, more than ``threshold`` probability.

    Args:
        threshold: probability.
        at_least: supervision steps that every trajectory runs.

    Raises:
        ValueError: the threshold is no probability, or ``at_least`` is less than 1.
    """

    threshold: float = 0.75

    def __call__(self, step: Step, memory: Any) -> tuple[Tensor, Any]:
        """See :class:`Halt`."""
        return step.log_prob.exp() > self.threshold, None


@dataclass(frozen=True)
class Stable:
    """Stop where the decoded answer has stayed the same for ``steps`` supervision steps.

    Args:
        steps: how often the answer must be repeated; 2 means three equal answers in a row.

    Raises:
        ValueError: ``steps`` is less than 1.
    """

    steps: int = 2
    first = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def __call__(self, step: Step, memory: Any) -> tuple[Tensor, Any]:
        """See :class:`Halt`."""
        if memory is None:
            return torch.zeros_like(step.running), (step.tokens, torch.zeros_like(step.running, dtype=torch.int64))
        before, repeated = memory
        repeated = torch.where((step.tokens == before).all(dim=-1), repeated + 1, 0)
        return repeated >= self.steps, (step.tokens, repeated)
