"""N queens against brute force, published counts and chi-square tests (error rate 1e-6 each, seeds fixed)."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import Tensor

from gram_ppl.tasks.nqueens.task import NQueens, all_solutions, unique_inputs

many = settings(max_examples=200)
TOKENS = st.integers(-(2**63), 2**63 - 1)
SEEDS = st.integers(0, 2**32)
ENCODINGS = ["cells", "rows"]
COUNTS = {4: 2, 5: 10, 6: 4, 7: 40, 8: 92, 9: 352, 10: 724, 11: 2680, 12: 14200}  # OEIS A000170
# different inputs and pairs of an input and a completion, for each number of removed queens, computed two ways
PROTOCOL = {
    8: {(5,): (4032, 5152), (6,): (1052, 2576), (7,): (64, 736), (5, 6, 7): (5148, 8464)},
    10: {(7,): (39840, 86880), (8,): (3480, 32580), (9,): (100, 7240), (7, 8, 9): (43420, 126700)},
}
# how many inputs of the 8 x 8 protocol have 1, 2, 3 .. completions
COMPLETIONS_8 = {1: 3372, 2: 1136, 3: 384, 4: 116, 5: 28, 6: 40, 7: 8, 8: 28, 12: 8, 14: 8, 16: 12, 18: 8}
REFERENCE = Path(__file__).parents[3] / "shared" / "data" / "nqueens_reference.json"


@cache
def task(n: int = 8, tokens: str = "cells", removed: tuple[int, ...] | None = None, **options: object) -> NQueens:
    options = {"num_validation": 5} | options
    return NQueens(n, removed, tokens=tokens, **options)  # type: ignore[arg-type]


def attack(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] == b[0] or a[1] == b[1] or abs(a[0] - b[0]) == abs(a[1] - b[1])


@cache
def brute(n: int) -> list[tuple[int, ...]]:
    """All solutions out of the permutations of the columns 1 .. n."""
    return [
        board
        for board in itertools.permutations(range(1, n + 1))
        if not any(attack(a, b) for a, b in itertools.combinations(enumerate(board), 2))
    ]


def encode(board: list[int] | tuple[int, ...], tokens: str, n: int) -> list[int]:
    """Columns from 1 on, 0 where none is known, as tokens."""
    if tokens == "rows":
        return list(board)
    return [2 if column == j + 1 else 1 for column in board for j in range(n)]


def slow_violations(n: int, tokens: str, x: list[int], y: list[int]) -> int:
    if tokens == "cells":
        queens = [divmod(cell, n) for cell, token in enumerate(y) if token == 2]
        garbage, unknown = sum(token not in (1, 2) for token in y), 1
    else:
        queens = [(row, token - 1) for row, token in enumerate(y) if 1 <= token <= n]
        garbage, unknown = 0, 0
    total = garbage + sum(a not in (unknown, b) for a, b in zip(x, y, strict=True))
    for line in (Counter(i for i, _ in queens), Counter(j for _, j in queens)):
        total += sum(abs(line[k] - 1) for k in range(n))
    for line in (Counter(i - j for i, j in queens), Counter(i + j for i, j in queens)):
        total += sum(number - 1 for number in line.values())
    return total


def partial_board(draw: Callable[..., Any], n: int, tokens: str) -> list[int]:
    """An input of any origin: a part of a solution, legal or not, or nonsense."""
    kind = draw(st.integers(0, 2))
    some = st.lists(st.integers(0, n), min_size=n, max_size=n)
    board = draw(some if kind else st.sampled_from(brute(n)))
    kept = [column if draw(st.booleans()) else 0 for column in board]
    x = encode(kept, tokens, n)
    if kind == 2:
        x[draw(st.integers(0, len(x) - 1))] = draw(st.integers(-1, n + 2))
    return x


def train(of: NQueens, num: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return next(of.batches("train", num, torch.Generator().manual_seed(seed)))


def rows(boards: Tensor) -> set[tuple[int, ...]]:
    return {tuple(board) for board in boards.tolist()}


def p_uniform(counts: Tensor) -> float:
    """p-value of Pearson's chi-square test that all cells are equally likely."""
    return p_chi_square(counts, counts.double().mean().expand(len(counts)))


