"""Mazes against networkx, brute force, closed forms and chi-square tests (error rate 1e-6 each, seeds fixed)."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import gram_ppl as gp
from gram_ppl.tasks import Spec
from gram_ppl.tasks.boards import symmetries
from gram_ppl.tasks.maze.data import made, read_npz
from gram_ppl.tasks.maze.paths import GOAL, OPEN, PATH, START, WALL, distances, num_paths, prepare, shortest
from gram_ppl.tasks.maze.task import Maze

many = settings(max_examples=200)
TOKENS = st.integers(-(2**63), 2**63 - 1)
SEEDS = st.integers(0, 2**32)
SIZES = [(3, 4), (5, 5), (1, 6)]
PUBLIC = Path(__file__).parents[2] / "../shared/data/maze30"


@cache
def task(size: tuple[int, int] = (5, 5), **options: object) -> Maze:
    options = {"num_validation": 3, "num_test": 20, "pool": 50, "min_length": min(5, sum(size) - 2)} | options
    if min(size) == 1:
        options |= {"wall_share": (0.0, 0.3), "min_length": 2, "num_test": 4, "num_validation": 1}
    return Maze(size, **options)  # type: ignore[arg-type]


@cache
def answers_of(size: tuple[int, int], row: int) -> Tensor:
    """Every solution of a test maze."""
    return task(size).solutions(task(size).inputs("test")[row])


@cache
def lattice(size: tuple[int, int]) -> nx.Graph:
    return nx.grid_2d_graph(*size)


def graph(x: list[int], size: tuple[int, int]) -> nx.Graph:
    board = lattice(size).copy()
    board.remove_nodes_from([divmod(k, size[1]) for k, token in enumerate(x) if token not in (OPEN, START, GOAL)])
    return board


@cache
def slow_paths(x: tuple[int, ...], size: tuple[int, int]) -> list[list[tuple[int, int]]]:
    """All shortest paths by networkx, each as its cells."""
    if x.count(START) != 1 or x.count(GOAL) != 1 or not set(x) <= {0, WALL, OPEN, START, GOAL}:
        return []
    ends = [divmod(x.index(token), size[1]) for token in (START, GOAL)]
    board = graph(list(x), size)
    return list(nx.all_shortest_paths(board, *ends)) if nx.has_path(board, *ends) else []


def slow_solutions(x: list[int], size: tuple[int, int]) -> set[tuple[int, ...]]:
    found = set()
    for path in slow_paths(tuple(x), size):
        y = list(x)
        for i, j in path[1:-1]:
            y[i * size[1] + j] = PATH
        found.add(tuple(y))
    return found


def slow_violations(x: list[int], y: list[int], size: tuple[int, int]) -> int:
    """The definition, cell by cell."""
    total = sum(not 0 <= token <= GOAL for token in x) + sum(abs(x.count(end) - 1) for end in (START, GOAL))
    total += sum(b not in (OPEN, PATH) if a == OPEN else a != b for a, b in zip(x, y, strict=True))
    cells = list(itertools.product(range(size[0]), range(size[1])))
    on = {
        cell: 1 if a in (START, GOAL) else 2
        for cell, a, b in zip(cells, x, y, strict=True)
        if a in (START, GOAL) or (a == OPEN and b == PATH)
    }
    for (i, j), number in on.items():
        total += sum(other in on for other in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1))) != number
    paths = slow_paths(tuple(x), size)
    return total + (abs(len(on) - len(paths[0])) if paths else 1)


def all_mazes(size: tuple[int, int]) -> Tensor:
    """Every board of walls, open cells, one start and one goal."""
    length = size[0] * size[1]
    found = []
    for a, b in itertools.permutations(range(length), 2):
        for rest in itertools.product((WALL, OPEN), repeat=length - 2):
            tokens = iter(rest)
            found.append([START if k == a else GOAL if k == b else next(tokens) for k in range(length)])
    return torch.tensor(found)


def train(of: Maze, num: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return next(of.batches("train", num, torch.Generator().manual_seed(seed)))


def rows(boards: Tensor) -> set[tuple[int, ...]]:
    return {tuple(board) for board in boards.tolist()}


def p_value(counts: Tensor, expected: Tensor) -> float:
    """Of Pearson's chi-square test; the rare ones are taken together."""
    few = expected < 10
    counts, expected = (
        torch.cat([each[~few], each[few].sum()[None]]) if few.any() else each
        for each in (counts.double(), expected.double())
    )
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2).double(), statistic / 2))


