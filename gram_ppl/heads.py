"""Halt head and value head: what a state says about the answer it decodes to (paper, appendices A.1 and A.2).

Both are fitted on states of *prior* rollouts, with weights of the core that stand still for them: heads fitted on
posterior states halt at once at inference.

==========  ===========================  ==================================================================
head        reads                        probability of
==========  ===========================  ==================================================================
halt        h after supervision step n   the answer decoded there is right, ``task.verify``
value       h after supervision step n   the trajectory's *last* answer will be right, the r of the LPRM
==========  ===========================  ==================================================================

"Right" is the verifier's word, since an input may have several solutions. The halt head is the paper's variant that
has no Q value for going on. Both minimise the cross-entropy, a proper score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .infer import trajectories
from .tasks.base import Task


@dataclass(frozen=True)
class FirstToken:
    """The heads read the first latent token, as in the paper; a small model has not learned to write there."""

    def __call__(self, h: Tensor) -> Tensor:
        """``[B, L, D] -> [B, D]``."""
        return h[:, 0]


@dataclass(frozen=True)
class MeanToken:
    """The heads read the mean over all latent tokens."""

    def __call__(self, h: Tensor) -> Tensor:
        """``[B, L, D] -> [B, D]``."""
        return h.mean(dim=1)


class Heads(nn.Module):
    """Halt and value head, one hidden layer for both; no gradient goes into the state that they read.

    Only :class:`HeadTrainer` trains them: their parameters ask for no gradient elsewhere.

    Args:
        width: D.
        hidden: hidden units; D if not given.
        pool: what is read of a state, :class:`MeanToken` or :class:`FirstToken`.
        seed: draws the weights.
    """

    def __init__(
        self,
        width: int,
        *,
        hidden: int | None = None,
        pool: MeanToken | FirstToken = MeanToken(),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width, "hidden": hidden, "pool": pool, "seed": seed}
        self.pool = pool
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mlp = nn.Sequential(nn.Linear(width, hidden or width), nn.SiLU(), nn.Linear(hidden or width, 2))
        self.requires_grad_(False)

    def read(self, h: Tensor) -> Tensor:
        """What the heads see of a state, ``[B, L, D] -> [B, D]``, without a gradient."""
        return self.pool(h.detach()).to(next(self.parameters()).dtype)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Logit of the halt head and the value, a probability: ``[B, L, D] -> [B], [B]``."""
        halt, value = self.mlp(self.read(h)).float().unbind(dim=-1)
        return halt, value.sigmoid()


def attach(model: Any, heads: Heads) -> None:
    """Give a model its heads; they are saved and loaded with it."""
    model.heads = heads.to(next(model.parameters()).device)
    model.config["heads"] = heads


