"""ARC against slow encoders, numpy's rotations and hand-made scores; small files in both public formats."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.text import Text
from torch import Tensor

from gram_ppl.tasks.arc.canvas import decode, encode, read, stack, transform, write
from gram_ppl.tasks.arc.data import as_grid, read_sets, read_subset
from gram_ppl.tasks.arc.symmetry import Augmentation, random_augmentations, vote
from gram_ppl.tasks.arc.task import ARC
from gram_ppl.tasks.base import Spec

many = settings(max_examples=200)
SEEDS = st.integers(0, 2**32)
TOKENS = st.integers(-(2**63), 2**63 - 1)
SHARED = Path(__file__).parents[3] / "shared" / "data" / "arc"
JSON = dict[str, list[dict[str, list[list[int]]]]]

augmentations = st.builds(Augmentation, st.integers(0, 7), st.permutations(range(1, 10)).map(lambda order: (0, *order)))


@st.composite
def grids(draw: st.DrawFn, most: int = 30) -> np.ndarray:
    shape = draw(st.integers(1, most)), draw(st.integers(1, most))
    return np.random.default_rng(draw(SEEDS)).integers(0, 10, shape).astype(np.uint8)


# Small data: task k turns its inputs around and puts a column of colour k % 10 on the right


def pair(rng: np.random.Generator, k: int, most: int = 6) -> dict[str, list[list[int]]]:
    grid = rng.integers(0, 10, rng.integers(1, most, 2))
    answer = np.pad(grid[::-1], ((0, 0), (0, 1)), constant_values=k % 10)
    return {"input": grid.tolist(), "output": answer.tolist()}


def tasks(num: int, seed: int, num_test: int = 1) -> dict[str, JSON]:
    rng = np.random.default_rng(seed)
    return {
        f"{seed:04x}{k:04x}": {
            "train": [pair(rng, k) for _ in range(3)],
            "test": [pair(rng, k) for _ in range(num_test + k % 2)],
        }
        for k in range(num)
    }


TRAINING, EVALUATION = tasks(6, 1), tasks(4, 2)


def folder(path: Path, training: dict[str, JSON], evaluation: dict[str, JSON], data: str = "data") -> Path:
    for subset, content in (("training", training), ("evaluation", evaluation)):
        (path / data / subset).mkdir(parents=True, exist_ok=True)
        for name, task in content.items():
            (path / data / subset / f"{name}.json").write_text(json.dumps(task))
    return path


def without_outputs(content: dict[str, JSON]) -> dict[str, JSON]:
    return {
        name: {"train": task["train"], "test": [{"input": test["input"]} for test in task["test"]]}
        for name, task in content.items()
    }


def kaggle(
    path: Path, subsets: dict[str, dict[str, JSON]], solved: tuple[str, ...] = ("training", "evaluation")
) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for subset, content in subsets.items():
        (path / f"arc-agi_{subset}_challenges.json").write_text(json.dumps(without_outputs(content)))
        if subset in solved:
            outputs = {name: [test["output"] for test in task["test"]] for name, task in content.items()}
            (path / f"arc-agi_{subset}_solutions.json").write_text(json.dumps(outputs))
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("arc"), TRAINING, EVALUATION)


@pytest.fixture(scope="module")
def arc(root: Path) -> ARC:
    return ARC(1, root, num_augmentations=5, num_validation=2)


def train(of: ARC, num: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return next(of.batches("train", num, torch.Generator().manual_seed(seed)))


def slow_canvas(grid: np.ndarray, row: int, column: int) -> list[int]:
    canvas = {}
    height, width = grid.shape
    for i, j in itertools.product(range(height), range(width)):
        canvas[row + i, column + j] = int(grid[i, j]) + 2
    for j in range(width):
        canvas[row + height, column + j] = 1
    for i in range(height):
        canvas[row + i, column + width] = 1
    return [canvas.get((i, j), 0) for i in range(30) for j in range(30)]


def rows(boards: Tensor) -> set[tuple[int, ...]]:
    return {tuple(board) for board in boards.tolist()}


# Canvases


@many
@given(grid=grids(), data=st.data())
def test_encode_equals_a_slow_encoder_and_decode_undoes_it(grid: np.ndarray, data: st.DataObject) -> None:
    row, column = (data.draw(st.integers(0, 30 - size)) for size in grid.shape)
    canvas = encode(grid, (row, column))
    assert canvas.tolist() == slow_canvas(grid, row, column)
    assert np.array_equal(decoded(canvas)[0], grid)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (29, 30), (30, 30), (30, 1)])
def test_encode_and_decode_at_every_offset(shape: tuple[int, int]) -> None:
    grid = np.random.default_rng(0).integers(0, 10, shape).astype(np.uint8)
    offsets = list(itertools.product(range(31 - shape[0]), range(31 - shape[1])))
    canvases = write(stack([grid] * len(offsets)), torch.tensor(offsets))
    found, places, good = read(canvases)
    assert good.all()
    assert places.tolist() == [list(offset) for offset in offsets]
    assert all(np.array_equal(grid, back) for back in decoded(canvases))
    assert (found.sizes == torch.tensor(shape)).all()
    with pytest.raises(ValueError, match="leaves the canvas"):
        encode(grid, (31 - shape[0], 0))


def decoded(canvas: Tensor) -> list[np.ndarray]:
    """The grids of canvases that all hold one."""
    grids = [grid for grid in decode(canvas) if grid is not None]
    assert len(grids) == canvas.numel() // 900
    return grids


def slow_decode(tokens: list[int]) -> list[list[int]] | None:
    cells = {divmod(k, 30): token - 2 for k, token in enumerate(tokens) if 2 <= token <= 11}
    if not cells or any(not 0 <= token <= 11 for token in tokens):
        return None
    (top, left), (bottom, right) = map(min, zip(*cells, strict=True)), map(max, zip(*cells, strict=True))
    if len(cells) != (bottom - top + 1) * (right - left + 1):
        return None
    return [[cells[i, j] for j in range(left, right + 1)] for i in range(top, bottom + 1)]


@many
@given(
    grid=grids(),
    changes=st.lists(st.tuples(st.integers(0, 899), st.integers(-1, 12) | TOKENS), max_size=3),
    fill=st.sampled_from(["canvas", "random", "constant"]),
    seed=SEEDS,
)
def test_decode_of_any_canvas(grid: np.ndarray, changes: list[tuple[int, int]], fill: str, seed: int) -> None:
    if fill == "canvas":
        canvas = encode(grid).tolist()
    else:
        low, high = (-1, 13) if fill == "random" else (seed % 14 - 1, seed % 14)
        canvas = torch.randint(low, high, (900,), generator=torch.Generator().manual_seed(seed)).tolist()
    for cell, token in changes:
        canvas[cell] = token
    expected, (found,) = slow_decode(canvas), decode(torch.tensor(canvas))
    assert (None if found is None else found.tolist()) == expected


# Symmetries

IDENTITY = Augmentation()


@many
@given(grid=grids(), augmentation=augmentations, other=augmentations, third=augmentations)
def test_augmentations_are_a_group_that_acts_on_grids(
    grid: np.ndarray, augmentation: Augmentation, other: Augmentation, third: Augmentation
) -> None:
    assert np.array_equal(augmentation.invert(augmentation.apply(grid)), grid)
    assert np.array_equal(augmentation.apply(augmentation.invert(grid)), grid)
    assert augmentation.then(augmentation.inverse()) == augmentation.inverse().then(augmentation) == IDENTITY
    assert augmentation.then(IDENTITY) == IDENTITY.then(augmentation) == augmentation
    assert np.array_equal(augmentation.then(other).apply(grid), other.apply(augmentation.apply(grid)))
    assert augmentation.then(other).then(third) == augmentation.then(other.then(third))
    assert augmentation.apply(grid).dtype == np.uint8


def test_the_dihedral_group_against_numpy() -> None:
    grid = np.arange(6, dtype=np.uint8).reshape(2, 3)
    square = [Augmentation(k) for k in range(8)]
    images = {augmentation.apply(grid).tobytes() + bytes(augmentation.apply(grid).shape) for augmentation in square}
    turned = [np.rot90(side, k) for side in (grid, grid.T) for k in range(4)]
    assert images == {image.tobytes() + bytes(image.shape) for image in turned}
    assert len(images) == 8
    products = {a.then(b) for a in square for b in square}
    assert products == set(square)
    orders = [next(k for k in range(1, 9) if power(a, k) == IDENTITY) for a in square]
    assert sorted(orders) == [1, 2, 2, 2, 2, 2, 4, 4]  # of the symmetries of the square


def power(augmentation: Augmentation, exponent: int) -> Augmentation:
    found = IDENTITY
    for _ in range(exponent):
        found = found.then(augmentation)
    return found


@many
@given(cases=st.lists(st.tuples(grids(), augmentations), min_size=1, max_size=4))
def test_transforming_many_grids_equals_one_by_one(cases: list[tuple[np.ndarray, Augmentation]]) -> None:
    table = torch.tensor([[augmentation.dihedral, *augmentation.colors] for _, augmentation in cases])
    found = transform(stack([grid for grid, _ in cases]), table)
    expected = stack([augmentation.apply(grid) for grid, augmentation in cases])
    assert torch.equal(found.sizes, expected.sizes)
    assert torch.equal(found.cells, expected.cells.long())


@pytest.mark.parametrize(
    "bad", [{"dihedral": 8}, {"dihedral": -1}, {"colors": (1, 0, *range(2, 10))}, {"colors": (0,)}]
)
def test_no_augmentation(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: expected"):
        Augmentation(**bad)


@pytest.mark.parametrize(("used", "exist"), [([], 8), ([0], 8), ([3], 72), ([0, 2, 7], 576)])
def test_random_augmentations_differ_on_the_colours_in_use(used: list[int], exist: int) -> None:
    assert exist == 8 * math.perm(9, len(set(used) - {0}))
    for num in (0, 1, 7, 1000):
        found = random_augmentations(num, used, torch.Generator().manual_seed(1)).tolist()
        assert len(found) == min(1 + num, exist)
        assert found[0] == [0, *range(10)]
        assert len({(row[0], *(row[1 + color] for color in used)) for row in found}) == len(found)
        for row in found:
            Augmentation(row[0], tuple(row[1:]))


def test_random_augmentations_are_uniform() -> None:
    found = random_augmentations(4000, range(1, 10), torch.Generator().manual_seed(0))[1:].long()
    for counts in (found[:, 0].bincount(), *(found[:, k].bincount(minlength=10)[1:] for k in range(2, 11))):
        expected = counts.double().mean()
        statistic = ((counts - expected) ** 2 / expected).sum() / 2
        degrees = torch.tensor((len(counts) - 1) / 2).double()
        assert torch.special.gammaincc(degrees, statistic) > 1e-6


def test_vote_counts_after_the_inversion_and_keeps_the_order_of_equals() -> None:
    one, two, three = (np.array(rows, np.uint8) for rows in ([[1, 2]], [[3], [4]], [[1, 2, 2]]))
    turn, paint = Augmentation(5), Augmentation(0, (0, 2, 1, *range(3, 10)))
    ballot = [(IDENTITY, one), (turn, turn.apply(two)), (paint, None), (paint, paint.apply(two)), (IDENTITY, three)]
    assert [grid.tolist() for grid in vote(ballot)] == [two.tolist(), one.tolist(), three.tolist()]
    assert vote([(turn, None)]) == []


# The task


def test_spec_and_tokens(arc: ARC) -> None:
    assert arc.spec._replace(relations=None) == Spec(901, 12, 900, 12, None)
    assert arc.num_puzzles == 10 * 6
    for split, num in (("validation", None), ("test", 6)):
        x = arc.inputs(split)
        assert num in (None, len(x))
        assert x.shape[1:] == (901,)
        assert x.dtype == torch.int64
        assert arc.verify(x, arc.answers(split)).all()
    x, y = train(arc, 500)
    assert arc.verify(x, y).all()
    assert x[:, 1:].min() >= 0
    assert max(x[:, 1:].max(), y.max()) <= 11


def test_relations_by_definition(arc: ARC) -> None:
    relations = arc.spec.relations
    assert relations is not None
    assert relations.shape == (3, 901, 901)
    assert not relations[:, 0].any()
    assert not relations[:, :, 0].any()
    graph = relations[:, 1:, 1:]
    assert graph.sum((1, 2)).tolist() == [30**3, 30**3, 4 * 30 * 29]
    for a, b in itertools.product((0, 29, 30, 434, 870, 899), range(900)):
        (i, j), (k, l) = divmod(a, 30), divmod(b, 30)
        assert graph[:, a, b].tolist() == [i == k, j == l, abs(i - k) + abs(j - l) == 1]


def test_inputs_and_questions(arc: ARC) -> None:
    plain = [(name, k, test) for name, task in EVALUATION.items() for k, test in enumerate(task["test"])]
    for question, x, y, (name, k, test) in zip(
        arc.questions("test"), arc.inputs("test"), arc.answers("test"), plain, strict=True
    ):
        assert question == (name, k, IDENTITY)
        assert x[1:].tolist() == slow_canvas(np.array(test["input"]), 0, 0)
        assert y.tolist() == slow_canvas(np.array(test["output"]), 0, 0)
    x, y, questions = arc.inputs("test", True), arc.answers("test", True), arc.questions("test", True)
    assert len(x) == len(y) == len(questions) == 6 * len(plain)
    assert len(rows(x)) == len(x)
    for question, grid, answer in zip(questions, decoded(x[:, 1:]), decoded(y), strict=True):
        test = EVALUATION[question.task]["test"][question.test]
        assert question.augmentation.invert(grid).tolist() == test["input"]
        assert question.augmentation.invert(answer).tolist() == test["output"]
    assert arc.verify(x, y).all()
    assert all(
        arc.augmentation(int(row[0])) == question.augmentation for row, question in zip(x, questions, strict=True)
    )


def shown(arc: ARC, x: Tensor, y: Tensor) -> set[str]:
    """What pairs training rows show, mapped back, with the name of their task."""
    found = set()
    names = [json.loads(arc.line(torch.cat([torch.tensor([k]), x[0, 1:]])))["puzzle"] for k in range(0, 60, 6)]
    for puzzle, question, answer in zip(x[:, 0].tolist(), decoded(x[:, 1:]), decoded(y), strict=True):
        undo = arc.augmentation(puzzle).inverse()
        found.add(json.dumps([names[puzzle // 6], undo.apply(question).tolist(), undo.apply(answer).tolist()]))
    return found


def test_training_rows_are_exactly_the_pairs_of_the_protocol(arc: ARC) -> None:
    held = {question.task for question in arc.questions("validation")}
    assert len(held) == 2
    assert held <= set(TRAINING)
    expected = set()
    for name, task in (TRAINING | EVALUATION).items():
        pairs = task["train"] + (task["test"] if name in TRAINING and name not in held else [])
        expected |= {json.dumps([name, each["input"], each["output"]]) for each in pairs}
    assert shown(arc, *train(arc, 2000)) == expected


def test_training_rows_are_uniform_over_puzzles_then_pairs_and_places(root: Path) -> None:
    arc = ARC(1, root, num_augmentations=1, only=list(EVALUATION))
    x, y = train(arc, 4000)
    per_puzzle = x[:, 0].bincount(minlength=8)
    assert len(per_puzzle) == 8
    assert ((per_puzzle - 500).abs() < 5 * (4000 * 7 / 64) ** 0.5).all()  # error rate 6e-7 each
    _, offsets, good = read(y)
    sizes = torch.maximum(read(x[:, 1:])[0].sizes, read(y)[0].sizes)
    assert good.all()
    assert torch.equal(offsets, read(x[:, 1:])[1])
    relative = offsets / (30 - sizes)
    assert ((relative.mean(0) - 0.5).abs() < 5 * (1 / 10 / 4000) ** 0.5).all()
    assert relative.min() == 0
    assert relative.max() == 1
    still = ARC(1, root, translate=False)
    assert not read(train(still, 100)[0][:, 1:])[1].any()


def test_hidden_answers_never_enter_training(tmp_path: Path, root: Path) -> None:
    poison = [[9] * 13] * 17
    hidden, poisoned = without_outputs(EVALUATION), without_outputs(EVALUATION)
    for task in poisoned.values():
        for test in task["test"]:
            test["output"] = poison
    for k, evaluation in enumerate((hidden, poisoned)):
        folder(tmp_path / str(k), TRAINING, evaluation)
    known, unknown, bad = (
        ARC(1, path, num_augmentations=5, num_validation=2) for path in (root, tmp_path / "0", tmp_path / "1")
    )
    for seed in range(2):
        x, y = train(known, 700, seed)
        assert not any(grid.shape in ((17, 13), (13, 17)) for grid in decoded(y))
        for other in (unknown, bad):
            assert torch.equal(torch.cat(train(other, 700, seed), 1), torch.cat([x, y], 1))
            assert torch.equal(other.inputs("test", True), known.inputs("test", True))
    assert {grid.shape for grid in decoded(bad.answers("test"))} == {(17, 13)}
    assert not unknown.answers("test").any()
    assert (unknown.violations(unknown.inputs("test"), known.answers("test")) == 900).all()
    assert unknown.solutions(unknown.inputs("test")[0]).shape == (0, 900)
    with pytest.raises(ValueError, match="no question with a known answer"):
        unknown.batches("test", 3, torch.Generator())
    with pytest.raises(ValueError, match="nothing to score"):
        unknown.score({})


def test_validation_tests_are_not_trained_on_and_held_out_batches_are_their_rows(arc: ARC) -> None:
    for split in ("validation", "test"):
        x, y = next(arc.batches(split, 200, torch.Generator().manual_seed(0)))
        assert rows(x) == rows(arc.inputs(split))
        assert arc.verify(x, y).all()
    assert ARC(1, arc.config["root"]).inputs("validation").shape == (0, 901)
    with pytest.raises(ValueError, match="only 6 training tasks"):
        ARC(1, arc.config["root"], num_validation=7)


def test_augmentations_of_a_task_depend_on_no_other(arc: ARC, root: Path) -> None:
    one = ARC(1, root, num_augmentations=5, only=[list(EVALUATION)[2]])
    assert one.num_puzzles == 6
    assert torch.equal(one.inputs("test", True)[:, 1:], arc.inputs("test", True)[-12 - 6 : -12, 1:])
    other = ARC(1, root, num_augmentations=5, seed=1)
    assert not torch.equal(other.inputs("test", True), arc.inputs("test", True))
    assert torch.equal(other.inputs("test"), arc.inputs("test"))


# The verifier


@many
@given(row=st.integers(0, 499), changes=st.lists(st.tuples(st.integers(0, 899), TOKENS), max_size=3))
def test_violations_are_the_wrong_cells(arc: ARC, row: int, changes: list[tuple[int, int]]) -> None:
    x, y = (part[row] for part in rows_of(arc))
    wrong = y.clone()
    for cell, token in changes:
        wrong[cell] = token
    different = sum(a != b for a, b in zip(wrong.tolist(), y.tolist(), strict=True))
    assert arc.violations(x, wrong).item() == different
    assert torch.equal(arc.solutions(x), y[None])


@cache
def rows_of(arc: ARC) -> tuple[Tensor, Tensor]:
    return train(arc, 500)


@many
@given(row=st.integers(0, 499), place=st.integers(0, 900), token=TOKENS | st.integers(-1, 70))
def test_a_changed_question_has_no_known_answer(arc: ARC, row: int, place: int, token: int) -> None:
    x, y = (part[row].clone() for part in rows_of(arc))
    if x[place] == token:
        return
    x[place] = token
    if place:  # a grid is the question of its own puzzle only; the small data have many like it
        assert arc.violations(x, y) == 900
        assert arc.solutions(x).shape == (0, 900)
    else:
        assert arc.violations(x, y) in (0, 900)


def test_a_question_without_room_for_its_answer_has_none(arc: ARC) -> None:
    x = arc.inputs("test")[0]
    grid = decoded(x[1:])[0]  # its answer is one column wider
    for right, known in ((29 - grid.shape[1], 1), (30 - grid.shape[1], 0)):
        moved = torch.cat([x[:1], encode(grid, (3, right))])
        assert len(arc.solutions(moved)) == known
    assert (arc.violations(moved, arc.answers("test")[0])) == 900


# Scores


def test_copying_the_input_scores_nothing_and_the_answers_score_all(arc: ARC) -> None:
    for split, augmented in itertools.product(("test", "validation"), (False, True)):
        copied = arc.predictions(split, arc.inputs(split, augmented)[:, 1:], augmented)
        assert arc.score(copied, split)["pass_at_2"] == 0
        right = arc.score(arc.predictions(split, arc.answers(split, augmented), augmented), split)
        assert {right[f"{kind}pass_at_{k}"] for kind in ("", "inputs_") for k in (1, 2)} == {1.0}
    assert right["tasks"] == 2


def test_scores_of_hand_made_predictions(arc: ARC) -> None:
    a, b, c, d = EVALUATION  # 1, 2, 1, 2 test inputs
    right = {name: [test["output"] for test in task["test"]] for name, task in EVALUATION.items()}
    wrong = [[0]]
    predictions: dict[str, Any] = {
        a: [[wrong, right[a][0]]],  # the second candidate
        b: [[right[b][0], wrong], []],  # one of two test inputs
        c: [[np.array(right[c][0])]],
        d: [[right[d][1]], [right[d][0], [[1, 2], [3]]]],  # each other's answers; rows of different lengths
    }
    found = arc.score(predictions)
    assert found == {
        "pass_at_1": pytest.approx((0 + 0.5 + 1 + 0) / 4),
        "pass_at_2": pytest.approx((1 + 0.5 + 1 + 0) / 4),
        "inputs_pass_at_1": pytest.approx(2 / 6),
        "inputs_pass_at_2": pytest.approx(3 / 6),
        "tasks": 4,
        "inputs": 6,
    }
    assert arc.score({})["pass_at_2"] == 0
    assert arc.score({c: [[torch.tensor(right[c][0])]]})["pass_at_2"] == 0.25
    almost = np.array(right[c][0])
    almost[-1, -1] = (almost[-1, -1] + 1) % 10
    assert arc.score({c: [[almost, almost[:-1]]]})["pass_at_2"] == 0


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ({"nothing": [[]]}, "no task 'nothing'"),
        ({next(iter(TRAINING)): [[]]}, "no task '00010000'"),
        ({"00020001": [[]]}, "00020001 has 2 test inputs, found answers to 1"),
        ({"00020000": [[[[1]], [[2]], [[3]]]]}, "more than 2 candidates"),
    ],
)
def test_predictions_that_cannot_be_scored(arc: ARC, predictions: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        arc.score(predictions)


def test_a_vote_over_versions_and_samples(arc: ARC) -> None:
    """Two of six versions right, the others each wrong in their own way: the right answer is voted for."""
    y = arc.answers("test", True).clone()
    num = len(y) // 6
    samples = y[:, None].repeat(1, 3, 1)
    samples[:, 1] = 0  # no grid
    samples[:, 2] = torch.randint(0, 12, samples[:, 2].shape, generator=torch.Generator().manual_seed(0))
    for k in range(2, 6):
        samples[k::6, 0] = torch.stack([encode(np.full((1, k + 1), 9, np.uint8))] * num)
    assert arc.score(arc.predictions("test", samples, augmented=True))["pass_at_1"] == 1
    assert arc.predictions("test", torch.zeros(6, 900).long()) == {
        name: [[]] * len(task["test"]) for name, task in EVALUATION.items()
    }
    with pytest.raises(ValueError, match=r"y: expected \[36, 900\] or \[36, N, 900\], found \[6, 900\]"):
        arc.predictions("test", y[:6], augmented=True)


# Files


def test_both_formats_are_the_same_task(tmp_path: Path, root: Path) -> None:
    files = kaggle(tmp_path / "kaggle", {"training": TRAINING, "evaluation": EVALUATION})
    flat = folder(tmp_path / "flat", TRAINING, EVALUATION, data=".")
    named = folder(tmp_path / "both" / "ARC-AGI-2", TRAINING, EVALUATION).parent
    expected = ARC(1, root, num_augmentations=2)
    for other in (
        ARC(1, files, num_augmentations=2),
        ARC(1, flat, num_augmentations=2),
        ARC(2, named, num_augmentations=2),
    ):
        assert torch.equal(other.answers("test", True), expected.answers("test", True))
        for a, b in zip(train(other, 300), train(expected, 300), strict=True):
            assert torch.equal(a, b)
    with pytest.raises(ValueError, match="both: expected ARC's folders"):
        ARC(1, named)


def test_hidden_tasks_of_the_competition(tmp_path: Path) -> None:
    hidden = tasks(3, 9)
    subsets = {"training": TRAINING, "evaluation": EVALUATION, "test": hidden}
    arc = ARC(2, kaggle(tmp_path, subsets), evaluation="test", num_augmentations=1)
    assert {question.task for question in arc.questions("test")} == set(hidden)
    assert not arc.answers("test").any()
    assert arc.num_puzzles == 2 * (6 + 3)
    with pytest.raises(ValueError, match="expected a folder dev or a file arc-agi_dev_challenges"):
        ARC(2, tmp_path, evaluation="dev")


GOOD = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "output": [[4]]}]}


def with_grid(grid: Any, part: str = "train", side: str = "input") -> str:
    pairs = {key: list(value) for key, value in GOOD.items()}
    pairs[part] = [*pairs[part], {"input": [[1]], "output": [[2]], side: grid}]
    return json.dumps(pairs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"train": [\n\n{"input": [[1]],}', r"bad\.json, line 3: expected JSON"),
        ("", r"bad\.json, line 1: expected JSON"),
        (b'{\n"train": "\xff"', r"bad\.json, line 2: .*no text"),
        ("[" * 100_000, r"bad\.json: could not be read"),
        ("9" * 5000, r"bad\.json: could not be read"),
        ("[]", "task bad: expected an object with the lists train and test"),
        (json.dumps({"train": GOOD["train"]}), "expected an object with the lists train and test"),
        (json.dumps(GOOD | {"train": []}), "task bad: expected at least one train pair"),
        (json.dumps(GOOD | {"test": []}), "task bad: expected at least one test pair"),
        (json.dumps(GOOD | {"train": [{"input": [[1]]}]}), "train pair 1: expected an object with input and output"),
        (json.dumps(GOOD | {"test": [{"output": [[1]]}]}), "test pair 1: expected an object with input"),
        (json.dumps(GOOD | {"test": [3]}), "test pair 1: expected an object"),
        (with_grid([[1, 2], [3]]), "task bad, train pair 2, input: row 2 has 1 cells, row 1 has 2"),
        (with_grid([[1, 10]], "test"), "task bad, test pair 2, input: row 1, column 2 is 10: expected a colour"),
        (with_grid([[1], [-1]], "test", "output"), "test pair 2, output: row 2, column 1 is -1"),
        (with_grid([[1.0]]), r"row 1, column 1 is 1\.0"),
        (with_grid([[True]]), "column 1 is True"),
        (with_grid([[None]]), "column 1 is None"),
        (with_grid([]), "expected 1 to 30 rows, found 0"),
        (with_grid([[]]), "expected 1 to 30 columns, found 0"),
        (with_grid([[0]] * 31), "expected 1 to 30 rows, found 31"),
        (with_grid([[0] * 31]), "expected 1 to 30 columns, found 31"),
        (with_grid(7), "expected a grid as a list of rows"),
        (with_grid([7]), "expected a grid as a list of rows"),
        (with_grid(None, side="output"), "train pair 2, output: expected a grid"),
        (with_grid([[9]], side="output"), "pair 2 in all: its input has another output"),
    ],
)
def test_a_damaged_file_names_file_line_task_and_pair(tmp_path: Path, text: bytes | str, expected: str) -> None:
    folder(tmp_path, TRAINING, EVALUATION)
    path = tmp_path / "data" / "evaluation" / "bad.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=expected) as error:
        ARC(1, tmp_path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_damaged_files_of_the_competition(tmp_path: Path) -> None:
    subsets = {"training": TRAINING, "evaluation": EVALUATION}
    challenges = kaggle(tmp_path, subsets) / "arc-agi_evaluation_challenges.json"
    solutions = tmp_path / "arc-agi_evaluation_solutions.json"
    good = json.loads(solutions.read_text())
    for bad, expected in (
        ([], "solutions.json: expected the outputs of the tasks in arc-agi_evaluation_challenges.json"),
        ({"00020000": good["00020000"]}, "expected the outputs of the tasks"),
        (good | {"00020001": good["00020001"][:1]}, "task 00020001: expected a list of as many .* inputs, 2"),
        (good | {"00020001": 3}, "task 00020001: expected a list"),
        (good | {"00020001": [[[1]], [[1, 2], [3]]]}, "solutions.json, task 00020001, test pair 2: row 2 has 1 cells"),
    ):
        solutions.write_text(json.dumps(bad))
        with pytest.raises(ValueError, match=expected):
            ARC(1, tmp_path)
    for bad, expected in (("{\n\n", "line 3: expected JSON"), ("{}", "not empty"), ('{"a": 1}', "task a: expected an")):
        challenges.write_text(bad)
        solutions.unlink(missing_ok=True)
        with pytest.raises(ValueError, match=f"challenges.json.*{expected}"):
            ARC(1, tmp_path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected ARC's folders training and evaluation, or arc-agi_training"):
        ARC(1, tmp_path / "nowhere")
    folder(tmp_path, TRAINING, {})
    with pytest.raises(ValueError, match="evaluation: expected files of tasks"):
        ARC(1, tmp_path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"version": 3}, "version: expected 1 or 2, found 3"),
        ({"num_augmentations": -1}, "at least 0"),
        ({"num_validation": -1}, "at least 0"),
        ({"only": "00010000"}, "expected lists"),
        ({"extra": "data"}, "expected lists"),
        ({"only": ["00010000", "ffffffff"]}, "only: there is no task 'ffffffff'"),
        ({"only": []}, "at least one task"),
        ({"largest": 1}, "at least one task"),
    ],
)
def test_bad_arguments(root: Path, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        ARC(**({"root": root} | options))


def test_tasks_without_large_grids(root: Path) -> None:
    def side(task: JSON) -> int:
        grids = [pair[key] for part in ("train", "test") for pair in task[part] for key in ("input", "output")]
        return max(max(len(grid), len(grid[0])) for grid in grids)

    sides = sorted(side(task) for task in EVALUATION.values())
    middle = sides[len(sides) // 2 - 1]
    arc = ARC(1, root, largest=middle, canvas=middle)
    kept = {name for name, task in EVALUATION.items() if side(task) <= middle}
    assert 0 < len(kept) < len(EVALUATION)
    assert {question.task for question in arc.questions("test")} == kept
    assert arc.num_puzzles == sum(side(task) <= middle for task in (TRAINING | EVALUATION).values())


def test_tasks_of_the_other_version_and_repeated_ones(tmp_path: Path) -> None:
    base = folder(tmp_path / "base", TRAINING, EVALUATION)
    names = list(EVALUATION)

    def other(name: str, training: dict[str, JSON]) -> Path:
        return folder(tmp_path / name, training, tasks(1, 5))

    fresh = tasks(3, 7)
    more = other("more", fresh | {"00010000": TRAINING["00010000"], "renamed": TRAINING["00010001"]})
    arc = ARC(1, base, extra=[more])
    assert arc.num_puzzles == 6 + 4 + 3  # what is there already is not added
    assert arc.left_out == ()
    assert ARC(1, base, extra=[more], only=[*names, *fresh]).num_puzzles == 4 + 3

    changed = {"train": tasks(1, 8)["00080000"]["train"], "test": EVALUATION[names[0]]["test"]}
    shuffled = {key: EVALUATION[names[1]][key][::-1] for key in ("train", "test")}
    moved = {"train": EVALUATION[names[1]]["train"][1:] + EVALUATION[names[1]]["test"]}
    moved["test"] = EVALUATION[names[1]]["train"][:1]
    for k, task in enumerate(({names[0]: changed}, {"renamed": shuffled}, {"renamed": moved})):
        with pytest.raises(ValueError, match=r"extra: 1 training tasks of .* answers would be trained on"):
            ARC(1, base, extra=[other(f"leak{k}", fresh | task)])
    with pytest.raises(ValueError, match="extra: 4 training tasks"):
        ARC(1, base, extra=[other("all", fresh | EVALUATION)])

    # within one set, as in ARC-AGI-1 itself
    twice = ARC(1, folder(tmp_path / "twice", TRAINING | {"renamed": moved}, EVALUATION))
    assert twice.left_out == ("renamed",)
    assert torch.equal(train(twice, 200)[0], train(ARC(1, base), 200)[0])


def test_the_other_version_is_told_by_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gram_ppl.tasks.arc.data.PUBLISHED", {1: (9, 9), 2: (6, 4)})
    path = folder(tmp_path, TRAINING, EVALUATION)
    with pytest.raises(ValueError, match="expected ARC-AGI-1, found the numbers of tasks of ARC-AGI-2"):
        ARC(1, path)
    assert ARC(2, path).num_puzzles == 10


def test_the_config_builds_the_task_again(tmp_path: Path, root: Path) -> None:
    more = folder(tmp_path / "more", tasks(3, 7), EVALUATION)
    names = [*list(TRAINING)[2:], *EVALUATION, "00070001"]
    options: dict[str, Any] = {"num_augmentations": 3, "num_validation": 1, "translate": False, "seed": 4}
    arc = ARC(1, root, extra=[more], only=names, **options)
    again = ARC(**json.loads(json.dumps(arc.config)))
    assert again.config == arc.config
    assert again.num_puzzles == arc.num_puzzles == 9 * 4
    for split in ("validation", "test"):
        assert torch.equal(again.inputs(split, True), arc.inputs(split, True))
    assert torch.equal(train(again, 50)[0], train(arc, 50)[0])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public sets are not here")
def test_the_public_sets(tmp_path: Path) -> None:
    for version in ("1", "2"):
        with tarfile.open(SHARED / f"arc-agi-{version}.tar.gz") as archive:
            archive.extractall(tmp_path / version, filter="data")
    two = [read_subset(tmp_path / "2" / "data", subset) for subset in ("training", "evaluation")]
    assert list(map(len, two)) == [1000, 120]
    arc = ARC(1, tmp_path / "1", num_augmentations=1)
    assert arc.left_out == ("40853293",)
    assert arc.num_puzzles == 2 * (400 + 400 - 1)
    x, y = arc.inputs("test"), arc.answers("test")
    assert len(x) == 419
    assert arc.verify(x, y).all()
    assert arc.score(arc.predictions("test", x[:, 1:]))["pass_at_2"] == 0
    assert arc.score(arc.predictions("test", y))["pass_at_2"] == 1
    evaluated = {question.task for question in arc.questions("test")}
    assert len(evaluated) == 400
    assert len(evaluated & {puzzle.name for puzzle in two[0]}) == 376
    with pytest.raises(ValueError, match="extra: 376 training tasks"):
        read_sets(1, str(tmp_path / "1"), "evaluation", [str(tmp_path / "2")])


# Text and pictures


def test_parse_takes_names_and_numbers(arc: ARC) -> None:
    x = arc.inputs("test")[0]
    assert json.loads(arc.line(x))["puzzle"] == "00020000"
    text = json.dumps({"input": EVALUATION["00020000"]["test"][0]["input"], "puzzle": int(x[0])}, indent=1)
    assert torch.equal(arc.parse(text), x)
    assert torch.equal(arc.solutions(arc.parse(text))[0], arc.answers("test")[0])
    for bad in (torch.full((901,), -1), torch.zeros(901).long()):
        with pytest.raises(ValueError, match="x: expected a puzzle from 0 to 59 and a grid"):
            arc.line(bad)


FORM = 'Expected {"puzzle": name of a task or number of a puzzle, "input": [[...], ...]} as JSON.'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", FORM),
        ("[[1]]", FORM),
        ('{"puzzle": 1}', FORM),
        ('{"puzzle": 1, "input": [[1]], "output": [[1]]}', FORM),
        ('{"puzzle": "x", "input": [[1]]}', "There is no task 'x' among the 10 tasks."),
        ('{"puzzle": 60, "input": [[1]]}', "Expected the name of a task or a puzzle from 0 to 59."),
        ('{"puzzle": true, "input": [[1]]}', "Expected the name of a task or a puzzle from 0 to 59."),
        ('{"puzzle": null, "input": [[1]]}', "Expected the name of a task or a puzzle from 0 to 59."),
        ('{"puzzle": 0, "input": [[1], [1, 2]]}', "The input is no grid: row 2 has 2 cells, row 1 has 1."),
        (
            '{"puzzle": 0, "input": [[10]]}',
            "The input is no grid: row 1, column 1 is 10: expected a colour from 0 to 9.",
        ),
    ],
)
def test_a_bad_input_is_one_sentence(arc: ARC, text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        arc.parse(text)


@many
@given(
    st.text(max_size=20)
    | st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=9).map(json.dumps)
)
def test_parse_raises_value_errors_only(arc: ARC, text: str) -> None:
    for each in (text, f'{{"puzzle": 0, "input": {text}}}', f'{{"puzzle": {text}, "input": [[1]]}}'):
        try:
            x = arc.parse(each)
        except ValueError:
            continue
        assert x.shape == (901,)


def test_render(arc: ARC) -> None:
    x = torch.cat([torch.tensor([0]), encode(as_grid([[0, 1], [2, 3], [4, 5]]), (7, 9))])
    y = encode(as_grid([[9, 8, 7]]))
    assert arc.render(x) == "0 1\n2 3\n4 5"
    assert arc.render(x, y) == "0 1   9 8 7\n2 3\n4 5"
    assert arc.render(torch.cat([x[:1], y]), x[1:]) == "9 8 7   0 1\n        2 3\n        4 5"
    marked = arc.render(torch.cat([x[:1], y]), x[1:], marks=True)
    assert "[#870C25]9[/]" in marked
    assert Text.from_markup(marked).plain == arc.render(torch.cat([x[:1], y]), x[1:])
    y[:] = 0
    assert arc.render(x, y) == "0 1   .\n2 3\n4 5"
    y[31], y[62] = 2, -7
    assert arc.render(x, y) == "0 1   0 .\n2 3   . ?\n4 5"


@pytest.mark.parametrize("answer", ["none", "right", "empty", "garbage"])
def test_draw(arc: ARC, answer: str) -> None:
    x, y = arc.inputs("test")[1], arc.answers("test")[1]
    boards = {"none": None, "right": y, "empty": 0 * y, "garbage": torch.arange(-450, 450)}
    figure = Figure()
    axes = figure.add_subplot()
    arc.draw(axes, x, boards[answer])
    assert len(axes.images) == 1 + (answer != "none")
    picture = np.asarray(axes.images[0].get_array())
    assert picture.shape[:2] == decoded(x[1:])[0].shape
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    assert file.getvalue().startswith(b"\x89PNG")


def test_the_colours_of_a_picture(arc: ARC) -> None:
    grid = as_grid([[0, 1, 2], [3, 9, 8]])
    axes = Figure().add_subplot()
    arc.draw(axes, torch.cat([torch.tensor([0]), encode(grid, (4, 4))]))
    picture = (np.asarray(axes.images[0].get_array()) * 255).round().astype(int).tolist()
    assert picture == [[[0, 0, 0], [0, 116, 217], [255, 65, 54]], [[46, 204, 64], [135, 12, 37], [127, 219, 255]]]
