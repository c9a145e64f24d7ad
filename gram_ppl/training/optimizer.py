"""AdamW, its rate over the run, and its state as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..storage import checkpoint


def adamw(segment: nn.Module, settings: dict[str, Any]) -> torch.optim.AdamW:
    """AdamW that decays the weights of linear layers and nothing else."""
    decayed = {module.weight for module in segment.modules() if isinstance(module, nn.Linear)}
    others = [parameter for parameter in segment.parameters() if parameter not in decayed]
    groups = [
        {"params": [p for p in segment.parameters() if p in decayed], "weight_decay": settings["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings["lr"], betas=tuple(settings["betas"]), fused=True)


def state(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of an optimiser's state, by ``name.parameter.key``."""
    states = optimizer.state_dict()["state"].items()
    return {f"{name}.{index}.{key}": value for index, state in states for key, value in state.items()}


def load(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path) -> None:
    """Give an optimiser the state that :func:`state` took; the names without their prefix."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        states.setdefault(int(index), {})[name] = value
    for number, state in states.items():
        weights = parameters[number]
        like = {"step": torch.zeros((), dtype=torch.float32), "exp_avg": weights, "exp_avg_sq": weights}
        checkpoint.fits(state, like, path)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def rate(update: int, settings: dict[str, Any]) -> float:
    """Share of the full learning rate: linear warm-up, constant, linear decay."""
    left = (settings["updates"] - update) / max(1.0, settings["decay"] * settings["updates"])
    down = settings["final"] + (1 - settings["final"]) * min(1.0, left)
    return min(1.0, (update + 1) / max(1, settings["warmup"])) * down