class HeadTrainer:
    """Trains the heads of a model, at intervals while the model itself is trained, or afterwards.

    Args:
        model: a program with ``width``, ``supervision`` and ``config``; it gets heads if it has none.
        task: its verifier says which answers are right.
        steps: supervision steps of the rollouts; 2·N_sup if not given, as test time runs deeper than training.
        num_samples: trajectories of each input.
        lr, weight_decay: of AdamW.
        pool: what new heads read of a state.
        seed: of new heads' weights, and of nothing else: rollouts follow torch's global generator.
    """

    def __init__(
        self,
        model: Any,
        task: Task,
        *,
        steps: int | None = None,
        num_samples: int = 1,
        lr: float = 3e-3,
        weight_decay: float = 0.01,
        pool: MeanToken | FirstToken = MeanToken(),
        seed: int = 0,
    ) -> None:
        if getattr(model, "heads", None) is None:
            attach(model, Heads(model.width, pool=pool, seed=seed))
        self.model = model
        self.task = task
        self.steps = 2 * model.supervision if steps is None else steps
        self.num_samples = num_samples
        self.optimizer = torch.optim.AdamW(model.heads.parameters(), lr=lr, weight_decay=weight_decay)

    def collect(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """States of prior rollouts and what is true of them: ``[B, L_in] -> [S·B·N, D], [S·B·N, 2]``.

        The states of all S supervision steps, as the heads read them; targets are 0 or 1, for halt and value.
        """
        states, right = [], []
        x = x.to(next(self.model.parameters()).device)
        for step in trajectories(self.model, x, num_samples=self.num_samples, steps=self.steps):
            states.append(self.model.heads.read(step.latent.h))
            right.append(self.task.verify(x[:, None], step.tokens).flatten().float())
        targets = [torch.stack([here, right[-1]], dim=-1) for here in right]
        return torch.cat(states), torch.cat(targets)

    def update(self, states: Tensor, targets: Tensor) -> Tensor:
        """One optimiser step on what :meth:`collect` gave, or on some of its rows; the loss, nats a state and head."""
        heads = self.model.heads.requires_grad_(True)
        try:
            loss = F.binary_cross_entropy_with_logits(heads.mlp(states).float(), targets)
            loss.backward()
            self.optimizer.step()
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            heads.requires_grad_(False)
        return loss.detach()

    def step(self, x: Tensor, repeats: int = 4) -> Tensor:
        """Roll out from inputs ``[B, L_in]`` and take ``repeats`` steps on what is seen; the last loss."""
        states, targets = self.collect(x)
        for _ in range(repeats):
            loss = self.update(states, targets)
        return loss


def fit_heads(
    model: Any,
    task: Task,
    *,
    updates: int = 1000,
    batch_size: int = 256,
    puzzles: int = 500,
    num_samples: int = 2,
    steps: int | None = None,
    lr: float = 3e-3,
    pool: MeanToken | FirstToken = MeanToken(),
    seed: int = 0,
    validate_on: int = 200,
) -> dict[str, Any]:
    """Fit fresh heads to a trained model, on prior rollouts from training inputs; the core stays as it is.

    Args:
        model: the trained program.
        task: gives inputs and the verifier.
        updates: optimiser steps, with a rate that falls linearly to zero.
        batch_size: states of an update.
        puzzles: training inputs that are rolled out, once.
        num_samples: trajectories of each.
        steps: supervision steps of the rollouts; 2·N_sup if not given.
        lr: of AdamW.
        pool: what the heads read of a state.
        seed: of inputs, noise, weights and batches; the global generator is left as it was.
        validate_on: validation inputs behind what is returned.

    Returns:
        ``halt`` and ``value``: the :func:`calibration` of each head on rollouts from validation inputs.

    Raises:
        ValueError: ``updates``, ``batch_size`` or ``puzzles`` is less than 1.
    """
    for name, value in (("updates", updates), ("batch_size", batch_size), ("puzzles", puzzles)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    device = next(model.parameters()).device
    model.heads = None
    trainer = HeadTrainer(model, task, steps=steps, num_samples=num_samples, lr=lr, pool=pool, seed=seed)
    schedule = torch.optim.lr_scheduler.LinearLR(trainer.optimizer, 1.0, 0.0, total_iters=updates)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        states, targets = _gathered(trainer.collect, next(task.batches("train", puzzles, generator)).x)
        for _ in range(updates):
            some = torch.randint(len(states), (batch_size,), generator=generator).to(device)
            trainer.update(states[some], targets[some])
            schedule.step()
        states, targets = _gathered(trainer.collect, task.inputs("validation")[:validate_on])
        with torch.no_grad():
            guesses = model.heads.mlp(states).float().sigmoid()
    return {name: calibration(guesses[:, i], targets[:, i]) for i, name in enumerate(("halt", "value"))}


def _gathered(collect: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor, rows: int = 64) -> tuple[Tensor, Tensor]:
    """``collect`` on many inputs, a few at a time, so that memory does not grow with their number."""
    states, targets = zip(*(collect(part) for part in x.split(rows)), strict=True)
    return torch.cat(states), torch.cat(targets)


def calibration(probability: Tensor, outcome: Tensor, bins: int = 10) -> dict[str, Any]:
    """Reliability curve and Brier score of probabilities, numbers that JSON can hold.

    Args:
        probability: what was predicted, in [0, 1], any shape.
        outcome: what happened, 0 or 1, the same shape.
        bins: equal intervals of [0, 1]; one that holds no prediction is left out of the curve.

    Returns:
        ``brier``, the mean squared error; ``brier_constant``, that of always predicting the mean outcome; and for
        each bin ``centers``, ``predicted`` (mean probability), ``observed`` (share of ones), ``counts``.

    Raises:
        ValueError: shapes that differ, no prediction, a number outside [0, 1], or less than one bin.
    """
    p, y = probability.detach().double().flatten().cpu(), outcome.detach().double().flatten().cpu()
    if probability.shape != outcome.shape or not len(p):
        raise ValueError(f"as many outcomes as probabilities, got {tuple(outcome.shape)}, {tuple(probability.shape)}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if not ((p >= 0) & (p <= 1) & (y >= 0) & (y <= 1)).all():
        raise ValueError("probabilities and outcomes must lie in [0, 1]")
    place = (p * bins).long().clamp(max=bins - 1)
    counts = torch.bincount(place, minlength=bins)
    held = counts > 0

    def mean(values: Tensor) -> list[float]:
        return (torch.bincount(place, values, minlength=bins)[held] / counts[held]).tolist()

    return {
        "brier": (p - y).square().mean().item(),
        "brier_constant": (y.mean() - y).square().mean().item(),
        "centers": ((torch.arange(bins, dtype=torch.float64)[held] + 0.5) / bins).tolist(),
        "predicted": mean(p),
        "observed": mean(y),
        "counts": counts[held].tolist(),
    }
