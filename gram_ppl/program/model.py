"""What a model promises to the loops that train it, roll it out and store it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.util import is_validation_enabled
from torch import Tensor, nn

from ..runtime.arguments import Captured
from ..state import Latent, num_rows
from ..tasks.base import Spec, check_tokens
from .parameters import unbound


class Program(nn.Module, metaclass=Captured):
    """A Pyro model p(y, τ | x) with a latent state that is carried from one supervision step to the next.

    A model of your own defines :meth:`initial`, :meth:`answer` and :meth:`forward`, and sets ``spec``, ``width`` and
    ``supervision``; everything else has a default. The arguments of the constructor are kept in ``config``, from which
    a checkpoint builds the model again; the first one is ``spec``.
    """

    without: ClassVar[Collection[str]] = ("spec",)
    fixed: ClassVar[Collection[str]] = ()  # arguments of its bases that a class chooses

    name = "model"  # of its parameters in Pyro's parameter store
    spec: Spec  # of the task
    width: int  # D, the width of what :meth:`initial` gives and the heads read
    supervision: int  # N_sup, supervision steps of a trajectory in training
    depth: int | None = None  # supervision steps after which further ones change nothing; None where there is no end
    length: int | None = None  # tokens of a row in its network, where known
    step_calls: int | None = None  # network evaluations of one trajectory in one supervision step, where known
    block: int | None = None  # supervision steps between decisions; None for models without (:meth:`settled`)
    halting = False  # rows end by themselves in training: forward takes ``age`` and :meth:`halts` says which

    def __init__(self) -> None:
        super().__init__()
        self.title = type(self).__name__  # for readers of pages
        self.config: dict[str, Any] = {}
        self.core: nn.Module | None = None  # the deterministic part of a transition, which may run compiled
        self.heads: nn.Module | None = None  # halt and value head, :class:`gram_ppl.heads.Heads`

    @property
    def vocabulary(self) -> int | list[int]:
        """Input tokens are below it: a number, or one for each of the ``L_in``."""
        return self.spec.vocab_in

    def given(
        self, x: Any, y: Any = None, latent: Latent | None = None, *, read: bool = False
    ) -> tuple[Tensor | None, Tensor | None, int]:
        """The arguments of :meth:`forward`, x and y as int64 tensors, and B; arrays and lists are taken.

        Their values are looked at only with Pyro's validation on, which training and rollouts switch off, or where
        ``read`` says so: on CUDA that waits for the device.

        Raises:
            ValueError: another dtype, shape or number of rows, no row, or a token out of range.
        """
        x = None if x is None else as_tokens("x", x, self)
        y = None if y is None else as_tokens("y", y, self)
        if x is not None:
            check_tokens("x", x, self.spec.len_in if x.shape[-1:] != (0,) else 0, rows=True)
        if y is not None:
            check_tokens("y", y, self.spec.len_out, rows=y.dim() <= 2)  # further dimensions hold particles
        if latent is not None and not isinstance(latent, Latent):
            raise ValueError(f"latent: expected a gp.Latent, found {type(latent).__name__}.")
        batch = num_rows(x, y, latent)
        if batch == 0:
            raise ValueError(f"{'y' if x is None else 'x'}: expected one row at least, found none.")
        rows = {"y": None if y is None else y.shape[-2], "latent": None if latent is None else latent.h.shape[-3]}
        for name, number in rows.items():
            if number is not None and number != batch:
                raise ValueError(f"{name}: expected {batch} rows, one for each of x, found {number}.")
        if read or is_validation_enabled():
            for name, tokens, below in (("x", x, self.vocabulary), ("y", y, self.spec.vocab_out)):
                if tokens is not None and tokens.shape[-1]:
                    check_range(name, tokens, below)
        return (None if x is None else x.long()), (None if y is None else y.long()), batch

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

    def __getstate__(self) -> dict[str, Any]:
        unbound(self)
        state: dict[str, Any] = super().__getstate__()
        return state

    def halts(self, h: Tensor, age: Tensor) -> Tensor:
        """Rows that halt in training after ``age [B]`` supervision steps: ``[B, L, D] -> [B]`` bool."""
        raise NotImplementedError(f"{type(self).__name__} has rows that halt and must define halts(h, age)")


def as_tokens(name: str, given: Any, program: nn.Module) -> Tensor:
    """A tensor as it is, several as one; an array or lists as a tensor on the program's device.

    Raises:
        ValueError: it is nothing of the kind.
    """
    if isinstance(given, Tensor):
        return given
    try:
        if isinstance(given, (list, tuple)) and any(isinstance(row, Tensor) for row in given):
            return torch.stack(tuple(given))
        return torch.as_tensor(given, device=next(program.parameters()).device)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name}: expected integer tokens, found {type(given).__name__} of other things.") from None


def check_range(name: str, tokens: Tensor, below: int | list[int]) -> None:
    """Tokens ``[..., L]`` of 0 .. below - 1.

    Raises:
        ValueError: another token; it says which and where.
    """
    bound = torch.tensor(below, device=tokens.device)
    wrong = (tokens < 0) | (tokens >= bound)
    if wrong.any():
        *_, row, place = wrong.nonzero()[0].tolist()
        top = bound.expand(tokens.shape[-1])[place].item() - 1
        found = tokens[wrong][0].item()
        raise ValueError(f"{name}: expected tokens 0 .. {top}, found {found} in row {row}, place {place}.")


def rows_at_once(program: Any, length: int) -> int:
    """Rows of a batch: as many as fit the processor's cache, or plenty on CUDA.

    Args:
        program: it says how many tokens a row has in its network.
        length: how many if it doesn't.
    """
    tokens = 2048 if next(program.parameters()).device.type == "cpu" else 1 << 18
    return max(1, tokens // (getattr(program, "length", None) or length))