def p_uniform(counts: Tensor) -> float:
    assert counts.double().mean() >= 10
    return p_value(counts, counts.double().mean().expand(len(counts)))


# The verifier


@pytest.mark.parametrize("size", [(3, 3), (4, 2), (2, 3), (1, 6), (5, 1)])
def test_on_all_small_boards_the_verifier_accepts_just_the_shortest_paths_of_networkx(size: tuple[int, int]) -> None:
    maze, x, length = task((3, 3)) if size == (3, 3) else task(size, min_length=2), all_mazes(size), math.prod(size)
    marked = torch.tensor(list(itertools.product((False, True), repeat=length)))
    if size == (3, 3):
        x = x[(x[:, [0, 1, 4]] == START).any(1)]  # all of them but for symmetry
    for part in x.split(512):
        y = part[:, None].masked_fill(marked, PATH)
        y = torch.where((part == START)[:, None] | (part == GOAL)[:, None], part[:, None], y)
        valid = maze.verify(part[:, None], y)
        for board, answers in zip(part.tolist(), (y[k][valid[k]] for k in range(len(part))), strict=True):
            assert rows(answers) == slow_solutions(board, size)
    for board in x[::50]:
        expected = slow_solutions(board.tolist(), size)
        assert maze.num_solutions(board) == len(expected)
        found = maze.solutions(board)
        assert len(found) == len(expected)
        assert rows(found) == expected


def test_with_any_tokens_at_all_on_boards_of_5_cells() -> None:
    maze = task((1, 5), min_length=2)
    y = torch.tensor(list(itertools.product(range(-1, 7), repeat=5)))
    for board in [*all_mazes((1, 5))[::7], *torch.tensor([[3, 0, 2, 2, 4], [3, 2, 5, 2, 4], [3, 2, 3, 2, 4]])]:
        assert rows(y[maze.verify(board, y)]) == slow_solutions(board.tolist(), (1, 5))


def test_shortest_paths_have_no_chords() -> None:
    for board in all_mazes((3, 3))[::10].tolist():
        for path in slow_paths(tuple(board), (3, 3)):
            assert graph(board, (3, 3)).subgraph(path).number_of_edges() == len(path) - 1


@pytest.mark.parametrize("size", SIZES[:2])
@many
@given(
    seed=SEEDS,
    row=st.integers(0, 3),
    changes=st.lists(st.tuples(st.integers(0, 24), TOKENS | st.integers(-1, 6)), max_size=4),
)
def test_violations_equal_their_definition_on_any_board(
    size: tuple[int, int], seed: int, row: int, changes: list[tuple[int, int]]
) -> None:
    maze, length = task(size), math.prod(size)
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randint(-1, 7, (2, length), generator=generator).tolist()
    near = maze.inputs("test")[row]
    answer = answers_of(size, row)[0].tolist()
    marked = torch.where((near == OPEN) & (torch.rand(length, generator=generator) < 0.6), PATH, near).tolist()
    assert maze.verify(near, torch.tensor(answer))
    changed, changed_x = list(answer), near.tolist()
    for cell, token in changes:
        changed[cell % length] = changed_x[-cell % length] = token
    boards, answers = [x, near.tolist(), changed_x], [y, answer, changed, marked]
    found = maze.violations(torch.tensor(boards)[:, None], torch.tensor(answers))
    expected = torch.tensor([[slow_violations(a, b, size) for b in answers] for a in boards])
    assert torch.equal(found, expected)
    assert torch.equal(maze.verify(torch.tensor(boards)[:, None], torch.tensor(answers)), expected == 0)


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("S**G../....../....../......", 0),
        ("S**G../....../..**../..**..", 4),  # a loop apart: four cells too many, and nothing else
        ("S..G../****../....../......", 2),  # a detour: two cells too many
        ("S.*G../***.../....../......", 2),  # another
        ("S..G../....../....../......", 4),  # no path: two loose ends, two steps too few
        ("S*.G../....../....../......", 3),  # a gap: the goal and a path cell loose, one step too few
        ("S**G*./....../....../......", 3),  # a tail: the goal and the last path cell loose, one step too many
    ],
)
def test_loops_detours_and_gaps_are_counted(answer: str, number: int) -> None:
    maze = task((4, 6), min_length=3)
    x = maze.parse("S..G.." + "......" * 3)
    y = torch.tensor(["?#.SG*".index(char) for char in answer.replace("/", "")])
    assert maze.violations(x, y) == slow_violations(x.tolist(), y.tolist(), (4, 6)) == number


