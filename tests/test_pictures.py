"""The numbers behind the pictures against hand-made rollouts and brute force; every picture is a file that opens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import gram_ppl as gp
from gram_ppl.guides import AmortizedGuide, PriorGuide
from gram_ppl.inference.depths import rollouts_by_depth
from gram_ppl.models import GRAM
from gram_ppl.reporting import pictures
from gram_ppl.reporting import tables as report
from gram_ppl.reporting.pictures.convergence import spread
from gram_ppl.reporting.pictures.landscape import loss
from gram_ppl.reporting.pictures.scaling import doubling
from gram_ppl.state import Rollouts
from gram_ppl.training.record import Record

TASK = gp.tasks.Sudoku((2, 2), (4, 8), num_validation=4, num_test=6)
TWO = TASK.parse("1234 34.. 2143 43..")  # the last two rows or columns may be swapped: two solutions
ANSWERS = TASK.solutions(TWO)
WRONG = ANSWERS[0].roll(1)


def rolled(*rows: list[Tensor]) -> Rollouts:
    """Hand-made answers, a list for each input."""
    tokens = torch.stack([torch.stack(row) for row in rows])
    shape = tokens.shape[:2]
    return Rollouts(tokens, torch.zeros(shape), torch.ones(shape, dtype=torch.int64), torch.zeros(shape), None, None)


def model(**options: Any) -> GRAM:
    made = GRAM(TASK.spec, **({"width": 8, "transitions": 2, "supervision": 3} | options))
    nn.init.normal_(made.guidance.down.weight, std=0.2)
    return made


@pytest.fixture(params=["png", "svg"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"picture.{request.param}"


def assert_opens(path: Path) -> None:
    if path.suffix == ".svg":
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    else:
        with Image.open(path) as image:
            low, high = image.convert("L").getextrema()
            assert (low, high) != (high, low), "a picture of one colour"


def test_boards_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "boards.png"
    report.pictures(TASK, TWO, ANSWERS, path)
    assert_opens(path)
    with Image.open(path) as image:
        width = image.width // (1 + len(ANSWERS))
        panels = [image.convert("L").crop((k * width, 0, (k + 1) * width, image.height)) for k in range(3)]
    ink = [sum(panel.histogram()[:128]) for panel in panels]
    assert ink[1] > ink[0] > 0, "an answer has more digits than the puzzle"
    assert panels[1].tobytes() != panels[2].tobytes()


# Width and depth ------------------------------------------------------------------------------------------------------


def test_two_solutions() -> None:
    assert len(ANSWERS) == 2


@pytest.mark.parametrize(("last", "expected"), [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 9]),
                                                (20, [1, 2, 4, 8, 20]), (64, [1, 2, 4, 8, 16, 32, 64])])  # fmt: skip
def test_doubling(last: int, expected: list[int]) -> None:
    assert doubling(last) == expected


def test_scaling_of_hand_made_rollouts() -> None:
    right = ANSWERS[0]
    course = [rolled([WRONG, WRONG, right, WRONG]), rolled([right, WRONG, right, right])]
    found = pictures.scaling(TASK, TWO[None], course, depths=[1, 2], widths=[1, 2, 4])
    assert found.one.tolist() == [0.25, 0.75]
    assert found.oracle.tolist() == [[0.25, 0.5, 1], [0.75, 1, 1]]
    assert found.selected[:, 0].tolist() == [0.25, 0.75]
    assert found.selected[:, 2].tolist() == [0, 1]


@pytest.mark.parametrize("wrong", [{"depths": [3]}, {"depths": [0]}, {"widths": [2]}])
def test_scaling_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must lie between 1 and"):
        pictures.scaling(TASK, TWO[None], [rolled([WRONG])] * 2, **wrong)


@pytest.mark.parametrize("num", [1, 4])
def test_draw_scaling(path: Path, num: int) -> None:
    course = rollouts_by_depth(model(), TASK.inputs("test"), num_samples=num, steps=3)
    pictures.draw_scaling(pictures.scaling(TASK, TASK.inputs("test"), course), path, trained=3)
    assert_opens(path)


def test_coverage_by_solutions_of_hand_made_answers() -> None:
    one = TASK.parse("".join(map(str, ANSWERS[0].tolist())))
    x = torch.stack([one, TWO, TWO])
    first, second = ANSWERS
    found = pictures.coverage_by_solutions(
        TASK, x, torch.stack([torch.stack(row) for row in ([first] * 3, [first, WRONG, first], [second, first, WRONG])])
    )
    assert found.classes == [(1, 1), (2, 2)]
    assert found.covered.tolist() == [1, 0.75]
    assert found.counts.tolist() == [1, 2]
    assert found.error.tolist() == pytest.approx([0, 0.25])  # of 0.5 and 1
    assert found.ceiling.tolist() == pytest.approx([1, 7 / 8])  # 1 − (1/2)³
    assert found.num_samples == 3


def test_coverage_needs_a_solution() -> None:
    none = torch.zeros_like(TWO)
    none[:2] = 1
    with pytest.raises(ValueError, match="none of the inputs has a solution"):
        pictures.coverage_by_solutions(TASK, none[None], WRONG[None, None])


def test_draw_coverage(path: Path) -> None:
    x = TASK.inputs("test")
    tokens = gp.rollout(model(), x, num_samples=3).tokens
    pictures.draw_coverage(pictures.coverage_by_solutions(TASK, x, tokens), path)
    assert_opens(path)


# The loss landscape ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_loss_is_the_probability_of_any_answer() -> None:
    program = model()
    h = program.initial(5).h + torch.randn(5, *program.initial(1).h.shape[1:])
    each = torch.stack([program.answer(h).log_prob(answer.expand(5, -1)) for answer in ANSWERS])
    torch.testing.assert_close(loss(program, h, ANSWERS), -each.exp().sum(dim=0).log(), rtol=1e-4, atol=1e-4)


def test_landscape_is_the_plane_of_greatest_variance() -> None:
    program = model()
    found = pictures.landscape(program, TASK, TWO, ANSWERS, num_samples=5, steps=4, grid=7, seed=2)
    assert found.points.shape == (4, 5, 2)
    assert found.nll.shape == (7, 7)
    course = gp.infer.trajectories(program, TWO[None], num_samples=5, steps=4, seed=2)
    flat = torch.cat([step.latent.h.flatten(1) for step in course]).double()
    variances = torch.linalg.eigvalsh(torch.cov(flat.T)).flip(0)
    torch.testing.assert_close(found.explained, variances[:2] / variances.sum(), rtol=1e-4, atol=1e-6)
    own = found.points.flatten(0, 1)
    torch.testing.assert_close(own.var(dim=0), variances[:2], rtol=1e-4, atol=1e-6)
    assert abs(torch.corrcoef(own.T)[0, 1]) < 1e-4
    assert (found.points.amin(dim=(0, 1)) >= torch.stack([found.across[0], found.up[0]])).all()
    assert (found.points.amax(dim=(0, 1)) <= torch.stack([found.across[-1], found.up[-1]])).all()


def test_draw_landscape(path: Path) -> None:
    found = pictures.landscape(model(), TASK, TWO, ANSWERS, num_samples=4, steps=3, grid=12)
    pictures.draw_landscape(found, path)
    assert_opens(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"grid": 1}, "grid must be at least 2"), ({"num_samples": 1, "steps": 2}, "at least 3 states"),
     ({"answers": ANSWERS[:0]}, "expected x"), ({"x": TWO[None]}, "expected x")],
)  # fmt: skip
def test_landscape_refuses(changes: dict[str, Any], message: str) -> None:
    arguments = {"x": TWO, "answers": ANSWERS} | changes
    with pytest.raises(ValueError, match=message):
        pictures.landscape(model(), TASK, **arguments)


# Boards that settle ---------------------------------------------------------------------------------------------------


def test_convergence_shows_different_answers_first() -> None:
    first, second = ANSWERS
    course = [rolled([WRONG] * 4), rolled([first, WRONG, first, second])]
    found = pictures.convergence(TASK, TWO[None], course, boards=3)
    assert torch.equal(found.tokens[1], torch.stack([first, second, WRONG]))
    assert (found.violations[1] == 0).tolist() == [True, True, False]
    assert (found.violations[0] > 0).all()


def test_convergence_refuses_an_input_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="one of 1 inputs"):
        pictures.convergence(TASK, TWO[None], [rolled([WRONG])], example=1)


@pytest.mark.parametrize("last", range(1, 70, 4))
@pytest.mark.parametrize("most", [1, 2, 8])
def test_spread(last: int, most: int) -> None:
    found = spread(last, most)
    assert found == sorted(set(found))
    assert found[-1] == last
    assert len(found) <= most
    assert most == 1 or found[0] == 1


def test_draw_convergence(path: Path) -> None:
    course = rollouts_by_depth(model(), TASK.inputs("test"), num_samples=3, steps=12)
    pictures.draw_convergence(TASK, pictures.convergence(TASK, TASK.inputs("test"), course), path)
    assert_opens(path)


def test_animation_has_a_frame_for_each_step(tmp_path: Path) -> None:
    course = rollouts_by_depth(model(), TASK.inputs("test"), num_samples=3, steps=4)
    found = pictures.convergence(TASK, TASK.inputs("test"), course, boards=2)
    pictures.animate(TASK, found, tmp_path / "boards.gif", seconds=0.5)
    with Image.open(tmp_path / "boards.gif") as image:
        assert image.n_frames == 4  # type: ignore[attr-defined]
        assert image.info["duration"] == 500


@pytest.mark.parametrize(("name", "seconds", "message"), [("x.png", 1, "as .gif"), ("x.gif", 0, "positive")])
def test_animate_refuses(tmp_path: Path, name: str, seconds: float, message: str) -> None:
    found = pictures.convergence(TASK, TWO[None], [rolled([WRONG])])
    with pytest.raises(ValueError, match=message):
        pictures.animate(TASK, found, tmp_path / name, seconds=seconds)


# Divergence, bounds, training, calibration ----------------------------------------------------------------------------


def test_divergence_is_that_of_the_sites() -> None:
    program = model()
    x, y = next(TASK.batches("train", 3, torch.Generator().manual_seed(0)))
    assert not pictures.divergence(program, PriorGuide(program), x, y).any()
    guide = AmortizedGuide(program)
    nn.init.normal_(guide.guidance.down.weight, std=0.2)
    found = pictures.divergence(program, guide, x, y)
    assert found.shape == (3, 2)
    assert (found[:, 1] > 0).all()
    assert not found[:, 0].any()  # charged carry: the last transition of a step is paid for


def test_draw_divergence(path: Path) -> None:
    pictures.draw_divergence(torch.tensor([[3.0, 0.0, 0.2], [1.0, 0.0, 0.1]]), path)
    assert_opens(path)


def test_draw_divergence_of_nothing(path: Path) -> None:
    pictures.draw_divergence(torch.zeros(2, 2), path)
    assert_opens(path)


def test_draw_bounds(path: Path) -> None:
    pictures.draw_bounds([10, 20], {"ELBO": [-30.0, -3.0], "surrogate": [-20.0, -1.0]}, path)
    assert_opens(path)


@pytest.mark.parametrize("series", [{}, {"ELBO": [1.0]}])
def test_draw_bounds_refuses(tmp_path: Path, series: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="a value for each of 2 updates"):
        pictures.draw_bounds([1, 2], series, tmp_path / "x.png")


def history() -> list[Record]:
    trained = model()
    made = gp.fit(
        trained, AmortizedGuide(trained), TASK, updates=3, batch_size=3, evaluations=1, evaluate_on=2, progress=False
    )
    return made


def test_training_curves_and_surrogate(path: Path) -> None:
    records = history()
    pictures.training_curves(records, path)
    assert_opens(path)
    expected = [-(record.nll + record.kl) for record in records]
    assert pictures.surrogate_of(records) == expected
    assert all(math.isfinite(value) for value in expected)


def test_reliability(path: Path) -> None:
    right = rolled([ANSWERS[0], WRONG])._replace(halt=torch.tensor([[50.0, -50]]), value=torch.tensor([[0.0, 1.0]]))
    found = pictures.reliability(TASK, TWO[None], [right])
    assert found["halt"]["brier"] == pytest.approx(0)
    assert found["value"]["brier"] == pytest.approx(1)
    pictures.draw_reliability(found, path)
    assert_opens(path)


def test_reliability_needs_heads() -> None:
    with pytest.raises(ValueError, match="without heads"):
        pictures.reliability(TASK, TWO[None], [rolled([WRONG])])


def test_another_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"written as \.png or \.svg"):
        pictures.draw_divergence(torch.ones(1, 1), tmp_path / "x.pdf")


# Rollouts at every depth ----------------------------------------------------------------------------------------------


def test_rollouts_by_depth_are_rollouts_of_that_depth() -> None:
    program, x = model(), TASK.inputs("test")
    for step, found in enumerate(rollouts_by_depth(program, x, num_samples=3, steps=4, seed=1), start=1):
        out = gp.rollout(program, x, num_samples=3, steps=step, seed=1)
        assert torch.equal(found.tokens, out.tokens)
        assert torch.equal(found.steps, out.steps)


@pytest.mark.parametrize("x", [torch.zeros(0, 16, dtype=torch.int64), torch.zeros(16, dtype=torch.int64)])
def test_rollouts_by_depth_need_inputs(x: Tensor) -> None:
    with pytest.raises(ValueError, match="B at least 1"):
        rollouts_by_depth(model(), x)
