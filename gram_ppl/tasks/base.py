"""What every task promises: data, exact solutions, encoding, verifier, relations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..state import Batch


class Spec(NamedTuple):
    """The shapes that a model needs to know of a task."""

    len_in: int  # L_in, input tokens of an example
    vocab_in: int  # input tokens are 0 .. vocab_in - 1
    len_out: int  # L_out, output tokens of an example
    vocab_out: int  # output tokens are 0 .. vocab_out - 1
    relations: Tensor | None = None  # [R, L_in, L_in] bool: which tokens share constraint r


class Task(ABC):
    """Data, encoding and verifier of one kind of puzzle.

    A task knows the rules; nothing else does. Verifiers are pure, run on any device, take any leading
    batch dimensions and never raise on a wrong board. Subclasses call ``super().__init__(spec, config)``.

    Args:
        spec: shapes and relations, for the model.
        config: the JSON arguments that build this task again, for the checkpoint.
    """

    def __init__(self, spec: Spec, config: dict[str, Any]) -> None:
        self.spec = spec
        self.config = config

    @abstractmethod
    def inputs(self, split: str) -> Tensor:
        """All inputs of a held-out split, ``[n, L_in]`` int64; ``split`` is ``"validation"`` or ``"test"``."""

    @abstractmethod
    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Endless batches; y is drawn uniformly among the solutions of x, afresh each time.

        All randomness comes from ``generator``, so its state is the position in the data.
        """

    @abstractmethod
    def solutions(self, x: Tensor) -> Tensor:
        """Every solution of one input: ``[L_in] -> [S, L_out]`` int64, S may be 0."""

    @abstractmethod
    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        """How many constraints each answer breaks: ``[..., L_in], [..., L_out] -> [...]`` int64."""

    def verify(self, x: Tensor, y: Tensor) -> Tensor:
        """Whether each answer is a solution of its input: ``[..., L_in], [..., L_out] -> [...]`` bool."""
        return self.violations(x, y) == 0

    @abstractmethod
    def render(self, x: Tensor, y: Tensor | None = None) -> str:
        """One board ``[L_in]`` (and its answer ``[L_out]``) as text for the terminal."""

    @abstractmethod
    def parse(self, text: str) -> Tensor:
        """The input ``[L_in]`` that a line of text describes; ``ValueError`` in one sentence if it is none."""
