"""Training of the halt and value heads, on prior rollouts of a core that stands still for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..evaluation.calibration import calibration
from ..heads import FirstToken, Heads, MeanToken, attach
from ..inference.rollout import trajectories
from ..runtime.arguments import whole
from ..tasks.base import Task


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
        pool: MeanToken | FirstToken = MeanToken(),  # noqa: B008 (frozen)
        seed: int = 0,
    ) -> None:
        if model.heads is None:
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
    pool: MeanToken | FirstToken = MeanToken(),  # noqa: B008 (frozen)
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
    whole(updates=updates, batch_size=batch_size, puzzles=puzzles)
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
