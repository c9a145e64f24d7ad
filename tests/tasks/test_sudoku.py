"""Sudoku against brute force, published counts and chi-square tests (error rate 1e-6 each, seeds fixed)."""

from __future__ import annotations

import gzip
import itertools
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gram_ppl.tasks import Sudoku
from gram_ppl.tasks.sudoku.csv import read_csv
from gram_ppl.tasks.sudoku.exact import ExactSolver, ordered_grids
from gram_ppl.tasks.sudoku.symmetry import Symmetry, random_symmetries

many = settings(max_examples=200)
BOXES = [(2, 2), (2, 3), (3, 2), (3, 3), (4, 4)]
TOKENS = st.integers(-(2**63), 2**63 - 1)
SEEDS = st.integers(0, 2**32)
HEADER = "source,question,answer,rating\n"
# The example of Wikipedia's article on Sudoku, and its solution.
QUESTION = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
ANSWER = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"


@cache
def task(box: tuple[int, int] = (2, 2), clues: tuple[int, int] | None = None, **options: object) -> Sudoku:
    n = box[0] * box[1]
    options = {"num_validation": 5, "num_test": 20, "pool": 4} | options
    return Sudoku(box, clues or (n, n * n * 5 // 8), **options)  # type: ignore[arg-type]


@cache
def all_grids() -> Tensor:
    """The grids of side 4 by brute force over the permutations of each row: [288, 16]."""
    found = []
    for rows in itertools.product(itertools.permutations([1, 2, 3, 4]), repeat=4):
        if any(len(set(column)) < 4 for column in zip(*rows, strict=True)):
            continue
        if all(len({*rows[i][j : j + 2], *rows[i + 1][j : j + 2]}) == 4 for i in (0, 2) for j in (0, 2)):
            found.append(sum(rows, ()))
    return torch.tensor(found)


def consistent(x: Tensor) -> Tensor:
    """Which of the 288 grids solve each puzzle: [B, 16] -> [B, 288]."""
    return ((x[:, None] == 0) | (x[:, None] == all_grids())).all(-1)


def test_arrays_and_lists_are_verified_as_tensors_are() -> None:
    grids = all_grids()[:3]
    wrong = grids.flip(1).roll(1, 1)
    conversions: list[Any] = [np.asarray, Tensor.tolist]
    for convert in conversions:
        assert task().verify(convert(grids * 0), convert(grids)).tolist() == [True] * 3
        assert task().verify(convert(grids), convert(wrong)).tolist() == task().verify(grids, wrong).tolist()
    assert not task().verify(grids, wrong).any()


def slow_violations(box: tuple[int, int], x: list[int], y: list[int]) -> int:
    r, c = box
    n = r * c
    units: dict[tuple[str, int, int], set[int]] = {}
    for cell, token in enumerate(y):
        i, j = divmod(cell, n)
        for unit in (("row", i, 0), ("column", j, 0), ("box", i // r, j // c)):
            units.setdefault(unit, set()).add(token)
    assert len(units) == 3 * n
    missing = sum(digit not in seen for seen in units.values() for digit in range(1, n + 1))
    return missing + sum(a not in (0, b) for a, b in zip(x, y, strict=True))


def train(of: Sudoku, num: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return next(of.batches("train", num, torch.Generator().manual_seed(seed)))


def rows(boards: Tensor) -> set[tuple[int, ...]]:
    return {tuple(board) for board in boards.tolist()}


def p_uniform(counts: Tensor) -> float:
    """p-value of Pearson's chi-square test that all cells are equally likely."""
    counts = counts.double()
    expected = counts.mean()
    assert expected >= 10
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2).double(), statistic / 2))


# The verifier


@pytest.mark.parametrize("box", BOXES)
@many
@given(
    seed=SEEDS,
    row=st.integers(0, 19),
    changes=st.lists(st.tuples(st.integers(0, 255), TOKENS | st.integers(-1, 17)), max_size=4),
)
def test_violations_equal_brute_force_on_any_board(
    box: tuple[int, int], seed: int, row: int, changes: list[tuple[int, int]]
) -> None:
    sudoku, n = task(box), box[0] * box[1]
    x, y = torch.randint(-2, n + 3, (2, n * n), generator=torch.Generator().manual_seed(seed)).tolist()
    near = sudoku.answers("test")[row].tolist()
    for cell, token in changes:
        near[cell % (n * n)] = y[-cell % (n * n)] = token
    for a, b in ((x, y), (x, near), ([0] * n * n, near)):
        expected = slow_violations(box, a, b)
        assert sudoku.violations(torch.tensor(a), torch.tensor(b)).item() == expected
        assert sudoku.verify(torch.tensor(a), torch.tensor(b)).item() == (expected == 0)


def test_every_corruption_of_every_grid_of_side_4_is_caught() -> None:
    grids, sudoku = all_grids(), task()
    assert sudoku.verify(torch.zeros(16, dtype=torch.long), grids).all()
    for cell, shift in itertools.product(range(16), range(1, 5)):
        wrong = grids.clone()
        wrong[:, cell] = (wrong[:, cell] + shift) % 5
        assert not sudoku.verify(torch.zeros_like(wrong), wrong).any()
        assert (sudoku.violations(grids, wrong) > sudoku.violations(torch.zeros_like(wrong), wrong)).all()


@many
@given(data=st.data())
def test_removing_a_given_never_adds_violations(data: st.DataObject) -> None:
    sudoku, board = task(), st.lists(st.integers(-1, 5), min_size=16, max_size=16)
    x, y = torch.tensor(data.draw(board)), torch.tensor(data.draw(board))
    fewer = x.clone()
    fewer[data.draw(st.integers(0, 15))] = 0
    assert sudoku.violations(fewer, y) <= sudoku.violations(x, y)


@pytest.mark.parametrize("box", BOXES)
def test_spec(box: tuple[int, int]) -> None:
    (r, c), sudoku = box, task(box)
    n = r * c
    assert sudoku.spec[:4] == (n * n, n + 1, n * n, n + 1)
    assert sudoku.spec.relations is not None
    assert sudoku.spec.relations.shape == (3, n * n, n * n)
    relations = sudoku.spec.relations.tolist()
    for a, b in itertools.product(range(n * n), repeat=2):
        (i, j), (k, m) = divmod(a, n), divmod(b, n)
        assert relations[0][a][b] == (i == k)
        assert relations[1][a][b] == (j == m)
        assert relations[2][a][b] == ((i // r, j // c) == (k // r, m // c))


# The exact solver


def test_288_grids_of_side_4() -> None:
    found = task().solutions(torch.zeros(16, dtype=torch.long))
    assert found.shape == (288, 16)
    assert found.dtype == torch.int64
    assert rows(found) == rows(all_grids())


def test_published_counts() -> None:
    # Wikipedia, "Mathematics of Sudoku": 288 grids of 2 x 2 boxes, 28,200,960 of 2 x 3; one in n! has an ordered row.
    assert len(ordered_grids((2, 2))) == 288 / 24
    assert len(ordered_grids((2, 3))) == 28_200_960 / 720


@many
@given(
    st.one_of(
        st.lists(st.integers(-1, 5), min_size=16, max_size=16),
        st.lists(st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3, 4]), min_size=16, max_size=16),
        st.tuples(st.integers(0, 287), st.integers(0, 2**16 - 1)).map(
            lambda pair: [t * (pair[1] >> k & 1) for k, t in enumerate(all_grids()[pair[0]].tolist())]
        ),
    ),
    st.integers(0, 5),
)
def test_solutions_equal_brute_force(board: list[int], limit: int) -> None:
    x = torch.tensor(board)
    found, expected = task().solutions(x), all_grids()[consistent(x[None])[0]]
    assert found.shape == expected.shape
    assert rows(found) == rows(expected)
    few = task().solutions(x, limit=limit)
    assert few.shape == (min(limit, len(expected)), 16)
    assert rows(few) <= rows(expected)


def other_solver(box: tuple[int, int], x: Tensor, limit: int | None, order: Tensor) -> np.ndarray:
    """What the library exact-cover finds with the same pairs in the same order, sorted."""
    cover = pytest.importorskip("exact_cover.wrapper", reason="exact-cover is not installed")
    n = box[0] * box[1]
    free = [(cell, digit) for cell, digit in (divmod(int(pair), n) for pair in order) if x[cell] in (0, digit + 1)]
    matrix = np.zeros((len(free), 4 * n * n), bool)
    for pair, (cell, digit) in enumerate(free):
        (i, j), (r, c) = divmod(cell, n), box
        units = (cell, i * n + digit, j * n + digit, (i // r * r + j // c) * n + digit)
        matrix[pair, [k * n * n + unit for k, unit in enumerate(units)]] = True
    found = cover.raw_get_all_solutions(matrix, cover.get_solution_count(matrix) if limit is None else limit)
    y = [[digit + 1 for _, digit in sorted(free[pair] for pair in row[: n * n])] for row in found]
    return np.array(sorted(y)).reshape(-1, n * n)


@pytest.mark.parametrize("box", BOXES[:-1])
@settings(max_examples=25)
@given(seed=SEEDS, clues=st.floats(0, 0.6), limit=st.integers(1, 5), excluded=st.integers(0, 30))
def test_the_first_solutions_are_those_of_another_solver(
    box: tuple[int, int], seed: int, clues: float, limit: int, excluded: int
) -> None:
    generator, n = torch.Generator().manual_seed(seed), box[0] * box[1]
    order, solver = torch.randperm(n**3, generator=generator), ExactSolver(box)
    y = torch.from_numpy(solver.solve(np.zeros(n * n, np.int64), 1, order.numpy())[0])
    assert task(box).verify(torch.zeros_like(y), y)
    x = y.where(torch.rand(n * n, generator=generator) < clues, 0)
    needed = torch.arange(n * n) * n + y - 1
    order = torch.cat([order[:-excluded] if excluded else order, needed])  # a solution is left
    order = order[torch.from_numpy(np.sort(np.unique(order.numpy(), return_index=True)[1]))]
    found = solver.solve(x.numpy(), limit, order.numpy())
    assert (found == other_solver(box, x, limit, order)).all()


def test_all_grids_are_those_of_another_solver() -> None:
    found = ExactSolver((2, 2)).solve(np.zeros(16, np.int64))
    assert (found == other_solver((2, 2), torch.zeros(16), None, torch.arange(64))).all()


def test_a_published_puzzle_has_its_published_solution_alone() -> None:
    sudoku = task((3, 3))
    found = sudoku.solutions(sudoku.parse(QUESTION))
    assert [sudoku.line(y) for y in found] == [ANSWER]


@pytest.mark.parametrize("box", BOXES)
def test_a_limit_keeps_an_empty_board_cheap(box: tuple[int, int]) -> None:
    sudoku = task(box)
    blank = torch.zeros(sudoku.spec.len_in, dtype=torch.long)
    found = sudoku.solutions(blank, limit=10)
    assert len(rows(found)) == 10
    assert sudoku.verify(blank, found).all()


# Symmetries


@pytest.mark.parametrize("box", BOXES)
@many
@given(seed=SEEDS)
def test_symmetries_keep_validity_and_are_bijections(box: tuple[int, int], seed: int) -> None:
    sudoku, n = task(box), box[0] * box[1]
    symmetry = random_symmetries(box, 20, torch.Generator().manual_seed(seed))
    assert isinstance(symmetry, Symmetry)
    assert (symmetry.cells.sort(1).values == torch.arange(n * n)).all()
    assert (symmetry.names[:, 0] == 0).all()
    assert (symmetry.names.sort(1).values == torch.arange(n + 1)).all()
    x, y = sudoku.inputs("test"), sudoku.answers("test")
    assert sudoku.verify(symmetry(x), symmetry(y)).all()
    # units are mapped to units: related cells stay related by the same kind, or rows and columns change places
    relations = sudoku.spec.relations
    assert relations is not None
    moved = relations[:, symmetry.cells[0]][:, :, symmetry.cells[0]]
    swapped = relations[[1, 0, 2]] if box[0] == box[1] else relations
    assert (moved == relations).all() or (moved == swapped).all()


@many
@given(seed=SEEDS)
def test_symmetries_map_solutions_to_solutions(seed: int) -> None:
    sudoku = task()
    symmetry = random_symmetries((2, 2), 1, torch.Generator().manual_seed(seed))
    x = sudoku.inputs("test")[seed % 20]
    y = sudoku.solutions(x)
    image = symmetry.names[0][y[:, symmetry.cells[0]]]
    assert rows(image) == rows(sudoku.solutions(symmetry(x[None])[0]))


def test_symmetries_of_side_4_are_uniform_over_the_whole_group() -> None:
    # cells: 2 orders of rows in each band, 2 of bands, the same for columns, and the transpose: 2^7 permutations
    symmetry = random_symmetries((2, 2), 20_000, torch.Generator().manual_seed(0))
    counts = symmetry.cells.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 128
    assert p_uniform(counts) > 1e-6
    counts = symmetry.names.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 24
    assert p_uniform(counts) > 1e-6


# Training rows


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("box", BOXES[:-1])
def test_training_rows_are_solved_puzzles_with_the_asked_number_of_clues(box: tuple[int, int], unique: bool) -> None:
    n = box[0] * box[1]
    lo, hi = n * n * 5 // 8, n * n * 6 // 8
    sudoku = task(box, (lo, hi), unique=unique)
    x, y = train(sudoku, 200)
    assert x.shape == y.shape == (200, n * n)
    assert x.dtype == y.dtype == torch.int64
    assert sudoku.verify(x, y).all()
    clues = (x > 0).sum(1)
    assert lo <= clues.min()
    assert clues.max() <= hi
    assert unique or len(clues.unique()) == hi - lo + 1
    if unique:
        every = torch.cat([sudoku.inputs("test"), sudoku.inputs("validation"), x[:20]])
        assert all(len(sudoku.solutions(one, limit=2)) == 1 for one in every)


def test_unique_puzzles_of_side_4_by_brute_force() -> None:
    sudoku = task((2, 2), (4, 6), unique=True, pool=100, num_test=100)
    x = torch.cat([train(sudoku, 500)[0], sudoku.inputs("test"), sudoku.inputs("validation")])
    assert (consistent(x).sum(1) == 1).all()


def test_grids_of_side_4_are_uniform() -> None:
    sudoku = task((2, 2), (0, 16), num_test=0, num_validation=0)
    found, counts = train(sudoku, 20_000)[1].unique(dim=0, return_counts=True)
    assert rows(found) == rows(all_grids())
    assert p_uniform(counts) > 1e-6


def test_y_is_uniform_among_the_solutions_of_each_puzzle() -> None:
    # One clue: 64 puzzles, 72 solutions each; 24 of them are held out, and the others must stay uniform in (x, y).
    sudoku = task((2, 2), (1, 1), num_test=20, num_validation=4)
    x, y = train(sudoku, 60_000)
    pairs, counts = torch.cat([x, y], 1).unique(dim=0, return_counts=True)
    assert len(pairs) == 40 * 72
    assert p_uniform(counts) > 1e-6


def test_y_is_uniform_among_the_solutions_of_harder_puzzles() -> None:
    # The place of y in the ordered list of the solutions of x, for each number of solutions.
    x, y = train(task((2, 2), (4, 8)), 20_000)
    fits = consistent(x)
    place = (fits.cumsum(1) - 1)[torch.arange(len(x)), (y[:, None] == all_grids()).all(-1).int().argmax(1)]
    for number in (2, 3, 4, 6):
        counts = place[fits.sum(1) == number].bincount(minlength=number)
        assert len(counts) == number
        assert p_uniform(counts) > 1e-6


def test_number_and_place_of_clues_are_uniform() -> None:
    x, _ = train(task((2, 2), (4, 8), num_test=0, num_validation=0), 20_000)
    assert p_uniform((x > 0).sum(1).bincount()[4:]) > 1e-6
    five = x[(x > 0).sum(1) == 5] > 0
    assert p_uniform(five.sum(0)) > 1e-9  # cells of one puzzle are dependent: a bound, not the exact law


def test_held_out_puzzles_are_different_and_never_in_training() -> None:
    # 60 of the 64 puzzles of one clue are held out: nearly every first draw is one of them.
    sudoku = task((2, 2), (1, 1), num_test=40, num_validation=20)
    test, validation = rows(sudoku.inputs("test")), rows(sudoku.inputs("validation"))
    assert (len(test), len(validation), len(test | validation)) == (40, 20, 60)
    seen = rows(train(sudoku, 2000)[0])
    assert len(seen) == 4
    assert not seen & (test | validation)


@pytest.mark.parametrize("unique", [False, True])
def test_held_out_grids_are_never_in_training(unique: bool) -> None:
    sudoku = task((2, 2), (6, 16), unique=unique, split_by="grid", num_test=300, num_validation=100, pool=300)
    held = rows(torch.cat([sudoku.answers("test"), sudoku.answers("validation")]))
    assert 50 <= len(held) <= 57
    x, y = train(sudoku, 20_000)
    seen, counts = y.unique(dim=0, return_counts=True)
    assert not rows(seen) & held
    assert len(seen) >= 288 - 57
    assert unique or p_uniform(counts) > 1e-6
    assert not rows(x) & rows(torch.cat([sudoku.inputs("test"), sudoku.inputs("validation")]))


def test_splits_depend_on_the_seed_alone() -> None:
    one, same, other = (Sudoku((2, 2), (4, 8), num_test=30, num_validation=10, seed=seed) for seed in (1, 1, 2))
    for split in ("validation", "test"):
        assert torch.equal(one.inputs(split), same.inputs(split))
        assert not torch.equal(one.inputs(split), other.inputs(split))
        assert one.verify(one.inputs(split), one.answers(split)).all()
    assert torch.equal(train(one, 100)[0], train(same, 100)[0])


def test_held_out_batches_draw_y_uniformly_afresh() -> None:
    sudoku = task((2, 2), (2, 2), num_test=1)
    x, y = next(sudoku.batches("test", 20_000, torch.Generator().manual_seed(0)))
    assert (x == sudoku.inputs("test")).all()
    found, counts = y.unique(dim=0, return_counts=True)
    assert rows(found) == rows(sudoku.solutions(x[0]))
    assert p_uniform(counts) > 1e-6


def test_an_empty_split() -> None:
    with pytest.raises(ValueError, match="empty"):
        task((2, 2), (4, 8), num_validation=0).batches("validation", 4, torch.Generator())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"box": (1, 4)}, "box"),
        ({"box": (4, 5)}, "box"),
        ({}, "clues"),
        ({"clues": (8, 4)}, "clues: .* found 8 and 4"),
        ({"clues": (4, 17)}, "clues"),
        ({"clues": (4, 8), "mix": 0.5}, "data"),
        ({"clues": (4, 8), "test_data": "x.csv"}, "data"),
        ({"clues": (4, 8), "reveal": (1, 2)}, "reveal"),
        ({"clues": (4, 8), "unique": True, "data": "x.csv"}, "unique"),
        ({"clues": (4, 8), "data": "x.csv", "mix": 2.0}, "mix"),
        ({"clues": (4, 8), "split_by": "row"}, "split_by.*'row'"),
        ({"clues": (4, 8), "num_test": -1}, "num_test"),
        ({"clues": (0, 0)}, "found only 1 different puzzles, 500 are"),
        ({"clues": (1, 1), "num_test": 60, "num_validation": 4}, "leave none.*hold out fewer, or allow more clues"),
    ],
)
def test_impossible_arguments(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Sudoku(**({"box": (2, 2)} | options))


# Files


def write(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def small_file(path: Path, num: int = 40, blanks: int = 4) -> Path:
    """Puzzles of side 4 with one solution and 16 - blanks givens."""
    sudoku, lines = task(), []
    for seed in itertools.count():
        y = all_grids()[seed % 288]
        x = y.masked_fill(torch.rand(16, generator=torch.Generator().manual_seed(seed)).argsort() < blanks, 0)
        if consistent(x[None]).sum() == 1:
            lines.append(f"made,{sudoku.line(x)},{sudoku.line(y)},{seed}\n")
        if len(lines) == num:
            return write(path, HEADER + "".join(lines))
    raise AssertionError


@pytest.mark.parametrize("name", ["one.csv", "one.csv.gz"])
@pytest.mark.parametrize("block", [1, 200, 1 << 20])
def test_a_file_in_the_public_format(tmp_path: Path, name: str, block: int) -> None:
    other = "".join(answer if k % 3 else "0" for k, answer in enumerate(ANSWER))
    text = HEADER + f"puzzles0_kaggle,{QUESTION},{ANSWER},0\r\n" + f"unknown,{other},{ANSWER},12"
    x, y = read_csv(write(tmp_path / name, text), (3, 3), block)
    assert x.shape == y.shape == (2, 81)
    assert x.dtype == y.dtype == torch.uint8
    sudoku = task((3, 3))
    assert [sudoku.line(row) for row in x] == [QUESTION, other.replace("0", ".")]
    assert [sudoku.line(row) for row in y] == [ANSWER] * 2


GOOD = f"unknown,{QUESTION},{ANSWER},3"


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (f"unknown,{QUESTION[:-1]},{ANSWER},3", "a question of 81 characters"),
        (f"unknown,{QUESTION},{ANSWER}1,3", "an answer of 81 characters"),
        (f"unknown,{QUESTION},{ANSWER}", "four fields"),
        (f"un,known,{QUESTION},{ANSWER},3", "four fields"),
        ("", "four fields"),
        (f"unknown,{QUESTION.replace('7', 'x', 1)},{ANSWER},3", "a question of the characters"),
        (f"unknown,{QUESTION},{ANSWER.replace('7', '.', 1)},3", "an answer of the characters"),
        (f"unknown,5{QUESTION[:-1]},{ANSWER},3", "agrees with its answer"),
        (f"unknown,{'.' * 81},{ANSWER[1:] + ANSWER[0]},3", "every digit once"),
        (f"unknown,{'.' * 81},{'123456789' * 9},3", "every digit once"),
    ],
)
def test_a_damaged_file_names_file_and_line(tmp_path: Path, bad: str, expected: str) -> None:
    path = write(tmp_path / "bad.csv.gz", HEADER + f"{GOOD}\n" * 5 + f"{bad}\n" + f"{GOOD}\n" * 5)
    for block in (1, 700, 1 << 20):
        with pytest.raises(ValueError, match=r"bad\.csv\.gz, line 7: expected .*" + expected):
            read_csv(path, (3, 3), block)
    with pytest.raises(ValueError, match="line 7"):
        Sudoku((3, 3), data=path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "line 1: .*header"), ("question,answer\n", "line 1: .*header"), (HEADER, "line 2: .*no puzzles")],
)
def test_a_file_without_header_or_rows(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        read_csv(write(tmp_path / "a.csv", text), (3, 3))


def test_a_truncated_gzip_file(tmp_path: Path) -> None:
    path = small_file(tmp_path / "a.csv.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a\.csv\.gz, line .*damaged"):
        read_csv(path, (2, 2))


def in_file(path: Path) -> dict[tuple[int, ...], tuple[int, ...]]:
    x, y = read_csv(path, (2, 2))
    return dict(zip(map(tuple, x.tolist()), map(tuple, y.tolist()), strict=True))


def test_held_out_rows_of_a_file_are_bare_rows_and_training_is_the_rest(tmp_path: Path) -> None:
    path = small_file(tmp_path / "a.csv")
    known = in_file(path)
    sudoku = Sudoku((2, 2), data=path, num_test=10, num_validation=5, augment=False)
    held: dict[Any, Any] = {}
    for split in ("test", "validation"):
        held |= dict(
            zip(map(tuple, sudoku.inputs(split).tolist()), map(tuple, sudoku.answers(split).tolist()), strict=True)
        )
    assert len(held) == 15
    assert held.items() <= known.items()
    x, y = train(sudoku, 2000)
    assert dict(zip(map(tuple, x.tolist()), map(tuple, y.tolist()), strict=True)) == {
        k: v for k, v in known.items() if k not in held
    }


@pytest.mark.parametrize("split_by", ["puzzle", "grid"])
@pytest.mark.parametrize("options", [{}, {"reveal": (0, 1)}, {"mix": 0.5, "clues": (14, 15)}])
def test_training_on_a_file_never_shows_what_is_held_out(
    tmp_path: Path, split_by: str, options: dict[str, Any]
) -> None:
    # One blank each: under symmetry 288 * 16 puzzles in all, so that augmentation hits held-out ones all the time.
    path = small_file(tmp_path / "a.csv", num=288, blanks=1)
    sudoku = Sudoku((2, 2), data=path, num_test=30, num_validation=10, split_by=split_by, **options)
    x, y = train(sudoku, 20_000)
    assert sudoku.verify(x, y).all()
    held = torch.cat([sudoku.inputs("test"), sudoku.inputs("validation")])
    assert not rows(x) & rows(held)
    answers = rows(torch.cat([sudoku.answers("test"), sudoku.answers("validation")]))
    assert bool(rows(y) & answers) == (split_by == "puzzle")


def test_repeated_rows_are_held_out_together(tmp_path: Path) -> None:
    text = small_file(tmp_path / "a.csv", num=6).read_text().removeprefix(HEADER)
    path = write(tmp_path / "b.csv", HEADER + 50 * text)
    sudoku = Sudoku((2, 2), data=path, num_test=3, num_validation=2, augment=False)
    assert len(rows(train(sudoku, 100)[0])) == 1
    for num_test, expected in ((7, "there are only 6"), (4, "leaves none")):
        with pytest.raises(ValueError, match=expected):
            Sudoku((2, 2), data=path, num_test=num_test, num_validation=2)


def test_reveal_and_mix(tmp_path: Path) -> None:
    path = small_file(tmp_path / "a.csv", blanks=4)
    options: dict[str, Any] = {"data": path, "num_test": 5, "num_validation": 5}
    x, _ = train(Sudoku((2, 2), **options, reveal=(1, 3)), 12_000)
    assert p_uniform((x > 0).sum(1).bincount()[13:]) > 1e-6
    x, y = train(Sudoku((2, 2), (2, 3), **options, mix=0.25), 12_000)
    made = (x > 0).sum(1) <= 3
    assert abs(made.double().mean() - 0.25) < 5 * (0.25 * 0.75 / 12_000) ** 0.5  # error rate 6e-7
    assert ((x > 0).sum(1)[~made] == 12).all()
    assert task().verify(x, y).all()


def test_test_puzzles_from_a_file_of_their_own(tmp_path: Path) -> None:
    one, two = small_file(tmp_path / "a.csv", num=60), small_file(tmp_path / "b.csv", num=20)
    sudoku = Sudoku((2, 2), data=[one], test_data=two, num_test=20, num_validation=5, augment=False)
    assert rows(sudoku.inputs("test")) == set(in_file(two))
    assert rows(sudoku.inputs("validation")) <= set(in_file(one))
    assert rows(train(sudoku, 3000)[0]) == set(in_file(one)) - set(in_file(two)) - rows(sudoku.inputs("validation"))


def test_the_hub_is_asked_only_when_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, calls = small_file(tmp_path / "a.csv"), []

    def download(repo: str, file: str, *, repo_type: str) -> str:
        calls.append((repo, file, repo_type))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    options: dict[str, Any] = {"num_test": 5, "num_validation": 5}
    local = Sudoku((2, 2), data=path, **options)
    assert not calls
    hub = Sudoku((2, 2), data="hub:sapientinc/sudoku-extreme/train.csv", **options)
    assert calls == [("sapientinc/sudoku-extreme", "train.csv", "dataset")]
    assert torch.equal(hub.inputs("test"), local.inputs("test"))

    def fail(*_: object, **__: object) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ValueError, match=r"sapientinc/sudoku-extreme .*no route to host.* local path") as error:
        Sudoku((2, 2), data="hub:sapientinc/sudoku-extreme/train.csv", **options)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="OWNER/NAME/FILE"):
        Sudoku((2, 2), data="hub:train.csv", **options)