def p_chi_square(counts: Tensor, expected: Tensor) -> float:
    assert expected.min() >= 10
    statistic = ((counts.double() - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2).double(), statistic / 2))


# The paper's protocol


@pytest.mark.parametrize("n", COUNTS)
def test_published_numbers_of_solutions(n: int) -> None:
    found = all_solutions(n)
    assert found.shape == (COUNTS[n], n)
    assert len(rows(found)) == COUNTS[n]
    queens = task(n, removed=(n - 1,), num_validation=1)
    blank = queens.blank
    boards = queens.solutions(blank)
    assert len(boards) == COUNTS[n]
    assert queens.verify(blank, boards).all()
    assert blank.shape == (queens.spec.len_in,)
    assert blank.dtype == torch.int64
    if n <= 8:
        assert rows(found + 1) == set(brute(n))


@pytest.mark.parametrize("n", PROTOCOL)
def test_known_numbers_of_inputs_and_pairs(n: int) -> None:
    solutions = all_solutions(n)
    for removed, expected in PROTOCOL[n].items():
        inputs = unique_inputs(solutions, removed)
        assert (len(inputs.key), len(inputs.solution)) == expected
        assert inputs.num.sum() == expected[1]
    everything = NQueens(n, train_share=1.0, num_validation=0)
    assert everything.config["removed"] == list(removed)
    if n == 8:
        histogram = inputs.num.bincount()
        assert {k: c for k, c in enumerate(histogram.tolist()) if c} == COMPLETIONS_8
        x = train(everything, 100_000)[0].unique(dim=0)
        assert len(x) == 5148
        assert (x == 2).sum(1).bincount().tolist() == [0, 64, 1052, 4032]


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference file is not there")
@pytest.mark.parametrize("n", PROTOCOL)
def test_histograms_of_the_reference_file(n: int) -> None:
    protocol = json.loads(REFERENCE.read_text())["protocol"][str(n)]
    by_k = {(int(k),): found for k, found in protocol["by_k"].items() if k != "all"}
    by_k[tuple(protocol["k_removed"])] = protocol["by_k"]["all"]
    for removed, known in by_k.items():
        inputs = unique_inputs(all_solutions(n), removed)
        histogram = {str(k): c for k, c in enumerate(inputs.num.bincount().tolist()) if c}
        assert histogram == known["histogram_completions_to_inputs"]
        assert (len(inputs.key), len(inputs.solution)) == (known["unique_inputs"], known["input_target_pairs"])


@pytest.mark.parametrize("tokens", ENCODINGS)
@pytest.mark.parametrize(("n", "removed"), [(4, (1, 2, 3)), (5, (2, 5)), (6, (1, 2, 3, 4, 5, 6)), (6, (3,)), (7, (5,))])
def test_inputs_of_all_splits_equal_brute_force(n: int, removed: tuple[int, ...], tokens: str) -> None:
    completions: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for board in brute(n):
        for k in removed:
            for gone in itertools.combinations(range(n), k):
                x = encode([0 if row in gone else column for row, column in enumerate(board)], tokens, n)
                completions.setdefault(tuple(x), set()).add(tuple(encode(board, tokens, n)))
    queens = task(n, tokens, removed)
    test, validation = rows(queens.inputs("test")), rows(queens.inputs("validation"))
    training = rows(train(queens, 30_000)[0])
    assert len(validation) == 5
    assert not test & validation
    assert not (test | validation) & training
    assert test | validation | training == set(completions)
    assert len(training) + len(validation) == round(0.85 * len(completions))
    assert len(test) == len(queens.inputs("test"))
    for board, expected in list(completions.items())[:50]:
        assert rows(queens.solutions(torch.tensor(board))) == expected


