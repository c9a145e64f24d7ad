"""Symmetries of the tasks against solvers, numpy's turns and networkx, and votes over symmetric views."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import gram_ppl as gp
from gram_ppl.inference.select import SymmetryVote
from gram_ppl.state import Symmetry
from gram_ppl.tasks import ARC, GraphColoring, Maze, NQueens, Sudoku, Task

SEEDS = st.integers(0, 2**32)
few = settings(max_examples=15)


def arc(folder: Path) -> ARC:
    """Tasks that turn a grid upside down, or put it beside itself, in 7 versions each."""
    rng = np.random.default_rng(0)
    for k, subset in enumerate(("training", "training", "evaluation", "evaluation")):
        grids = [rng.integers(0, 10, rng.integers(1, 4, 2)) for _ in range(4)]
        pairs = [{"input": g.tolist(), "output": (g[::-1] if k % 2 else np.hstack([g, g])).tolist()} for g in grids]
        (folder / "data" / subset).mkdir(parents=True, exist_ok=True)
        path = folder / "data" / subset / f"{k:08x}.json"
        path.write_text(json.dumps({"train": pairs[:3], "test": pairs[3:]}))
    return ARC(1, folder, num_augmentations=6, canvas=8)


class Rigid(NQueens):
    """A task that knows no symmetries."""

    def symmetries(self, num: int, generator: torch.Generator) -> Symmetry | None:  # type: ignore[override]
        """See :meth:`Task.symmetries`."""
        return None


WORLDS: dict[str, Callable[[Path], Task]] = {
    "no symmetries": lambda _: Rigid(5, {3, 4}, num_test=4, num_validation=0),
    "sudoku 2x2": lambda _: Sudoku((2, 2), (4, 10), num_test=8, num_validation=0),
    "sudoku 2x3": lambda _: Sudoku((2, 3), (18, 25), num_test=8, num_validation=0),
    "queens, cells": lambda _: NQueens(6, {3, 4, 5}, num_test=8, num_validation=0),
    "queens, rows": lambda _: NQueens(6, {3, 4, 5}, tokens="rows", num_test=8, num_validation=0),
    "coloring": lambda _: GraphColoring(6, num_train=9, num_test=8, num_validation=0),
    "maze 4x4": lambda _: Maze((4, 4), num_test=8, num_validation=0, pool=9),
    "maze 3x5": lambda _: Maze((3, 5), num_test=8, num_validation=0, pool=9),
    "arc": arc,
}


class World(NamedTuple):
    """A task, some inputs and all solutions of each."""

    task: Task
    x: Tensor
    solutions: list[set[tuple[int, ...]]]


def rows(boards: Tensor) -> set[tuple[int, ...]]:
    return {tuple(board) for board in boards.tolist()}


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Test inputs, and for ARC training inputs too: those stand anywhere on the canvas."""
    task = WORLDS[request.param](tmp_path_factory.mktemp("world"))
    x = task.inputs("test")
    if isinstance(task, ARC):
        x = torch.cat([x, next(task.batches("train", 6, torch.Generator().manual_seed(0))).x])
    return World(task, x, [rows(task.solutions(one)) for one in x])


@few
@given(seed=SEEDS)
def test_solutions_of_the_image_mapped_back_are_the_solutions(world: World, seed: int) -> None:
    task, x, solutions = world
    images, undo = task.symmetric(x, torch.Generator().manual_seed(seed))
    assert images.shape == x.shape
    assert images.dtype == x.dtype
    found = [task.solutions(image) for image in images]
    assert min(map(len, found)) > 0
    assert [len(each) for each in found] == [len(each) for each in solutions]
    most = max(map(len, found))
    back = torch.stack([undo(torch.stack([each[k % len(each)] for each in found])) for k in range(most)], dim=1)
    assert task.verify(x[:, None], back).all()
    assert [rows(each) for each in back] == solutions


@few
@given(seed=SEEDS)
def test_wrong_answers_stay_as_wrong_as_they_are(world: World, seed: int) -> None:
    """Also answers that are no board at all. (ARC counts padding, which has no image.)"""
    task, x, _ = world
    numbers = torch.Generator().manual_seed(seed)
    images, undo = task.symmetric(x, numbers)
    noise = torch.randint(task.spec.vocab_out, (len(x), task.spec.len_out), generator=numbers)
    near = torch.stack([task.solutions(image)[0] for image in images])
    spoilt = near.where(torch.rand(near.shape, generator=numbers) < 0.9, noise)
    for y in (noise, spoilt):
        if isinstance(task, ARC):
            assert (task.verify(x, undo(y)) | ~task.verify(images, y)).all()
        else:
            assert torch.equal(task.violations(x, undo(y)), task.violations(images, y))