def test_the_config_names_the_file(tmp_path: Path) -> None:
    path = small_file(tmp_path / "a.csv")
    sudoku = Sudoku((2, 2), (9, 11), data=path, num_test=9, num_validation=1, reveal=(0, 2), mix=0.5, augment=False)
    again = Sudoku(**json.loads(json.dumps(sudoku.config)))
    assert again.config == sudoku.config
    assert torch.equal(again.inputs("test"), sudoku.inputs("test"))
    assert torch.equal(train(again, 50)[0], train(sudoku, 50)[0])


# Text


@pytest.mark.parametrize("box", BOXES)
def test_a_board_is_one_line(box: tuple[int, int]) -> None:
    sudoku, n = task(box), box[0] * box[1]
    for x in (*sudoku.inputs("test")[:3], *sudoku.answers("test")[:3]):
        assert len(sudoku.line(x)) == n * n
        assert torch.equal(sudoku.parse(sudoku.line(x)), x)


def test_parse_takes_every_blank_white_space_and_small_letters() -> None:
    sudoku = task()
    expected = [1, 2, 3, 4, 0, 0, 1, 2, 0, 0, 4, 3, 4, 3, 2, 1]
    assert sudoku.parse(" 1234\n.012 \t__43\n4321\n").tolist() == expected
    large = task((4, 4))
    y = large.line(large.answers("test")[0])
    assert "G" in y
    assert torch.equal(large.parse(y.lower()), large.answers("test")[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (QUESTION[1:], "A 9 x 9 puzzle has 81 characters, found 80."),
        ("", "A 9 x 9 puzzle has 81 characters, found 0."),
        (
            QUESTION[:10] + "x" + QUESTION[11:],
            "Character 11 of the puzzle (row 2, column 2) is 'x': expected a digit from 1 to 9, "
            "or one of . _ 0 * for blank.",
        ),
        (
            "5.......5" + "." * 72,
            "The givens clash: the digit 5 stands twice in row 1, at row 1, column 1 and at row 1, column 9.",
        ),
        (
            "........." * 3 + "....7....\n........." + "." * 27 + "....7....",
            "The givens clash: the digit 7 stands twice in column 5, at row 4, column 5 and at row 9, column 5.",
        ),
        (
            "." * 33 + "2" + "." * 19 + "2" + "." * 27,
            "The givens clash: the digit 2 stands twice in box 6, at row 4, column 7 and at row 6, column 9.",
        ),
        (
            "12345678." + "........9" + "." * 63,
            "The puzzle has no solution, although no two of its givens clash.",
        ),
    ],
)
def test_a_bad_puzzle_is_one_sentence(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        task((3, 3)).parse(text)


def test_render() -> None:
    sudoku = task()
    x = sudoku.parse("1...............")
    y = sudoku.parse("1234341221434321")
    assert sudoku.render(x) == "1 . | . .\n. . | . .\n----+----\n. . | . .\n. . | . ."
    assert sudoku.render(x, y).splitlines()[0] == "1 2 | 3 4"
    assert sudoku.render(x, y, marks=True).splitlines()[0] == "[bold]1[/bold] 2 | 3 4"
    assert sudoku.render(x, torch.full((16,), -7)).splitlines()[0] == "? ? | ? ?"
    wide = task((2, 3)).render(task((2, 3)).inputs("test")[0]).splitlines()
    assert {len(line) for line in wide} == {13}
    assert [k for k, line in enumerate(wide) if "+" in line] == [2, 5]


def test_answers_of_the_solver_are_sorted() -> None:
    found = task().solutions(torch.zeros(16, dtype=torch.long)).numpy()
    assert (np.lexsort(found.T[::-1]) == np.arange(288)).all()


def test_held_out_puzzles_of_another_difficulty(tmp_path: Path) -> None:
    task = Sudoku((2, 2), clues=(4, 8), held_clues=(12, 12), num_validation=5, num_test=20)
    assert all(((task.inputs(split) > 0).sum(1) == 12).all() for split in ("validation", "test"))
    x, _ = next(task.batches("train", 50, torch.Generator().manual_seed(0)))
    assert int((x > 0).sum(1).max()) <= 8

    path = tmp_path / "puzzles.csv"
    plain = Sudoku((2, 2), clues=(6, 6), num_test=30)
    lines = [
        f"made,{plain.line(x)},{plain.line(y)},0"
        for x, y in zip(plain.inputs("test"), plain.answers("test"), strict=True)
    ]
    path.write_text("\n".join(["source,question,answer,rating", *lines]) + "\n")
    task = Sudoku((2, 2), data=path, held_reveal=(3, 3), num_validation=5, num_test=10)
    x, y = task.inputs("test"), task.answers("test")
    assert ((x > 0).sum(1) == 9).all()
    assert task.verify(x, y).all()
    with pytest.raises(ValueError, match="held_clues is for made puzzles"):
        Sudoku((2, 2), data=path, held_clues=(3, 3), num_validation=5, num_test=10)
    with pytest.raises(ValueError, match="held_reveal for puzzles of data"):
        Sudoku((2, 2), clues=(4, 8), held_reveal=(1, 1))


def test_without_arguments_it_is_the_small_board() -> None:
    sudoku = Sudoku()
    assert (sudoku.box, sudoku.clues) == ((2, 2), (4, 8))
    assert Sudoku(**sudoku.config).config == sudoku.config
    assert sudoku.inputs("test").shape == (500, 16)
    assert Sudoku(clues=(30, 40), num_validation=1, num_test=1, pool=2).side == 9