@pytest.mark.parametrize(
    "board",
    [
        *("...../...../.....", "S..../...../.....", "....G/...../.....", "S.S../...../....G", "S...G/...../....G"),
        *("S.#../..#../..#.G", "S#.../#..../....G", "#####/#####/#####", "SS.GG/...../....."),
    ],
)
def test_boards_without_a_solution(board: str) -> None:
    maze = task((3, 5), min_length=3)
    x = torch.tensor(["?#.SG*".index(char) for char in board.replace("/", "")])
    assert maze.num_solutions(x) == 0
    assert maze.solutions(x).shape == (0, 15)
    assert maze.solutions(x, limit=3).shape == (0, 15)
    marked = torch.tensor(list(itertools.product((False, True), repeat=15)))
    assert not maze.verify(x, torch.where(marked & (x == OPEN), PATH, x)).any()


@many
@given(x=st.lists(TOKENS | st.integers(-1, 6), min_size=12, max_size=12))
def test_solutions_of_any_tokens_equal_networkx(x: list[int]) -> None:
    maze, board = task((3, 4)), torch.tensor(x)
    expected = slow_solutions(x, (3, 4))
    assert rows(maze.solutions(board)) == expected
    assert maze.num_solutions(board) == len(expected)
    assert maze.verify(board, board).item() == (tuple(x) in expected)


@pytest.mark.parametrize("size", SIZES)
def test_spec(size: tuple[int, int]) -> None:
    maze, length = task(size), math.prod(size)
    assert maze.spec[:4] == (length, 6, length, 6)
    assert maze.spec.relations is not None
    assert maze.spec.relations.shape == (3, length, length)
    relations = maze.spec.relations.tolist()
    for a, b in itertools.product(range(length), repeat=2):
        (i, j), (k, m) = divmod(a, size[1]), divmod(b, size[1])
        assert relations[0][a][b] == (abs(i - k) + abs(j - m) == 1)
        assert relations[1][a][b] == (i == k)
        assert relations[2][a][b] == (j == m)


# Shortest paths


