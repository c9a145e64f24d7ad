"""The contract of a selector."""

from __future__ import annotations

import torch
from torch import Tensor

from ..inference.select import Selector
from ..state import Rollouts
from ..tasks.base import Task
from .claims import Claims


def check_selector(select: Selector, task: Task, *, seed: int = 0) -> None:
    """See that a selector keeps what :class:`gram_ppl.select.Selector` promises, on right and wrong answers to a task.

    Args:
        select: what is checked.
        task: whose validation inputs are answered.
        seed: of the answers.

    Raises:
        AssertionError: a promise is broken; a sentence names the fault.
    """
    claim, generator = Claims(select), torch.Generator().manual_seed(seed)
    x, y = next(task.batches("validation", 4, generator))
    for num in (1, 6):
        tokens = y[:, None].repeat(1, num, 1)
        tokens[:, 1::2] = tokens[:, 1::2].roll(1, dims=0)
        merits = torch.rand(3, 4, num, generator=generator)
        steps = torch.randint(1, 4, (4, num), generator=generator)
        out = Rollouts(tokens, -9 * merits[0], steps, merits[1], 3 * merits[2] - 1, merits[0])
        found = claim.runs(select, "__call__", f"{num} answers to each input", task, x, out)
        two = isinstance(found, tuple) and len(found) == 2 and all(isinstance(part, Tensor) for part in found)
        claim(two, "__call__", "expected (index, score), two tensors")
        index, score = found
        claim(index.shape == (4,) and index.dtype == torch.int64, "__call__", "expected an index [B] int64")
        claim(((index >= 0) & (index < num)).all(), "__call__", f"an index is outside 0 .. {num - 1}")
        good = score.shape == (4,) and score.is_floating_point() and not score.isnan().any()
        claim(good, "__call__", "expected a score [B] of floats that are numbers")
        for row in range(4):
            one = Rollouts(*(None if part is None else part[row : row + 1] for part in out))  # type: ignore[arg-type]
            alone = select(task, x[row : row + 1], one)
            same = alone[0].item() == index[row].item() and torch.isclose(alone[1][0], score[row])
            claim(same, "__call__", "the choice for an input depends on the other inputs")