@pytest.mark.parametrize("tokens", ENCODINGS)
def test_x_is_uniform_and_y_uniform_among_its_completions(tokens: str) -> None:
    queens, number = task(7, tokens, (5, 6)), 60_000
    x, y = train(queens, number)
    assert x.dtype == y.dtype == torch.int64
    assert x.shape == y.shape == (number, queens.spec.len_in)
    assert queens.verify(x, y).all()
    inputs, place, counts = x.unique(dim=0, return_inverse=True, return_counts=True)
    assert p_uniform(counts) > 1e-6
    pairs, counts = torch.cat([place[:, None], y], 1).unique(dim=0, return_counts=True)
    num = torch.tensor([len(queens.solutions(one)) for one in inputs])
    assert len(num.unique()) > 3
    assert len(pairs) == num.sum()
    assert p_chi_square(counts, number / len(inputs) / num[pairs[:, 0]].double()) > 1e-6


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_batches_stay_in_their_split(split: str) -> None:
    queens = task(8, num_test=3)
    x, y = next(queens.batches(split, 2000, torch.Generator().manual_seed(0)))
    assert rows(x) == rows(queens.inputs(split))
    assert queens.verify(x, y).all()
    assert queens.inputs(split).dtype == torch.int64
    for one in queens.inputs(split):
        assert rows(y[(x == one).all(1)]) == rows(queens.solutions(one))


def test_sizes_of_the_split() -> None:
    full, few = NQueens(), NQueens(num_test=100)
    assert len(full.inputs("test")) == 5148 - round(0.85 * 5148)
    assert len(full.inputs("validation")) == 200
    assert torch.equal(few.inputs("test"), full.inputs("test")[:100])
    assert not rows(train(few, 50_000)[0]) & rows(full.inputs("test"))


@pytest.mark.parametrize("n", COUNTS)
def test_the_default_split_suits_every_side(n: int) -> None:
    queens = NQueens(n, tokens="rows")
    assert len(queens.inputs("validation")) == {4: 3, 5: 23, 6: 17}.get(n, 200)
    assert len(queens.inputs("test")) > 0


@pytest.mark.parametrize("tokens", ENCODINGS)
def test_complete_boards_are_uniform(tokens: str) -> None:
    queens = task(8, tokens)
    y = queens.boards(20_000, torch.Generator().manual_seed(0))
    assert y.dtype == torch.int64
    found, counts = y.unique(dim=0, return_counts=True)
    assert rows(found) == rows(queens.solutions(queens.blank))
    assert p_uniform(counts) > 1e-6


def test_splits_depend_on_the_seed_alone() -> None:
    one, same, other = (NQueens(seed=seed) for seed in (1, 1, 2))
    for split in ("validation", "test"):
        assert torch.equal(one.inputs(split), same.inputs(split))
        assert not torch.equal(one.inputs(split), other.inputs(split))
    assert torch.equal(train(one, 100)[0], train(same, 100)[0])


@pytest.mark.parametrize("tokens", ENCODINGS)
def test_both_encodings_say_the_same(tokens: str) -> None:
    cells, other = task(8), task(8, tokens)
    assert [other.render(x) for x in other.inputs("test")] == [cells.render(x) for x in cells.inputs("test")]
    one, two = train(other, 200), train(cells, 200)
    assert [other.render(*pair) for pair in zip(*one, strict=True)] == [
        cells.render(*pair) for pair in zip(*two, strict=True)
    ]