@many
@given(seed=SEEDS, size=st.tuples(st.integers(1, 9), st.integers(2, 9)), share=st.floats(0, 0.6))
def test_distances_and_counts_equal_networkx(seed: int, size: tuple[int, int], share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    length = math.prod(size)
    x = torch.where(torch.rand(4, length, generator=generator) < share, WALL, OPEN)
    ends = torch.rand(4, length, generator=generator).argsort(1)[:, :2]
    x.scatter_(1, ends, torch.tensor([START, GOAL]).expand(4, 2))
    distance = distances(x != WALL, x == START, size)
    steps = shortest(x, size)
    mazes = prepare(x, size)
    assert torch.equal(mazes.x.long(), x[steps > 0])
    numbers = iter(num_paths(mazes).tolist())
    for k, tokens in enumerate(x.tolist()):
        board = graph(tokens, size)
        start, goal = (divmod(tokens.index(token), size[1]) for token in (START, GOAL))
        known = nx.single_source_shortest_path_length(board, start)
        assert distance[k].tolist() == [known.get(divmod(cell, size[1]), -1) for cell in range(length)]
        assert steps[k] == known.get(goal, -1)
        counted = dict.fromkeys(known, 0) | {start: 1}
        for cell in sorted(known, key=known.__getitem__)[1:]:
            counted[cell] = sum(counted[other] for other in board[cell] if known[other] == known[cell] - 1)
        if goal in known:
            assert counted[goal] == next(numbers)


@pytest.mark.parametrize("size", [(2, 2), (3, 7), (6, 6), (30, 30), (40, 40)])
def test_an_empty_board_has_a_binomial_number_of_paths(size: tuple[int, int]) -> None:
    maze = Maze.__new__(Maze)
    maze.size, maze.spec = size, Spec(math.prod(size), 6, math.prod(size), 6)
    x = torch.full((math.prod(size),), OPEN)
    x[0], x[-1] = START, GOAL
    number = math.comb(sum(size) - 2, size[0] - 1)
    assert maze.num_solutions(x) == number  # 40 x 40: beyond 64 bits
    assert num_paths(prepare(x[None], size)).item() == pytest.approx(number, rel=1e-13)
    found = maze.solutions(x, limit=50)
    assert len(rows(found)) == len(found) == min(50, number)
    assert maze.verify(x, found).all()
    if number > 10**6:
        with pytest.raises(ValueError, match=f"{number:,} shortest paths.*limit"):
            maze.solutions(x)
    else:
        assert len(rows(maze.solutions(x))) == number


def test_a_long_snake() -> None:
    size = (15, 20)
    board = [["S" if i == j == 0 else "." for j in range(20)] for i in range(15)]
    for i in range(1, 15, 2):
        board[i] = ["#"] * 20
        board[i][19 if i % 4 == 1 else 0] = "."
    board[14][0 if 14 % 4 == 2 else 19] = "G"
    maze = task(size, num_test=0, num_validation=0, pool=1)
    x = maze.parse("\n".join(map("".join, board)))
    assert shortest(x, size) == 8 * 20 + 7 - 1
    assert rows(maze.solutions(x)) == {tuple(torch.where(x == OPEN, PATH, x).tolist())}


# Symmetries


@pytest.mark.parametrize(("size", "number"), [((5, 5), 8), ((3, 4), 4), ((1, 6), 4)])
def test_symmetries_are_the_automorphisms_of_the_grid(size: tuple[int, int], number: int) -> None:
    maze, kept = task(size), symmetries(size)
    length = math.prod(size)
    assert kept.shape == (number, length)
    assert (kept.sort(1).values == torch.arange(length)).all()
    assert len(rows(kept)) == (2 if 1 in size else number)
    assert maze.spec.relations is not None
    beside = maze.spec.relations[0]
    for cells in kept:
        assert torch.equal(beside[cells][:, cells], beside)
    if 1 not in size:
        grid = nx.grid_2d_graph(*size)
        assert sum(1 for _ in nx.isomorphism.GraphMatcher(grid, grid).isomorphisms_iter()) == number


@many
@given(row=st.integers(0, 19), which=st.integers(0, 7))
def test_symmetries_map_solutions_to_solutions(row: int, which: int) -> None:
    maze, cells = task(), symmetries((5, 5))[which]
    x = maze.inputs("test")[row]
    assert rows(answers_of((5, 5), row)[:, cells]) == rows(maze.solutions(x[cells]))


# Training rows


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("augment", [False, True])
def test_training_rows_are_solved_mazes(size: tuple[int, int], augment: bool) -> None:
    maze = task(size, augment=augment)
    x, y = train(maze, 200)
    assert x.shape == y.shape == (200, math.prod(size))
    assert x.dtype == y.dtype == torch.int64
    assert maze.verify(x, y).all()
    assert len(rows(x)) > (50 if augment and min(size) > 1 else 5)


def test_made_mazes_are_as_asked() -> None:
    maze = Maze((6, 7), min_length=12, num_paths=(2, 9), num_validation=30, num_test=30, pool=100)
    x = torch.cat([train(maze, 100)[0], maze.inputs("test"), maze.inputs("validation")])
    assert shortest(x, (6, 7)).min() >= 12
    number = torch.tensor([maze.num_solutions(board) for board in x])
    assert number.min() >= 2
    assert number.max() <= 9
    assert shortest(Maze((6, 7), num_validation=2, num_test=20, pool=2).inputs("test"), (6, 7)).min() >= 11


def test_the_law_of_made_mazes() -> None:
    size, share, num = (2, 3), 0.4, 20_000
    law: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for walls in itertools.product((WALL, OPEN), repeat=6):
        free = [k for k in range(6) if walls[k] == OPEN]
        chance = share ** (6 - len(free)) * (1 - share) ** len(free)
        for start in free:
            known = nx.single_source_shortest_path_length(graph(list(walls), size), divmod(start, 3))
            goals = [i * 3 + j for (i, j), steps in known.items() if steps >= 2]
            for goal in goals:
                board = list(walls)
                board[start], board[goal] = START, GOAL
                law[tuple(board)] += chance / len(free) / len(goals)
    found = Counter(map(tuple, made(size, (share, share), 2, (1, 9), 0, 0, num, 0).train.x.tolist()))
    assert found.keys() <= law.keys()
    total = sum(law.values())
    expected = torch.tensor([chance / total * num for chance in law.values()])
    assert p_value(torch.tensor([found[board] for board in law]), expected) > 1e-6


def test_y_is_uniform_among_the_solutions_of_each_maze() -> None:
    # No walls and opposite corners: four mazes, 70 solutions each; one of them is held out.
    options = {"wall_share": (0.0, 0.0), "min_length": 8, "num_validation": 0}
    maze = task((5, 5), **options, num_test=1)
    x, y = train(maze, 20_000)
    pairs, counts = torch.cat([x, y], 1).unique(dim=0, return_counts=True)
    assert len(pairs) == 3 * 70
    for board in pairs[:, :25].unique(dim=0):
        assert p_uniform(counts[(pairs[:, :25] == board).all(1)]) > 1e-6


def test_y_is_uniform_in_mazes_with_walls() -> None:
    maze = task((6, 6), min_length=10, num_paths=(5, 40), num_test=6, num_validation=1, pool=3)
    for x in maze.inputs("test"):
        # one held-out maze alone
        batch = next(maze.batches("test", 20_000, torch.Generator().manual_seed(0)))
        found, counts = batch.y[(batch.x == x).all(1)].unique(dim=0, return_counts=True)
        assert rows(found) == slow_solutions(x.tolist(), (6, 6))
        assert p_uniform(counts) > 1e-6


def test_held_out_mazes_are_different_and_never_in_training() -> None:
    # Three of the four mazes there are: each symmetry but one of a training row leads to a held-out one.
    maze = task((4, 5), wall_share=(0.0, 0.0), min_length=7, num_validation=1, num_test=2)
    test, validation = rows(maze.inputs("test")), rows(maze.inputs("validation"))
    assert (len(test), len(validation), len(test | validation)) == (2, 1, 3)
    seen = rows(train(maze, 2000)[0])
    assert len(seen) == 1
    assert not seen & (test | validation)


def test_splits_depend_on_the_seed_alone() -> None:
    one, same, other = (Maze((5, 5), num_test=30, num_validation=10, pool=20, seed=seed) for seed in (1, 1, 2))
    for split in ("validation", "test"):
        assert torch.equal(one.inputs(split), same.inputs(split))
        assert not torch.equal(one.inputs(split), other.inputs(split))
    assert torch.equal(train(one, 100)[0], train(same, 100)[0])


def test_an_empty_split() -> None:
    with pytest.raises(ValueError, match="empty"):
        task(num_validation=0).batches("validation", 4, torch.Generator())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": (1, 1)}, "size: .* found 1 x 1"),
        ({"size": (0, 5)}, "size"),
        ({"size": (200, 200)}, "size"),
        ({"wall_share": (0.5, 0.2)}, "wall_share: .* found 0.5 and 0.2"),
        ({"wall_share": (0.5, 1.0)}, "wall_share"),
        ({"min_length": 0}, "min_length"),
        ({"min_length": 25}, "min_length: .* 1 to 24 steps, found 25"),
        ({"num_paths": (0, 3)}, "num_paths"),
        ({"pool": 0}, "pool"),
        ({"num_test": -1}, "num_test"),
        ({"root": "x", "pool": 4}, "root is given"),
        ({"root": "/nowhere"}, r"\*_train\.npz, found 0"),
        ({"size": (2, 2), "wall_share": (0.0, 0.0)}, "found only 4 mazes, 20 are"),
        ({"size": (2, 2), "wall_share": (0.0, 0.0), "num_test": 1}, "found only 0 mazes, 2000 are"),
    ],
)
def test_impossible_arguments(options: dict[str, Any], expected: str) -> None:
    usual: dict[str, Any] = {"size": (5, 5), "num_test": 20, "num_validation": 3}
    with pytest.raises(ValueError, match=expected):
        Maze(**usual | options)


