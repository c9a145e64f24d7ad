"""ARC on a canvas smaller than the published one: the same task, cut to the upper left corner."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gram_ppl.tasks import ARC


def cut(tokens: torch.Tensor, side: int) -> torch.Tensor:
    return torch.from_numpy(tokens.numpy().reshape(*tokens.shape[:-1], 30, 30)[..., :side, :side].copy()).flatten(-2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("arc")
    for part in ("training", "evaluation"):
        (folder / "data" / part).mkdir(parents=True)
        for k in range(3):
            grid = lambda: rng.integers(0, 10, rng.integers(1, 6, 2)).tolist()  # noqa: E731
            pairs = [{"input": grid(), "output": grid()} for _ in range(4)]
            pairs[0]["input"] = rng.integers(0, 10, (5, 2)).tolist()
            name = folder / "data" / part / f"{part[0]}{k:07d}.json"
            name.write_text(json.dumps({"train": pairs[:3], "test": pairs[3:]}))
    return folder


@pytest.mark.parametrize("side", [5, 6, 11])
def test_a_small_canvas_is_a_corner_of_the_large_one(root: Path, side: int) -> None:
    small, large = (ARC(1, root, canvas=canvas, translate=False, num_augmentations=2) for canvas in (side, 30))
    assert small.spec.len_in == 1 + small.spec.len_out == 1 + side**2
    draws = [next(task.batches("train", 64, torch.Generator().manual_seed(1))) for task in (small, large)]
    inputs = [task.inputs("test", augmented=True) for task in (small, large)]
    assert torch.equal(inputs[0], torch.cat([inputs[1][:, :1], cut(inputs[1][:, 1:], side)], 1))
    for part in ("x", "y"):
        few, many = (getattr(draw, part) for draw in draws)
        assert torch.equal(few[:, -(side**2) :], cut(many[:, -900:], side))
    assert small.verify(*draws[0]).all()
    assert torch.equal(small.solutions(draws[0].x[0])[0], draws[0].y[0])
    wrong = (draws[0].y + (torch.arange(side**2) == 0)) % 12
    assert small.violations(draws[0].x, wrong).tolist() == [1] * 64
    answers = small.answers("test", augmented=True)
    assert small.score(small.predictions("test", answers, augmented=True))["pass_at_2"] == 1
    for x in inputs[0]:
        assert torch.equal(small.parse(small.line(x)), x)
    assert small.render(draws[0].x[0], draws[0].y[0]) == large.render(draws[1].x[0], draws[1].y[0])


def test_translated_rows_on_a_small_canvas_are_known(root: Path) -> None:
    task = ARC(1, root, canvas=8)
    x, y = next(task.batches("train", 200, torch.Generator().manual_seed(0)))
    assert task.verify(x, y).all()
    corner = (y.view(-1, 8, 8) > 1).any(2).int().argmax(1)
    assert len(corner.unique()) > 2


def test_the_canvas_that_fits(root: Path) -> None:
    task = ARC(1, root, canvas=None)
    assert task.config["canvas"] ** 2 == task.spec.len_out == 36
    assert ARC(**task.config).spec.len_out == 36


@pytest.mark.parametrize(
    ("canvas", "message"), [(0, "a side of 1 to 30"), (31, "a side of 1 to 30"), (4, "larger than a canvas of side 4")]
)
def test_a_canvas_that_does_not_fit(root: Path, canvas: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ARC(1, root, canvas=canvas)


def test_a_question_larger_than_the_canvas(root: Path) -> None:
    with pytest.raises(ValueError, match="the canvas has side 5"):
        ARC(1, root, canvas=5).parse(json.dumps({"puzzle": 0, "input": [[1] * 6]}))
