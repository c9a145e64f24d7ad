"""Whether samples follow the posterior: of an input with several solutions it is uniform over a known set.

What simulation-based calibration (Talts et al., arXiv 1804.06788) asks of all inputs together can be asked here of each
one: answers that hold are counted by the solution that they are, and χ² says whether even counts look like that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..inference.rollout import rollout
from ..program.model import as_tokens
from ..runtime.arguments import whole
from ..runtime.precision import mean
from ..tasks.base import Task

LEVEL = 0.01  # below which uniformity is rejected


def uniformity(
    model: nn.Module,
    task: Task,
    x: Tensor | None = None,
    *,
    num_samples: int = 100,
    most: int = 50,
    draws: int = 999,
    seed: int = 0,
    **options: Any,
) -> dict[str, Any]:
    """χ² of the answers that hold against the uniform distribution over all solutions, input by input.

    Args:
        model: the program.
        task: lists the solutions.
        x: inputs ``[B, L_in]``, also an array or lists; the task's test split if not given. Those with 2 to ``most``
            solutions count.
        num_samples: N, trajectories of each input.
        most: solutions of an input.
        draws: simulated counts of an ideal sampler behind each p value; with fewer than 99 none is surely below 0.01.
        seed: of trajectories and simulated counts.
        options: of :func:`gram_ppl.rollout`.

    Returns:
        ``p_values``, one for each input that counts, uniform on [0, 1] for an ideal sampler; ``rejected``, the share
        below 0.01; ``unsolved``, the share with no answer that holds: its p value is 0; ``excess``, the mean of χ² ÷
        its expectation over the others, 1 for an ideal sampler, None if there are none; ``inputs``, how many count;
        ``accuracy``, the share of their answers that hold; ``num_samples``.

    Raises:
        ValueError: no input has 2 to ``most`` solutions; an argument that can't be.
    """
    whole(draws=draws)
    x = task.inputs("test") if x is None else as_tokens("x", x, model)
    solutions = [task.canonical(task.first_solutions(row, most + 1)) for row in x.cpu()]
    kept = [index for index, found in enumerate(solutions) if 2 <= len(found) <= most]
    if not kept:
        raise ValueError(f"no input has 2 to {most} solutions: there is no distribution to compare with")
    x = x[kept]
    tokens = rollout(model, x, num_samples=num_samples, seed=seed, **options).tokens.cpu()
    valid = task.verify(x.cpu()[:, None], tokens)
    generator = torch.Generator().manual_seed(seed)
    judged = []
    for index, answers, holds in zip(kept, task.canonical(tokens), valid, strict=True):
        counts = (answers[holds][:, None] == solutions[index]).all(dim=-1).sum(dim=0)
        judged.append(even(counts, draws, generator))
    held = {"accuracy": mean(valid), "unsolved": mean(~valid.any(dim=1))}
    return {"num_samples": num_samples} | held | over_inputs(judged)


def over_inputs(judged: Sequence[tuple[float, float | None]]) -> dict[str, Any]:
    """``inputs``, ``rejected``, ``excess`` and ``p_values`` of :func:`uniformity`, of what :func:`even` said."""
    p_values = [p for p, _ in judged]
    excess = [quotient for _, quotient in judged if quotient is not None]
    return {
        "inputs": len(judged),
        "rejected": sum(p < LEVEL for p in p_values) / len(judged),
        "excess": sum(excess) / len(excess) if excess else None,
        "p_values": p_values,
    }


def even(counts: Tensor, draws: int, generator: torch.Generator) -> tuple[float, float | None]:
    """Whether counts ``[S]`` are those of even draws: a p value, and χ² ÷ its expectation.

    The p value is the rank of χ² among those of simulated counts, equal ones in random order, so that of even draws it
    is uniform on [0, 1]; of a single count it is uniform whatever that is. Of no count it is 0, without a quotient.
    """
    number, size = int(counts.sum()), len(counts)
    if not number:
        return 0.0, None
    drawn = torch.randint(size, (draws, number), generator=generator)
    simulated = torch.zeros(draws, size, dtype=torch.int64).scatter_add_(1, drawn, torch.ones_like(drawn))

    def spread(some: Tensor) -> Tensor:  # whole numbers, so that equal ones are equal
        return (size * some - number).square().sum(dim=-1)

    own, others = spread(counts.cpu()), spread(simulated)
    above, same = int((others > own).sum()), int((others == own).sum())
    place = torch.rand((), generator=generator, dtype=torch.float64).item()
    return (above + place * (same + 1)) / (draws + 1), float(own) / (size * number) / (size - 1)