def test_the_config_names_the_files(tmp_path: Path) -> None:
    made_one = Maze(
        (4, 5), wall_share=(0.1, 0.3), num_paths=(1, 9), num_test=9, num_validation=1, pool=5, seed=7, min_length=4
    )
    for maze in (made_one, Maze((5, 5), root=files(tmp_path), num_test=9, num_validation=1, augment=False)):
        again = Maze(**json.loads(json.dumps(maze.config)))
        assert again.config == maze.config
        assert torch.equal(again.inputs("test"), maze.inputs("test"))
        assert torch.equal(train(again, 50)[1], train(maze, 50)[1])


# Files


def files(folder: Path, num: int = 30) -> Path:
    """A folder in the public format: mazes of 5 x 5 cells."""
    source = Maze((5, 5), num_test=num, num_validation=num, pool=1, min_length=5, seed=5)
    for name, split in (("train", "validation"), ("test", "test")):
        x = source.inputs(split)
        y = torch.stack([source.solutions(board)[-1] for board in x])
        np.savez_compressed(
            folder / f"small_{name}.npz", inputs=x.to(torch.uint8).numpy(), labels=y.to(torch.uint8).numpy()
        )
    return folder


def stored(folder: Path, name: str) -> set[tuple[int, ...]]:
    return set(map(tuple, np.load(folder / f"small_{name}.npz", allow_pickle=False)["inputs"].tolist()))


