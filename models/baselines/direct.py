"""Direct prediction: one deep feed-forward stack, the paper's comparison system without recursion."""

from __future__ import annotations

from typing import Any

from ...tasks.base import Spec
from ..recursion import Recursive


class Direct(Recursive):
    """A deterministic answer in one pass ("Direct" in arXiv 2605.19376, after arXiv 2506.21734).

    ::

        h = f(e_x),   f a stack of ``layers`` blocks, each with weights of its own
        y ~ Categorical(f_dec(h)) for each output token    site "y", event [L_out]

    A recursion with one state, which starts at zero, one transition and one supervision step: a gradient
    window leaves the gradient through all layers. What has been computed is the answer: a program that goes on
    from a latent behind its first supervision step decodes it as it stands.

    The "direct prediction" of HRM's figures is this stack in HRM's blocks. Here the blocks are those of the other
    systems, with relations where the mixer has them, and the loss is the softmax cross-entropy, not stablemax.

    Args:
        spec: shapes and relations of the task.
        layers: blocks.
        options: ``width``, ``hidden``, ``mixer``, ``encoder``, ``registers``, ``positions``, ``heads`` and ``seed``
            of :class:`gram_ppl.models.GRAM`.
    """

    fixed = ("shared", "hierarchy", "low_steps", "transitions", "supervision")

    def __init__(self, spec: Spec, *, layers: int = 8, **options: Any) -> None:
        super().__init__(spec, layers=layers, hierarchy=False, low_steps=0, transitions=1, supervision=1, **options)
        self.h0.zero_()
        self.l0.zero_()

    def numbers(self, start: int, steps: int | None) -> range:
        """See :meth:`Recursive.numbers`; whatever ``steps`` says, the stack runs once."""
        return range(start, 1)
