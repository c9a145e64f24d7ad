"""The looped transformer (arXiv 2311.12424): one stack of blocks, run again and again with the input added."""

from __future__ import annotations

from typing import Any

from ...tasks.base import Spec
from ..recursion import Recursive


class LoopedTransformer(Recursive):
    """Flat deterministic recursion with a loss at its end (arXiv 2311.12424).

    ::

        h_0 = 0
        h_i = f(h_{i-1} + e_x), i = 1..loops,   f a stack of ``layers`` blocks
        y ~ Categorical(f_dec(h_loops)) for each output token    site "y", event [L_out]

    A recursion with one state, one supervision step and one transition, which holds all loops: a gradient window leaves
    the gradient through all of them. More supervision steps at test time are more loops from the carried state.

    The published code is a causal decoder on prompts of regression tasks, its loss the mean over a window of the
    last loops. Here the blocks are those of the other systems, not causal, and the loss stands at the last loop
    only: the paper's system "without deep supervision".

    Args:
        spec: shapes and relations of the task.
        layers: blocks of the stack.
        loops: how often it runs in a supervision step.
        options: ``width``, ``hidden``, ``mixer``, ``encoder``, ``registers``, ``positions``, ``heads`` and ``seed``
            of :class:`gram_ppl.models.GRAM`.

    Raises:
        ValueError: ``loops`` is less than 1.
    """

    fixed = ("shared", "hierarchy", "low_steps", "transitions", "supervision")

    def __init__(self, spec: Spec, *, layers: int = 1, loops: int = 8, **options: Any) -> None:
        if loops < 1:
            raise ValueError(f"loops must be at least 1, got {loops}")
        super().__init__(
            spec, layers=layers, hierarchy=False, low_steps=loops - 1, transitions=1, supervision=1, **options
        )
        self.h0.zero_()
        self.l0.zero_()