def test_mazes_from_files(tmp_path: Path) -> None:
    folder = files(tmp_path)
    maze = Maze((5, 5), root=folder, num_test=10, num_validation=5, augment=False)
    test, validation = rows(maze.inputs("test")), rows(maze.inputs("validation"))
    assert (len(test), len(validation)) == (10, 5)
    assert test < stored(folder, "test")
    assert validation < stored(folder, "train")
    x, y = train(maze, 2000)
    assert rows(x) == stored(folder, "train") - validation - test
    assert maze.verify(x, y).all()
    for board in x.unique(dim=0)[:3]:
        assert rows(y[(x == board).all(1)]) == slow_solutions(board.tolist(), (5, 5))
    turned, _ = train(Maze((5, 5), root=folder, num_test=10, num_validation=5), 2000)
    assert len(rows(turned)) > 100
    assert not rows(turned) & (test | validation)


@pytest.mark.parametrize("augment", [False, True])
def test_the_paths_of_the_file_are_trained_on_where_asked_for(augment: bool, tmp_path: Path) -> None:
    folder = files(tmp_path)
    maze = Maze((5, 5), root=folder, num_test=10, num_validation=5, augment=augment, labelled=True)
    held = rows(maze.inputs("test")) | rows(maze.inputs("validation"))
    with np.load(folder / "small_train.npz", allow_pickle=False) as archive:
        pairs = list(zip(archive["inputs"], archive["labels"], strict=True))
    expected = set()
    for x, y in pairs:
        if tuple(x.tolist()) not in held:
            boards = np.stack([x, y]).reshape(2, 5, 5)
            turned = [np.rot90(b, k, (1, 2)) for b in (boards, boards.swapaxes(1, 2)) for k in range(4)]
            expected |= {tuple(b.reshape(2, 25).flatten().tolist()) for b in (turned if augment else [boards])}
    expected = {pair for pair in expected if pair[:25] not in held}
    x, y = train(maze, 4000)
    assert rows(torch.cat([x, y], 1)) == expected
    with pytest.raises(ValueError, match="labelled: only mazes of files"):
        Maze((5, 5), labelled=True)


