"""What shapes trajectories of the prior, declared once for everything that rolls out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.messenger import Messenger

from ..runtime.arguments import whole
from ..runtime.graphs import Backend
from ..runtime.processes import Shares
from ..state import Symmetry
from .halt import Halt, Never


@dataclass(frozen=True)
class Options:
    """The keyword arguments of :func:`gram_ppl.rollout`, and of what calls it.

    Args:
        num_samples: N, trajectories of each input.
        steps: supervision steps, any number; the model's :func:`depth`, N_sup, if not given.
        chunk: rows of a batch; by default as many as fit the processor's cache, or plenty on CUDA.
        halt: when a trajectory stops before ``steps``; see :mod:`gram_ppl.halt`.
        noise: a handler to run under, as :class:`gram_ppl.poutine.Temperature`.
        restart: draw z_0 anew from N(0, I) for each trajectory, instead of the model's.
        sample: draw the tokens of each trajectory from p(y | h) instead of taking the most probable ones. A trajectory
            has one set of random numbers for it, so that its answer is the same while its state stands still.
        retry: supervision steps after which a trajectory that has not halted begins again at z_0, with new noise; the
            answer of its last try counts.
        first_answer: of models that decide: an input's trajectories all end with the first answer to it.
        symmetries: of models that decide and begin their latent anew: before each decision every row is turned by one
            of these, such as ``task.symmetries``, and turned back.
        views: of models with a contradiction head, with ``symmetries``: an answer is read under so many of them, and
            holds if the mean of what the head says finds no contradiction.
        seed: of the noise; drawn from torch's global generator if not given.
        graph: replay supervision steps as a CUDA graph, one for each number of rows in a batch; rows that have halted
            stay in the batch. A warning says why where that can't be. Another backend may stand in for CUDA's.
        shares: processes that share the trajectories. All of them call, with the same seed, and each gets all.

    Raises:
        ValueError: ``num_samples``, ``steps``, ``chunk``, ``retry`` or ``views`` is no whole number or less than 1;
            views without symmetries; ``noise`` is no handler, ``halt`` no rule.
    """

    num_samples: int = 20
    steps: int | None = None
    chunk: int | None = None
    halt: Halt = Never()  # noqa: RUF009 (frozen)
    noise: Messenger | None = None
    restart: bool = False
    sample: bool = False
    retry: int | None = None
    first_answer: bool = False
    symmetries: Callable[[int, torch.Generator], Symmetry | None] | None = None
    views: int = 1
    seed: int | None = None
    graph: bool | Backend = False
    shares: Shares | None = None

    def __post_init__(self) -> None:
        names = ("steps", "num_samples", "chunk", "retry", "views")
        whole(**{name: getattr(self, name) for name in names})
        if self.noise is not None and not isinstance(self.noise, Messenger):
            raise ValueError(f"noise: expected a handler such as gp.poutine.Temperature(1.3), found {self.noise!r}")
        if isinstance(self.halt, type) or not callable(self.halt) or not hasattr(self.halt, "first"):
            raise ValueError(f"halt: expected a rule such as gp.halt.Never(), found {self.halt!r}")
        if self.views > 1 and self.symmetries is None:
            raise ValueError(f"views={self.views} needs symmetries, and there are none")

    def depth(self, model: Any) -> int:
        """Supervision steps of a trajectory of this model."""
        return depth(model) if self.steps is None else self.steps


def depth(model: Any) -> int:
    """Supervision steps of a trajectory: N_sup, or the model's own ``depth`` where it ends by itself."""
    return int(model.supervision if model.depth is None else model.depth)


def first_seed(seed: int | None) -> int:
    """Where the rows' seeds start: far apart for neighbouring seeds; None draws from the global generator."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return int(torch.randint(2**62, (), generator=generator))
