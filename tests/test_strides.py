"""Rollouts by graphs are the rollouts without, and say where there can be none."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

import gram_ppl as gp
from gram_ppl.program.poutine import Temperature
from gram_ppl.runtime.graphs import CudaGraphs, Repeats

TASK = gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=0, num_test=7)
MIXER = gp.nn.Attention(heads=2)


class Counted(Repeats):
    """Counts captures and replays."""

    def __init__(self) -> None:
        self.captures, self.replays = 0, 0

    def capture(self, work: Any, generators: Any = ()) -> Any:
        found, replay = super().capture(work, generators)
        self.captures += 1

        def counted() -> None:
            self.replays += 1
            replay()

        return found, counted


def gram() -> Any:
    model = gp.models.GRAM(TASK.spec, width=8, mixer=MIXER)
    torch.nn.init.normal_(model.guidance.down.weight)
    return model


def deciding() -> Any:
    return gp.models.Deciding(TASK.spec, width=8, mixer=MIXER, block=2, transitions=1, supervision=8)


def same(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "options", "captures", "replays"),
    [
        (gram, {"steps": 6, "chunk": 5}, 2, 18),  # chunks of 5, 5 and 4 rows
        (gram, {"steps": 6, "halt": gp.halt.Stable(1)}, 1, None),
        (gram, {"steps": 6, "retry": 2, "sample": True, "restart": True}, 1, 6),
        (deciding, {"steps": 16, "chunk": 5}, 1, None),  # the last rows run without
    ],
)
def test_graphs_give_the_same_rollouts(make: Any, options: Any, captures: int, replays: int | None) -> None:
    model, backend = make(), Counted()
    x = TASK.inputs("test")
    expected = gp.rollout(model, x, num_samples=2, seed=3, **options)
    same(gp.rollout(model, x, num_samples=2, seed=3, graph=backend, **options), expected)
    assert backend.captures == captures
    assert backend.replays > 0
    assert replays in (None, backend.replays)


@pytest.mark.parametrize(
    ("make", "options", "reason"),
    [
        (gram, {"graph": True}, "there is no CUDA"),
        (gram, {"graph": Repeats(), "noise": Temperature(0.5)}, "number of the step"),
        (lambda: gp.models.MDLM(TASK.spec, width=8, mixer=MIXER), {"graph": Repeats()}, "number of the step"),
    ],
)
def test_what_has_no_graph_says_why(make: Any, options: Any, reason: str) -> None:
    model, x = make(), TASK.inputs("test")[:2]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        out = gp.rollout(model, x, num_samples=2, steps=3, seed=1, **options)
    assert [reason in str(warning.message) for warning in found] == [True]
    same(out, gp.rollout(model, x, num_samples=2, steps=3, seed=1, **options | {"graph": False}))


@pytest.mark.cuda
@pytest.mark.parametrize("make", [gram, deciding])
def test_cuda_graphs_give_the_same_rollouts(make: Any) -> None:
    model, x = make().cuda(), TASK.inputs("test").cuda()
    options: dict[str, Any] = {"num_samples": 2, "steps": 16, "chunk": 5, "seed": 3}
    expected = gp.rollout(model, x, **options)
    found = gp.rollout(model, x, graph=CudaGraphs(), **options)
    assert (found.tokens == expected.tokens).float().mean() > 0.95