def test_exact_match_is_with_the_path_of_the_file(tmp_path: Path) -> None:
    folder = files(tmp_path)  # whose labels are the last of all shortest paths
    maze = Maze((5, 5), root=folder, num_test=10, num_validation=5)
    x = maze.inputs("test")
    number = torch.tensor([maze.num_solutions(board) for board in x])
    first, last = (torch.stack([maze.solutions(board)[k] for board in x])[:, None] for k in (0, -1))
    assert maze.figures(x, last) == {"exact_match": 1}
    single = (number == 1).double().mean().item()
    assert single < 1
    assert maze.figures(x, first) == {"exact_match": pytest.approx(single)}
    assert maze.figures(x, torch.cat([first, last], 1)) == {"exact_match": pytest.approx((1 + single) / 2)}
    assert maze.figures(x[:3], last[:3]) == {"exact_match": 1}
    assert maze.figures(maze.inputs("validation"), last[:5]) == {}
    found = gp.metrics.evaluate(gp.models.GRAM(maze.spec, width=8), maze, x=x[:2], num_samples=2, steps=1)
    assert found["exact_match"] == 0
    assert task().figures(task().inputs("test"), task().inputs("test")[:, None]) == {}


def test_test_mazes_are_not_trained_on_though_both_files_hold_them(tmp_path: Path) -> None:
    folder = files(tmp_path, num=12)
    (folder / "small_train.npz").write_bytes((folder / "small_test.npz").read_bytes())
    maze = Maze((5, 5), root=folder, num_test=7, num_validation=3, augment=False)
    held = rows(maze.inputs("test")) | rows(maze.inputs("validation"))
    assert len(held) == 10
    assert rows(train(maze, 100)[0]) == stored(folder, "train") - held
    for num_test, expected in ((13, "there are only 12"), (9, "leaves none")):
        with pytest.raises(ValueError, match=expected):
            Maze((5, 5), root=folder, num_test=num_test, num_validation=3)


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    path = files(tmp_path) / "small_train.npz"
    maze, (x, y) = task(), (np.load(path)[name] for name in ("inputs", "labels"))

    def refused(expected: str, **arrays: Any) -> None:
        bad = tmp_path / "bad.npz"
        np.savez(bad, **arrays)
        with pytest.raises(ValueError, match=r"bad\.npz.*" + expected) as error:
            read_npz(bad, (5, 5), maze.verify)
        assert "\n" not in str(error.value)

    assert [len(part) for part in read_npz(path, (5, 5), maze.verify)] == [30, 30]
    refused("inputs and labels", inputs=x)
    refused("inputs and labels", inputs=x.astype(object), labels=y)
    refused(r"inputs to be integers of shape \[N, 25\].*float", inputs=x.astype(float), labels=y)
    refused(r"inputs .*\[30, 24\]", inputs=x[:, :24], labels=y)
    refused(r"inputs .*\[\]", inputs=np.int64(3), labels=y)
    refused(r"labels .*\[29, 25\]", inputs=x, labels=y[:29])
    wrong = y.copy()
    wrong[17] = x[17]
    refused("maze 18: .*shortest path", inputs=x, labels=wrong)
    second = x.copy()
    second[4, (x[4] == OPEN).argmax()] = START
    refused("maze 5: .*one start", inputs=second, labels=y)
    refused("maze 1: ", inputs=x.astype(np.uint64) + 2**63, labels=y)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "cut.npz").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"cut\.npz"):
            read_npz(tmp_path / "cut.npz", (5, 5), maze.verify)
    np.save(tmp_path / "one.npy", x)
    for name in ("one.npy", "none.npz", "."):
        with pytest.raises(ValueError, match="expected a NumPy archive"):
            read_npz(tmp_path / name, (5, 5), maze.verify)
    (tmp_path / "other_train.npz").write_bytes(whole)
    with pytest.raises(ValueError, match=r"one file \*_train\.npz, found 2"):
        Maze((5, 5), root=tmp_path)
    with pytest.raises(ValueError, match="16"):
        read_npz(path, (4, 4), maze.verify)


