"""What a model is worth: accuracy of one sample and of the selected answer, oracle pass@N, coverage."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ..inference.options import depth
from ..inference.select import distinct
from ..inference.solve import solve
from ..program.model import as_tokens
from ..program.poutine import Anneal, Temperature
from ..runtime.precision import mean
from ..runtime.processes import Shares
from ..tasks.base import Task


def coverage(task: Task, x: Tensor, tokens: Tensor, shares: Shares | None = None) -> tuple[Tensor, Tensor]:
    """How many distinct valid answers and how many solutions (float64): ``[B, L_in], [B, N, L_out] -> [B], [B]``.

    Both are on the CPU: there are devices without float64.

    ``shares`` are processes that share the counting of solutions; all of them call, and each gets the whole.
    """
    valid = task.verify(x[:, None], tokens)
    found = distinct(task.canonical(tokens), valid).sum(dim=-1)
    rows = x.cpu() if shares is None else x.cpu()[shares.some(len(x))]
    numbers = [float(task.num_solutions(row)) for row in rows]  # more than int64 holds, for some empty boards
    total = torch.tensor(numbers, dtype=torch.float64)
    if shares is not None and shares.world > 1:
        total = shares.gathered(total.to(x.device))[: len(x)].cpu()
    return found.cpu(), total


def evaluate(
    model: nn.Module, task: Task, *, x: Tensor | None = None, num_samples: int = 20, seed: int = 0, **options: Any
) -> dict[str, Any]:
    """Prior rollouts on held-out inputs, judged by the task's verifier.

    Processes that ``torchrun`` or ``accelerate launch`` started share trajectories and the counting of solutions: all
    of them call, and each gets the figures of the whole.

    Args:
        model: the program.
        task: the task, with its verifier and its exact solutions.
        x: inputs ``[B, L_in]``, also an array or lists; the task's test split if not given.
        num_samples: N.
        seed: of the rollouts; the global generator is left as it was.
        options: ``select``, behind ``selected_accuracy``, ``mode``, ``steps``, ``halt``, ``noise`` and the others of
            :func:`gram_ppl.solve`.

    Returns:
        ``accuracy`` (of one sample, averaged over all N), ``selected_accuracy``, ``pass_at_n`` (any of N, the
        oracle), ``coverage`` (distinct valid answers ÷ solutions, mean over the inputs with several solutions;
        absent if there is none), ``coverage_all`` (the same over all inputs), ``coverage_ceiling`` (what N draws
        of an ideal uniform sampler would cover in expectation, inputs with several solutions), ``conflicts`` (summed
        over the inputs, mean over the N samples), ``selected_conflicts`` (those of the selected answers), ``steps``
        (supervision steps of a trajectory, mean), ``network_calls`` (evaluations of f_L and f_H, all trajectories
        together; absent for models that don't say what a step costs), ``seconds`` (of rollouts and selection),
        ``num_test``, ``num_samples``. Of models that decide also ``unanswered`` and ``wrong`` (shares of the samples
        without an answer and with one that doesn't hold), ``selected_unanswered`` and ``selected_wrong`` (the same of
        the selected answers) and ``restarts`` (of a trajectory, mean). Beside them the task's own ``figures``.
    """
    x = task.inputs("test") if x is None else as_tokens("x", x, model)
    start = time.perf_counter()
    devices = [torch.cuda.current_device()] if next(model.parameters()).is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        shares = Shares(1, next(model.parameters()).device)
        answers = solve(model, task, x, num_samples=num_samples, seed=seed, shares=shares, **options)
    out, selected = answers.rollouts, mean(answers.verified)
    seconds = time.perf_counter() - start
    x = x.to(out.tokens.device)
    valid = task.verify(x[:, None], out.tokens)
    found, total = coverage(task, x, out.tokens, shares)
    share = found / total.clamp(min=1)
    result: dict[str, Any] = {
        "accuracy": mean(valid),
        "selected_accuracy": selected,
        "pass_at_n": mean(valid.any(dim=-1)),
        "coverage_all": mean(share),
        "conflicts": mean(task.conflicts(x[:, None], out.tokens).sum(dim=0)),
        "selected_conflicts": float(task.conflicts(x, answers.tokens.to(x.device)).sum()),
        "steps": mean(out.steps),
        "seconds": seconds,
        "num_test": len(x),
        "num_samples": num_samples,
    }
    if answers.answered is not None and answers.restarts is not None and out.answered is not None:
        result |= {
            "unanswered": mean(~out.answered),
            "wrong": mean(out.answered & ~valid),
            "selected_unanswered": mean(~answers.answered),
            "selected_wrong": mean(answers.answered & ~answers.verified),
            "restarts": mean(answers.restarts) / num_samples,
        }
    program: Any = model
    if program.step_calls is not None:
        result["network_calls"] = int(out.steps.sum()) * program.step_calls
    several = total > 1
    if several.any():
        result["coverage"] = mean(share[several])
        ceiling = 1 - (1 - 1 / total[several]) ** num_samples
        result["coverage_ceiling"] = ceiling.mean().item()
    return result | task.figures(x, out.tokens)


class Tuned(NamedTuple):
    """What :func:`tune` found."""

    noise: Messenger | None  #: the best candidate
    results: list[dict[str, Any]]  #: of each candidate, as :func:`evaluate` returns them, and "noise", its name


def tune(
    model: nn.Module,
    task: Task,
    candidates: Sequence[Messenger | None] | None = None,
    *,
    measure: str = "selected_accuracy",
    x: Tensor | None = None,
    steps: int | None = None,
    **options: Any,
) -> Tuned:
    """Choose a noise temperature or schedule on the validation split, every candidate with the same seed.

    Args:
        model: the program.
        task: the task.
        candidates: handlers for ``noise=``; constant temperatures from 0.5 to 1.5 and two that fall if not given.
        measure: which figure of :func:`evaluate` to maximise, ``"coverage"`` or ``"accuracy"``, say; the first of
            equal candidates wins.
        x: inputs ``[B, L_in]``; the task's validation split if not given.
        steps: supervision steps; the model's N_sup if not given.
        options: further arguments of :func:`evaluate`.

    Raises:
        ValueError: no candidate, or a measure that :func:`evaluate` does not give.
    """
    if candidates is None:
        last = depth(model) if steps is None else steps
        falling = (Anneal(1.5, 0.0, last), Anneal(1.5, 0.5, last))
        candidates = [Temperature(value) for value in (1.0, 0.5, 0.75, 1.25, 1.5, *falling)]
    if not candidates:
        raise ValueError("tune needs at least one candidate")
    x = task.inputs("validation") if x is None else x
    results = []
    for noise in candidates:
        result = evaluate(model, task, x=x, steps=steps, noise=noise, **options)
        if measure not in result:
            raise ValueError(f"measure must be one of {', '.join(result)}, got {measure!r}")
        results.append({"noise": repr(noise), **result})
    best = max(range(len(results)), key=lambda index: results[index][measure])
    return Tuned(candidates[best], results)