def test_empty_splits() -> None:
    with pytest.raises(ValueError, match="validation split is empty"):
        task(num_validation=0).batches("validation", 4, torch.Generator())
    with pytest.raises(ValueError, match="test split is empty"):
        task(num_test=0).batches("test", 4, torch.Generator())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"n": 3}, "n: expected a board of side 4 to 12, found 3."),
        ({"n": 13}, "n: .* found 13."),
        ({"removed": ()}, r"removed: expected numbers of queens from 1 to 8, found \[\]."),
        ({"removed": (0, 1)}, r"removed: .* found \[0, 1\]."),
        ({"removed": (9,)}, r"removed: .* found \[9\]."),
        ({"tokens": "board"}, "tokens: .* found 'board'."),
        ({"train_share": 0.0}, "train_share: .* found 0.0."),
        ({"train_share": 1.5}, "train_share: .* found 1.5."),
        ({"num_validation": -1}, "num_validation: expected 0 to 4375 of the 4376 training inputs, found -1."),
        ({"num_validation": 4376}, "num_validation: .* found 4376."),
        ({"n": 6, "num_validation": 139}, "num_validation: expected 0 to 138 of the 139 training inputs, found 139."),
        ({"num_test": 773}, "num_test: expected 0 to 772, or None for all, found 773."),
        ({"num_test": -1}, "num_test: "),
    ],
)
def test_impossible_arguments(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{expected}$" if expected.endswith(".") else expected):
        NQueens(**options)


# The verifier


@pytest.mark.parametrize("tokens", ENCODINGS)
@pytest.mark.parametrize("n", [5, 8])
@many
@given(
    seed=SEEDS,
    changes=st.lists(st.tuples(st.integers(0, 143), TOKENS | st.integers(-1, 13)), max_size=4),
)
def test_violations_equal_brute_force_on_any_board(
    n: int, tokens: str, seed: int, changes: list[tuple[int, int]]
) -> None:
    queens, generator = task(n, tokens), torch.Generator().manual_seed(seed)
    length = queens.spec.len_in
    x, y = torch.randint(-1, queens.spec.vocab_out + 1, (2, length), generator=generator).tolist()
    given, near = (part[0].tolist() for part in train(queens, 1, seed))
    for cell, token in changes:
        near[cell % length] = y[-cell % length] = token
    for a, b in ((x, y), (x, near), (given, near), (queens.blank.tolist(), near), (x, x)):
        expected = slow_violations(n, tokens, a, b)
        assert queens.violations(torch.tensor(a), torch.tensor(b)).item() == expected
        assert queens.verify(torch.tensor(a), torch.tensor(b)).item() == (expected == 0)


@pytest.mark.parametrize("tokens", ENCODINGS)
def test_every_board_of_side_4_by_brute_force(tokens: str) -> None:
    # all 5^4 boards of at most one queen a row; in cells also all 2^16 boards
    queens = task(4, tokens)
    boards = [encode(board, tokens, 4) for board in itertools.product(range(5), repeat=4)]
    if tokens == "cells":
        boards = list(map(list, itertools.product((1, 2), repeat=16)))
    y = torch.tensor(boards)
    assert rows(y[queens.verify(queens.blank, y)]) == {tuple(encode(board, tokens, 4)) for board in brute(4)}
    for board in brute(4):
        for kept in itertools.product((0, 1), repeat=4):
            x = encode([a * b for a, b in zip(board, kept, strict=True)], tokens, 4)
            expected = {b for b in brute(4) if all(not k or b[i] == board[i] for i, k in enumerate(kept))}
            valid = y[queens.verify(torch.tensor(x), y)]
            assert rows(valid) == {tuple(encode(b, tokens, 4)) for b in expected}
            assert rows(queens.solutions(torch.tensor(x))) == rows(valid)


@pytest.mark.parametrize("tokens", ENCODINGS)
@pytest.mark.parametrize("n", [5, 6])
@many
@given(data=st.data())
def test_solutions_equal_brute_force(n: int, tokens: str, data: st.DataObject) -> None:
    queens, x = task(n, tokens), partial_board(data.draw, n, tokens)
    expected = {tuple(encode(board, tokens, n)) for board in brute(n)}
    expected = {y for y in expected if all(a in (tokens == "cells", b) for a, b in zip(x, y, strict=True))}
    found = queens.solutions(torch.tensor(x))
    assert found.shape == (len(expected), queens.spec.len_out)
    assert found.dtype == torch.int64
    assert rows(found) == expected
    everything = torch.tensor([encode(board, tokens, n) for board in brute(n)])
    assert queens.verify(torch.tensor(x), everything).sum() == len(expected)


@pytest.mark.parametrize("n", [5, 8])
@many
@given(seed=SEEDS, turns=st.integers(0, 3), flip=st.booleans(), solved=st.booleans())
def test_rotations_and_reflections_change_nothing(n: int, seed: int, turns: int, flip: bool, solved: bool) -> None:
    queens, generator = task(n), torch.Generator().manual_seed(seed)
    x, y = torch.randint(0, 3, (2, 20, n * n), generator=generator)
    if solved:
        x, y = train(queens, 20, seed)

    def move(boards: Tensor) -> Tensor:
        boards = boards.unflatten(-1, (n, n)).rot90(turns, (-2, -1))
        return (boards.flip(-1) if flip else boards).flatten(-2)

    assert torch.equal(queens.violations(move(x), move(y)), queens.violations(x, y))
    assert rows(queens.solutions(move(x)[0])) == rows(move(queens.solutions(x[0])))


@many
@given(seed=SEEDS)
def test_both_encodings_have_the_same_violations(seed: int) -> None:
    # boards of one queen a row, under givens that are kept: a changed given counts differently
    generator = torch.Generator().manual_seed(seed)
    board = torch.randint(1, 9, (8,), generator=generator)
    kept = board * torch.randint(0, 2, (8,), generator=generator)
    found = {
        tokens: task(8, tokens).violations(*(torch.tensor(encode(b.tolist(), tokens, 8)) for b in (kept, board)))
        for tokens in ENCODINGS
    }
    assert found["cells"] == found["rows"]


@pytest.mark.parametrize("tokens", ENCODINGS)
@many
@given(seed=SEEDS, cell=st.integers(0, 24))
def test_removing_a_given_never_adds_violations(tokens: str, seed: int, cell: int) -> None:
    queens, generator = task(5, tokens), torch.Generator().manual_seed(seed)
    length = queens.spec.len_in
    x, y = torch.randint(-1, 8, (2, length), generator=generator)
    x = torch.where(torch.rand(length, generator=generator) < 0.5, x, y)
    fewer = x.clone()
    fewer[cell % length] = queens.blank[0]
    assert queens.violations(fewer, y) <= queens.violations(x, y)


@pytest.mark.parametrize("tokens", ENCODINGS)
def test_the_verifier_runs_where_its_arguments_are(tokens: str) -> None:
    queens = task(8, tokens)
    elsewhere = queens.blank.to("meta")
    assert queens.violations(elsewhere, elsewhere).device.type == "meta"


@pytest.mark.parametrize("n", [4, 8, 10])
def test_spec_of_cells(n: int) -> None:
    queens = task(n)
    assert queens.spec[:4] == (n * n, 3, n * n, 3)
    assert queens.spec.relations is not None
    assert queens.spec.relations.shape == (4, n * n, n * n)
    relations = queens.spec.relations.tolist()
    for a, b in itertools.product(range(n * n), repeat=2):
        (i, j), (k, m) = divmod(a, n), divmod(b, n)
        assert [relation[a][b] for relation in relations] == [i == k, j == m, i - k == j - m, i - k == m - j]
        assert any(relation[a][b] for relation in relations) == attack((i, j), (k, m))


@pytest.mark.parametrize("n", [4, 8, 10])
def test_spec_of_rows(n: int) -> None:
    queens = task(n, "rows")
    assert queens.spec[:4] == (n, n + 1, n, n + 1)
    assert queens.spec.relations is not None
    assert queens.spec.relations.shape == (n - 1, n, n)
    for i, j in itertools.product(range(n), repeat=2):
        assert queens.spec.relations[:, i, j].nonzero().flatten().tolist() == ([] if i == j else [abs(i - j) - 1])


# Text and pictures


@pytest.mark.parametrize("tokens", ENCODINGS)
def test_parse_takes_every_sign_and_white_space(tokens: str) -> None:
    expected = encode([2, 4, 1, 3], tokens, 4)
    assert task(4, tokens).parse(" .Q_0 \n...q\n\tX.00\n001 _\n").tolist() == expected
    assert task(4, tokens).parse(".x" + "." * 14).tolist() == encode([2, 0, 0, 0], tokens, 4)


@pytest.mark.parametrize("tokens", ENCODINGS)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("." * 63, "A board of 8 x 8 has 64 characters, found 63."),
        ("", "A board of 8 x 8 has 64 characters, found 0."),
        (
            "." * 9 + "7" + "." * 54,
            "Character 10 of the board (row 2, column 2) is '7': expected one of Q X 1 for a queen, "
            "or one of . _ 0 for none.",
        ),
        (
            "." * 8 + ".Q....Q." + "." * 48,
            "The given queens at row 2, column 2 and at row 2, column 7 attack each other: they share a row.",
        ),
        (
            "." * 7 + "Q" + "." * 48 + "." * 7 + "Q",
            "The given queens at row 1, column 8 and at row 8, column 8 attack each other: they share a column.",
        ),
        (
            "Q" + "." * 62 + "Q",
            "The given queens at row 1, column 1 and at row 8, column 8 attack each other: they share a diagonal.",
        ),
        (
            "." * 15 + "Q" + "." * 34 + "Q" + "." * 13,
            "The given queens at row 2, column 8 and at row 7, column 3 attack each other: they share a diagonal.",
        ),
        (
            "Q......." + "..Q....." + "....Q..." + "......Q." + "." * 32,
            "The board has no solution, although no two of its queens attack each other.",
        ),
    ],
)
def test_a_bad_board_is_one_sentence(text: str, expected: str, tokens: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        task(8, tokens).parse(text)


def test_render() -> None:
    cells, by_row = task(4), task(4, "rows")
    x = cells.parse(".Q.. .... .... ....")
    assert cells.render(x) == ". Q . .\n. . . .\n. . . .\n. . . ."
    assert cells.render(x, cells.solutions(x)[0]) == ". Q . .\n. . . Q\nQ . . .\n. . Q ."
    assert cells.render(x, torch.tensor([0, 1, 2, 3] * 4)).splitlines()[0] == "? . Q ?"
    assert by_row.render(torch.tensor([1, 0, 5, -(2**63)])) == "Q . . .\n. . . .\n? ? ? ?\n? ? ? ?"
    with pytest.raises(ValueError, match="y: "):
        cells.render(x, x[1:])


@pytest.mark.parametrize("tokens", ENCODINGS)
def test_draw(tokens: str) -> None:
    queens = task(8, tokens)
    x, y = (part[0] for part in train(queens, 1))
    wrong = y.clone()
    wrong[:] = queens.blank
    wrong[-1] = 99
    num_given, question_marks = int((x != queens.blank).sum()), 1 if tokens == "cells" else 8
    assert num_given > 0
    pictures = []
    for answer, patches in ((None, num_given), (y, 8), (wrong, None)):
        figure = Figure(figsize=(2, 2))
        axes = figure.add_subplot()
        queens.draw(axes, x, answer)
        if patches is not None:
            assert len(axes.patches) == patches
        else:
            assert question_marks <= len(axes.patches) <= question_marks + num_given
        assert len({patch.get_edgecolor() for patch in axes.patches}) == (1 if answer is None else 2)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        pictures.append(buffer.getvalue())
        assert pictures[-1].startswith(b"\x89PNG")
    assert len(set(pictures)) == 3