@many
@given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_flipped_bytes_give_value_errors_only(
    places: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "maze_small_train.npz"
    if not path.exists():
        path.write_bytes((files(tmp_path_factory.mktemp("maze"), num=5) / "small_train.npz").read_bytes())
    whole = bytearray(path.read_bytes())
    for place, change in places:
        whole[place % len(whole)] ^= change
    path.with_name("maze_flipped.npz").write_bytes(whole)
    try:
        found = read_npz(path.with_name("maze_flipped.npz"), (5, 5), task().verify)
    except ValueError:
        return
    assert [part.shape for part in found] == [(5, 25)] * 2


@pytest.mark.skipif(not PUBLIC.is_dir(), reason="the public mazes are not here")
def test_the_public_mazes() -> None:
    maze = Maze((30, 30), root=PUBLIC, num_test=100)
    assert len(maze.inputs("test")) == 100
    assert shortest(maze.inputs("test"), (30, 30)).min() >= 109
    x, y = train(maze, 20)
    assert maze.verify(x, y).all()
    found = maze.solutions(x[0], limit=30)
    assert len(rows(found)) == 30
    assert maze.verify(x[0], found).all()
    with pytest.raises(ValueError, match="limit"):
        maze.solutions(maze.inputs("test")[0])


# Text and pictures


def test_render() -> None:
    maze = task((3, 4))
    x = maze.parse(" S.#.\n..#.\n\t...G ")
    assert maze.render(x) == "S.#.\n..#.\n...G"
    y = x.clone()
    y[[4, 8, 9, 10]] = PATH
    assert maze.verify(x, y)
    assert maze.render(x, y) == "S.#.\n*.#.\n***G"
    marked = maze.render(x, y, marks=True)
    assert re.sub(r"\[[^]]*\]", "", marked) == maze.render(x, y)
    assert marked.splitlines()[1] == "[bold blue]*[/].#."
    assert maze.render(torch.full((12,), -7)).splitlines()[0] == "????"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("S..........", "A 3 x 4 maze has 12 characters, found 11."),
        (
            "S....x.....G",
            "Character 6 of the maze (row 2, column 2) is 'x': "
            "expected # for wall, . for open, S for start or G for goal.",
        ),
        ("............", "A maze has one start S, found 0."),
        ("SS.........G", "A maze has one start S, found 2."),
        ("S...........", "A maze has one goal G, found 0."),
        ("S.#...#...#G", "The maze has no path from start to goal."),
    ],
)
def test_a_bad_maze_is_one_sentence(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        task((3, 4)).parse(text)


def test_draw() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    maze = task((3, 4))
    x = maze.inputs("test")[0]
    for y in (None, maze.solutions(x)[0], torch.full((12,), -(2**62))):
        figure = Figure(figsize=(2, 2))
        axes = figure.add_subplot()
        maze.draw(axes, x, y)
        assert np.asarray(axes.images[0].get_array()).shape == (3, 4)
        file = io.BytesIO()
        FigureCanvasAgg(figure).print_png(file)
        assert file.getvalue().startswith(b"\x89PNG")