@pytest.mark.parametrize("name", ["queens, cells", "queens, rows", "maze 4x4", "maze 3x5"])
def test_images_are_those_that_numpy_makes(name: str, tmp_path: Path) -> None:
    """All of the dihedral group, or the half of it that keeps rows rows, and nothing else."""
    task = WORLDS[name](tmp_path)
    whole = name in ("queens, cells", "maze 4x4")
    x = task.inputs("test")
    shape = task.size if isinstance(task, Maze) else (6, 6)

    def board(tokens: Tensor) -> np.ndarray:
        if name == "queens, rows":  # one row of the picture for each row; no queen where it is unknown
            return (tokens[:, None] == torch.arange(1, 7)).numpy() * 1
        return tokens.view(shape).numpy()

    for one in x:
        images, _ = task.symmetric(one.expand(300, -1), torch.Generator().manual_seed(0))
        turns = [np.rot90(board(one), k) for k in (range(4) if whole else (0, 2))]
        truth = {image.tobytes() for turn in turns for image in map(np.ascontiguousarray, (turn, turn[::-1]))}
        assert {np.ascontiguousarray(board(image)).tobytes() for image in images} == truth


def test_images_of_graphs_are_all_their_numberings(tmp_path: Path) -> None:
    task = WORLDS["coloring"](tmp_path)
    assert isinstance(task, GraphColoring)
    path = task.parse("0-1 1-2 2-3 3-4 4-5")  # 6! / 2 numberings
    images, _ = task.symmetric(path.expand(8000, -1), torch.Generator().manual_seed(0))
    images = images.unique(dim=0)
    assert len(images) == 360
    assert all(nx.is_isomorphic(task.to_networkx(image), nx.path_graph(6)) for image in images[:20])


def test_images_of_arc_questions_are_all_their_versions(tmp_path: Path) -> None:
    task = arc(tmp_path)
    asked = task.questions("test", augmented=True)
    for one, question in zip(task.inputs("test"), task.questions("test"), strict=True):
        same = [(q.task, q.test) == (question.task, question.test) for q in asked]
        images, _ = task.symmetric(one.expand(300, -1), torch.Generator().manual_seed(0))
        assert rows(images) == rows(task.inputs("test", augmented=True)[torch.tensor(same)])
        assert len(rows(images)) == 7


def test_what_has_no_image_stays(tmp_path: Path) -> None:
    """An unknown puzzle, and a canvas without a grid."""
    task = arc(tmp_path)
    x = task.inputs("test")[[0, 0]].clone()
    x[0, 0], x[1, 1:] = task.num_puzzles, 0
    images, undo = task.symmetric(x, torch.Generator().manual_seed(0))
    y = torch.randint(12, (2, task.spec.len_out))
    assert torch.equal(images, x)
    assert torch.equal(undo(y), y)


@pytest.mark.parametrize("num", [1, 2, 6])
def test_views(world: World, num: int) -> None:
    task, x, _ = world
    views, undo = SymmetryVote().views(task, x, num, torch.Generator().manual_seed(1))
    assert views.shape == (len(x), num, task.spec.len_in)
    assert torch.equal(views[:, 0], x)
    tokens = torch.stack([torch.stack([task.solutions(view)[-1] for view in each]) for each in views])
    back = undo(tokens)
    assert torch.equal(back[:, 0], tokens[:, 0])
    assert task.verify(x[:, None], back).all()
    noise = torch.randint(task.spec.vocab_out, tokens.shape)
    assert torch.equal(undo(noise)[:, 0], noise[:, 0])
    again, other = (SymmetryVote().views(task, x, num, torch.Generator().manual_seed(k))[0] for k in (1, 2))
    assert torch.equal(again, views)
    assert torch.equal(other, views) == (num == 1 or isinstance(task, Rigid))
    nothing = torch.zeros(len(x), num)
    index, score = SymmetryVote()(task, x, gp.Rollouts(back, nothing, nothing.long(), nothing))
    assert ((score >= 1 / num - 1e-6) & (score <= 1)).all()
    assert task.verify(x, back[torch.arange(len(x)), index]).all()


def test_images_differ_from_row_to_row(world: World) -> None:
    task, x, _ = world
    images, _ = task.symmetric(x[:1].expand(50, -1), torch.Generator().manual_seed(0))
    assert (len(rows(images)) > 1) == (not isinstance(task, Rigid))
