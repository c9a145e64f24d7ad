"""What a model is worth: accuracy of one sample and of the selected answer, oracle pass@N, coverage."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .infer import rollout
from .select import MajorityVote, Selector, distinct
from .tasks.base import Task


def coverage(task: Task, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct valid answers and number of solutions of each input: ``[B, L_in], [B, N, L_out] -> [B], [B]``."""
    valid = task.verify(x[:, None], tokens)
    found = distinct(task.canonical(tokens), valid).sum(dim=-1)
    total = torch.tensor([task.num_solutions(row) for row in x.cpu()], device=x.device)
    return found, total


def evaluate(
    model: nn.Module,
    task: Task,
    *,
    x: Tensor | None = None,
    num_samples: int = 20,
    steps: int | None = None,
    select: Selector | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Prior rollouts on held-out inputs, judged by the task's verifier.

    Args:
        model: the program.
        task: the task, with its verifier and its exact solutions.
        x: inputs ``[B, L_in]``; the task's test split if not given.
        num_samples: N.
        steps: supervision steps; the model's N_sup if not given.
        select: selector behind ``selected_accuracy``; majority vote if not given.
        seed: of the rollouts; the global generator is left as it was.

    Returns:
        ``accuracy`` (of one sample, averaged over all N), ``selected_accuracy``, ``pass_at_n`` (any of N, the
        oracle), ``coverage`` (distinct valid answers ÷ solutions, mean over the inputs with several solutions;
        absent if there is none), ``coverage_all`` (the same over all inputs), ``coverage_ceiling`` (what N draws
        of an ideal uniform sampler would cover in expectation, inputs with several solutions), ``conflicts`` (summed
        over the inputs, mean over the N samples, as in the paper's tables), ``num_test``, ``num_samples``.
    """
    x = task.inputs("test") if x is None else x
    devices = [torch.cuda.current_device()] if next(model.parameters()).is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        out = rollout(model, x, num_samples=num_samples, steps=steps)
    x = x.to(out.tokens.device)
    valid = task.verify(x[:, None], out.tokens)
    index, _ = (select or MajorityVote())(task, x, out)
    found, total = coverage(task, x, out.tokens)
    share = found / total.clamp(min=1)
    result: dict[str, Any] = {
        "accuracy": valid.double().mean().item(),
        "selected_accuracy": valid.gather(1, index[:, None]).double().mean().item(),
        "pass_at_n": valid.any(dim=-1).double().mean().item(),
        "coverage_all": share.double().mean().item(),
        "conflicts": task.conflicts(x[:, None], out.tokens).sum(dim=0).double().mean().item(),
        "num_test": len(x),
        "num_samples": num_samples,
    }
    several = total > 1
    if several.any():
        result["coverage"] = share[several].double().mean().item()
        ceiling = 1 - (1 - 1 / total[several].double()) ** num_samples
        result["coverage_ceiling"] = ceiling.mean().item()
    return result
