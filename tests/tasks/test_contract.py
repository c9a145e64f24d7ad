"""What every task promises, once for all of them. What one task alone promises stands in its own file."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import Tensor

import gram_ppl as gp
from gram_ppl.storage.checkpoint import build, describe
from gram_ppl.tasks import ARC, BinarizedMNIST, GraphColoring, Maze, NQueens, Sudoku, Task, Unconditional

many = settings(max_examples=200)
SEEDS = st.integers(0, 2**32)
TOKENS = st.integers(-1, 13) | st.integers(-(2**63), 2**63 - 1)
SPLITS = ("train", "validation", "test")
CHARACTERS = '0123456789QSGxé.,-#*_ \n\t\0"[]{}²٣Ⅷ♛'
EACH = 10  # rows of each split
DTYPES = [getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)]


def arc(folder: Path) -> ARC:
    """Three training tasks and two evaluation tasks that turn a grid upside down."""
    rng = np.random.default_rng(0)
    for k, subset in enumerate(("training", "training", "training", "evaluation", "evaluation")):
        grids = [rng.integers(0, 10, rng.integers(1, 6, 2)) for _ in range(4)]
        pairs = [{"input": grid.tolist(), "output": grid[::-1].tolist()} for grid in grids]
        (folder / "data" / subset).mkdir(parents=True, exist_ok=True)
        path = folder / "data" / subset / f"{k:08x}.json"
        path.write_text(json.dumps({"train": pairs[:3], "test": pairs[3:]}))
    return ARC(1, folder, num_augmentations=2, num_validation=1)


WORLDS: dict[str, Callable[[Path], Task]] = {
    "sudoku-4": lambda _: Sudoku((2, 2), (4, 10), num_test=12, num_validation=6),
    "sudoku-9": lambda _: Sudoku((3, 3), (40, 50), num_test=12, num_validation=6, pool=4),
    "queens-cells": lambda _: NQueens(8, {5, 7}, num_test=12, num_validation=6),
    "queens-rows": lambda _: NQueens(8, tokens="rows", num_test=12, num_validation=6),
    "coloring": lambda _: GraphColoring(7, p=(0.3, 0.5), num_train=30, num_test=12, num_validation=6),
    "maze": lambda _: Maze((3, 4), min_length=3, num_test=12, num_validation=6, pool=30),
    "arc": arc,
    "mnist": lambda _: BinarizedMNIST(size=8, num_test=12, num_validation=6),
    "sudoku-4 from nothing": lambda _: Unconditional(Sudoku((2, 2), (4, 10), num_test=1), num_validation=6),
    "queens from nothing": lambda _: Unconditional(NQueens(6, tokens="rows"), num_validation=6),
}


class World(NamedTuple):
    """A task, its twin built from its config, some rows, and what is right for these."""

    name: str
    task: Task
    twin: Task
    x: Tensor  # [3 * EACH + 1, L_in] inputs of all splits, and one of random tokens
    y: Tensor  # [3 * EACH + 1, L_out] their answers, and one of random tokens
    solutions: list[Tensor]  # of each input
    some: Tensor  # [6] row numbers, from all splits and the row of random tokens
    violations: Tensor  # [6, 6] of each answer of those rows to each input, one by one
    conflicts: Tensor  # [6, 6]


def rows(boards: Tensor) -> set[tuple[int, ...]]:
    return {tuple(board) for board in boards.tolist()}


def among(x: Tensor, others: Tensor) -> Tensor:
    """Which rows are among the others: [B, L], [P, L] -> [B]."""
    return (x[:, None] == others).all(-1).any(1)


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    name = request.param
    task = WORLDS[name](tmp_path_factory.mktemp("world"))
    generator = torch.Generator().manual_seed(0)
    batches = [next(task.batches(split, EACH, generator)) for split in SPLITS]
    garbage = [torch.randint(-2, 14, part[:1].shape, generator=generator) for part in batches[0]]
    x, y = (torch.cat(parts) for parts in zip(*batches, garbage, strict=True))
    solutions = [task.solutions(one) for one in x] if name != "mnist" else []
    some = torch.arange(0, len(x), 6)
    tables = (
        torch.tensor([[count(a, b).item() for b in y[some]] for a in x[some]])
        for count in (task.violations, task.conflicts)
    )
    return World(name, task, type(task)(**task.config), x, y, solutions, some, *tables)


listing = pytest.mark.parametrize("world", [name for name in WORLDS if name != "mnist"], indirect=True)
# Where no answer to an input is one token away from another.
strict = ("sudoku-4", "sudoku-9", "queens-cells", "queens-rows", "maze", "arc")
each_row = st.integers(0, 3 * EACH - 1)


def test_the_shipped_check_finds_no_fault(world: World) -> None:
    """Spec, held-out inputs, batches, solutions, verifier, text: what the following does not repeat."""
    gp.testing.check_task(world.task, free=world.name == "arc")  # ARC's first token is the number of the puzzle


# What a model is told


def test_the_config_builds_the_task_again(world: World) -> None:
    for again in (world.twin, build(json.loads(json.dumps(describe(world.task))))):
        assert type(again) is type(world.task)
        assert describe(again) == describe(world.task)
        assert again.spec[:4] == world.task.spec[:4]
        one, two = again.spec.relations, world.task.spec.relations
        assert (one is None) == (two is None)
        assert one is None or two is None or torch.equal(one, two)
        for split in ("validation", "test"):
            assert torch.equal(again.inputs(split), world.task.inputs(split))


# Data


def test_inputs_of_training_are_listed_or_it_is_said_why_not(world: World) -> None:
    if world.name not in ("queens-cells", "queens-rows", "mnist"):
        with pytest.raises(ValueError, match="made afresh for every batch, so there is no list of them"):
            world.task.inputs("train")
        return
    x = world.task.inputs("train")
    some = next(world.task.batches("train", 20, torch.Generator().manual_seed(0))).x
    assert not x.shape[1] or rows(some) <= rows(x)
    for split in ("validation", "test"):
        assert not x.shape[1] or not rows(world.task.inputs(split)) & rows(x)


def test_an_unknown_split_is_named(world: World) -> None:
    for call in (world.task.inputs, lambda split: world.task.batches(split, 4, torch.Generator())):
        with pytest.raises(ValueError, match="'training'"):
            call("training")


@many
@given(seed=SEEDS, split=st.sampled_from(SPLITS))
def test_batches_verify_keep_to_their_split_and_follow_the_generator(world: World, seed: int, split: str) -> None:
    task, generator, elsewhere = world.task, torch.Generator().manual_seed(seed), torch.get_rng_state()
    batches = task.batches(split, 4, generator)
    first, state = next(batches), generator.get_state()
    second, resumed = next(batches), torch.Generator()
    resumed.set_state(state)
    x, y = (torch.cat(parts) for parts in zip(first, second, strict=True))
    assert x.dtype == y.dtype == torch.int64
    assert x.shape == (8, world.x.shape[1])
    assert y.shape == (8, task.spec.len_out)
    assert task.verify(x, y).all()
    assert torch.equal(task.canonical(y), y)
    assert 0 <= y.min() <= y.max() < task.spec.vocab_out
    tokens = x[:, 1:] if world.name == "arc" else x  # ARC's first one is the number of the puzzle
    assert ((tokens >= 0) & (tokens < task.spec.vocab_in)).all()
    held = {split: among(x, task.inputs(split)) for split in ("validation", "test")}
    if split != "train":
        assert held[split].all()
    elif x.shape[1]:
        assert not (held["validation"] | held["test"]).any()
    for a, b in zip(second, next(world.twin.batches(split, 4, resumed)), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), elsewhere)


# Solutions


@many
@given(row=each_row, cell=st.integers(0, 10**6), token=TOKENS)
def test_a_changed_answer_verifies_just_if_it_is_another_solution(
    world: World, row: int, cell: int, token: int
) -> None:
    x, y = world.x[row], world.y[row].clone()
    cell %= len(y)
    assume(token != y[cell])
    y[cell] = token
    accepted = world.task.verify(x, y).item()
    if world.name in strict or not 1 <= token < world.task.spec.vocab_out:
        assert not accepted
    if world.solutions:
        assert accepted == (world.task.canonical(y) == world.solutions[row]).all(1).any()


# The verifier


@many
@given(
    shape=st.lists(st.integers(0, 2), max_size=3),
    kept=st.lists(st.booleans(), max_size=3),
    swap=st.booleans(),
    seed=SEEDS,
)
def test_leading_dimensions_broadcast(world: World, shape: list[int], kept: list[bool], swap: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    narrow = [size if keep else 1 for size, keep in zip(shape[::-1], kept, strict=False)][::-1]
    sizes = [narrow, shape] if swap else [shape, narrow]
    a, b = (torch.randint(len(world.some), tuple(size), generator=generator) for size in sizes)
    x, y = world.x[world.some][a], world.y[world.some][b]
    assert torch.equal(world.task.violations(x, y), world.violations[a, b])
    assert torch.equal(world.task.conflicts(x, y), world.conflicts[a, b])
    assert torch.equal(world.task.verify(x, y), world.violations[a, b] == 0)


@many
@given(seed=SEEDS, row=each_row, dtype=st.sampled_from(DTYPES), share=st.sampled_from([0.1, 1]), wide=st.booleans())
def test_any_tokens_are_judged_and_keep_their_meaning_in_canonical_form(
    world: World, seed: int, row: int, dtype: torch.dtype, share: float | int, wide: bool
) -> None:
    task, generator = world.task, torch.Generator().manual_seed(seed)
    low, high = (-(2**63), 2**63 - 1) if wide else (-2, 14)

    def damaged(tokens: Tensor) -> Tensor:
        new = torch.randint(low, high, tokens.shape, generator=generator)
        return torch.where(torch.rand(tokens.shape, generator=generator) < share, new, tokens).to(dtype)

    x, y = damaged(world.x[row]), damaged(world.y[row])
    found = task.violations(x, y)
    assert found.dtype == torch.int64
    assert found.shape == ()
    assert 0 <= found == task.violations(x.long(), y.long())
    assert isinstance(task.render(x, y), str)
    if ((y.long() < 0) | (y.long() >= task.spec.vocab_out)).any():
        assert not task.verify(world.x[row], y)
    form = task.canonical(y)
    assert form.dtype == dtype
    assert torch.equal(task.canonical(form), form)
    assert torch.equal(form, y) or torch.equal(task.violations(x, form), found)
    if world.solutions and len(x):
        solutions = task.solutions(x)
        assert solutions.shape[1:] == y.shape
        assert not len(solutions) or task.verify(x, solutions).all()


def test_wrong_shapes_and_dtypes_say_what_was_expected(world: World) -> None:
    task, x, y = world.task, world.x[0], world.y[0]
    bad_x = (torch.cat([x, y[:1]]), x.float(), x.bool(), torch.tensor(0), x.to(torch.complex64))
    bad_y = (torch.cat([y, y[:1]]), y[1:], y.float(), y.bool(), torch.tensor(0))
    for method in (task.violations, task.verify, task.conflicts):
        for wrong in bad_x:
            with pytest.raises(ValueError, match=rf"^x: expected integer tokens of shape \[\.\.\., {len(x)}\], found"):
                method(wrong, y)
        for wrong in bad_y:
            with pytest.raises(ValueError, match=rf"^y: expected integer tokens of shape \[\.\.\., {len(y)}\], found"):
                method(x, wrong)
        with pytest.raises(ValueError, match=r"^x and y: expected leading dimensions that broadcast"):
            method(x.expand(2, -1), y.expand(3, -1))
    for wrong in (y[1:], y[None], y.float()):
        with pytest.raises(ValueError, match=rf"^y: expected integer tokens of shape \[{len(y)}\], found"):
            task.render(x, wrong)
    if world.solutions:
        for wrong in (*bad_x, x[None]):
            with pytest.raises(ValueError, match=rf"^x: expected integer tokens of shape \[{len(x)}\], found"):
                task.solutions(wrong)


# Text and pictures


@listing
def test_parse_undoes_what_is_written(world: World) -> None:
    held = torch.cat([world.task.inputs("validation"), world.task.inputs("test")])
    for k, x in enumerate([*held, *world.x[:EACH]]):
        written = world.task.line(x)
        back = world.task.parse(written)
        assert back.dtype == torch.int64
        assert world.task.line(back) == written
        if world.name != "arc" or k < len(held):  # ARC's lines leave out where on the canvas a grid is
            assert torch.equal(back, x)


@listing
@many
@given(
    row=st.integers(EACH, 3 * EACH - 1),
    changes=st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 2), st.sampled_from(CHARACTERS)), min_size=1, max_size=3
    ),
)
def test_parse_reads_damaged_text_or_says_in_one_sentence_why_not(
    world: World, row: int, changes: list[tuple[int, int, str]]
) -> None:
    characters = list(world.task.line(world.x[row]))
    for place, kept, new in changes:
        place %= len(characters) + 1
        characters[place : place + 1] = [*characters[place : place + 1], new][2 - kept :]
    try:
        x = world.task.parse("".join(characters))
    except ValueError as error:
        assert re.fullmatch(r".+\.", str(error))  # noqa: PT017 (some texts are read)
    else:
        assert x.shape == world.x.shape[1:]
        assert world.name == "arc" or world.task.num_solutions(x) > 0


def test_pictures(world: World) -> None:
    """The input, an answer and garbage are drawn, and the answer shows."""
    x, y = world.x[2 * EACH], world.y[2 * EACH]
    pictures = set()
    for answer in (None, y, torch.full_like(y, -(2**63)), torch.full_like(y, 2**63 - 1)):
        figure = Figure(figsize=(2, 2))
        world.task.draw(figure.add_subplot(), x, answer)
        figure.savefig(png := io.BytesIO(), format="png", metadata={"Software": None})
        assert png.getvalue().startswith(b"\x89PNG")
        pictures.add(png.getvalue())
    assert len(pictures) >= 3


# On a page


def test_scene_has_a_place_for_each_token_and_a_mark_for_each_value(world: World) -> None:
    for x, y in zip(world.x[:-1], world.y[:-1], strict=True):
        scene = world.task.scene(x)
        assert len(scene.places) == len(scene.names) == len(scene.given) == world.task.spec.len_out
        assert len(scene.marks) == world.task.spec.vocab_out
        assert len(set(scene.names)) == len(scene.names)
        for token, (across, down) in zip(y.tolist(), scene.places, strict=True):
            assert 0.5 <= across + scene.marks[token].across <= scene.width - 0.5
            assert 0.5 <= down <= scene.height - 0.5
        assert all(token in (-1, right) for token, right in zip(scene.given, y.tolist(), strict=True))
        assert json.loads(json.dumps(scene.described()))["given"] == scene.given
