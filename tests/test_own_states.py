"""Training on own states: how rows begin, go on, give way; what is lost; that a run can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gram_ppl as gp
from gram_ppl.models import Both, Deciding, Drop, RandomCells
from gram_ppl.runtime.processes import Shares
from gram_ppl.state import SegmentInfo
from gram_ppl.tasks.sudoku.symmetry import random_symmetries
from gram_ppl.training.own_states import OwnRows, OwnStates, excluded
from gram_ppl.training.trainer import Trainer

CPU = torch.device("cpu")
TASK = gp.tasks.Sudoku(num_validation=8, num_test=8)


def small(**options: Any) -> Deciding:
    return Deciding(TASK.spec, **{"width": 16, "transitions": 1, "block": 2, "supervision": 8, **options})


def own_rows(model: Deciding, **options: Any) -> OwnRows:
    return OwnRows(OwnStates(**options), TASK, model, remembered=1000)


def grids() -> Tensor:
    """All 288 grids, by trying every one that a solver of blank boards lists and no other way: 4! · 12."""
    return TASK.solutions(TASK.blank)


def agree(x: Tensor, candidates: Tensor) -> int:
    """How many of all grids keep the givens and are among the candidates."""
    every = grids()
    kept = ((x == 0) | (every == x)).all(-1)
    among = candidates.expand(len(every), -1, -1).gather(-1, every[..., None])[..., 0].all(-1)
    return int((kept & among).sum())


def test_fresh_rows_are_bare_filled_or_corrupted() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = next(TASK.batches("train", 2000, generator))
    model = small()
    z, again = own_rows(model, redraw=False).fresh(x, y, generator)
    assert torch.equal(again, y)
    start = model.begin(x, len(x)).sets
    filled = (z.sets.sum(-1) < start.sum(-1)).sum(-1)
    lost = excluded(z.sets, y)
    assert (z.sets <= start).all()
    assert not excluded(z.sets, torch.where(z.sets.any(-1), z.sets.int().argmax(-1), 0)).any()  # no empty set
    assert 0.18 < (filled == 0).double().mean() < 0.32  # bare ones, and some whose share came out as nothing
    assert 0.1 < lost.double().mean() < 0.25
    none, _ = own_rows(model, filled=0.0, corrupted=0.0).fresh(x, y, generator)
    assert torch.equal(none.sets, start)
    never, _ = own_rows(model, filled=1.0, corrupted=0.0).fresh(x, y, generator)
    assert not excluded(never.sets, y).any()


def test_lost_means_that_no_grid_is_left() -> None:
    """The label of the contradiction head, against all grids; y is a solution wherever one is left."""
    generator = torch.Generator().manual_seed(1)
    x, y = next(TASK.batches("train", 200, generator))
    model = small()
    rows = own_rows(model, corrupted=1.0, filled=0.0, linger=False)
    z, y = rows.fresh(x, y, generator)
    lost = excluded(z.sets, y)
    left = torch.tensor([agree(*pair) for pair in zip(x, z.sets, strict=True)])
    assert torch.equal(lost, left == 0)
    assert 0.2 < lost.double().mean() < 0.9
    assert TASK.verify(x, y).all()

    narrower = z.sets & (torch.rand(z.sets.shape, generator=generator) < 0.9)
    unread: Any = None
    latent = z._replace(candidates=narrower)
    info = SegmentInfo(latent, unread, unread, unread, unread, from_prior=torch.ones(len(x)).bool())
    shares = Shares(1, CPU)
    y, done = rows.after(x, y, info, z, generator, shares)
    left = torch.tensor([agree(*pair) for pair in zip(x, narrower, strict=True)])
    lost = excluded(narrower, y)
    assert torch.equal(lost, left == 0)
    answered, wrong = model.settled(info.latent, z)
    seen = torch.tensor([agree(*pair) for pair in zip(x, z.sets, strict=True)]) == 0
    assert torch.equal(done, (answered & ~lost) | (lost & (wrong | seen)))
    assert TASK.verify(x, y).all()


def test_y_is_drawn_evenly_among_those_that_are_left() -> None:
    x = TASK.blank.repeat(4000, 1)
    y = grids()[0].repeat(4000, 1)
    candidates = small().begin(x, len(x)).sets.clone()
    candidates[:, 0] = torch.arange(5) == 1
    candidates[:, 5] = torch.arange(5) == 3
    rows = own_rows(small())
    drawn = rows._surviving(x, y, candidates, torch.ones(4000).bool(), torch.rand(4000))
    _, counts = drawn.unique(dim=0, return_counts=True)
    assert len(counts) == agree(x[0], candidates[0])
    expected = 4000 / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < 2 * len(counts)


def test_symmetries_of_sets_are_those_of_tokens() -> None:
    generator = torch.Generator().manual_seed(2)
    turn = random_symmetries((2, 2), 50, generator)
    y = grids()[:50]
    one = torch.nn.functional.one_hot(y, 5).bool()
    assert torch.equal(turn.sets(one).int().argmax(-1), turn(y))
    assert torch.equal(turn.inverse().sets(turn.sets(one)), one)
    several = one | (torch.rand(one.shape) < 0.3)
    assert torch.equal(excluded(turn.sets(several), turn(y.flip(0))), excluded(several, y.flip(0)))


@pytest.mark.parametrize("tokens", ["cells", "rows"])
def test_symmetries_of_queens_turn_sets_as_they_turn_tokens(tokens: str) -> None:
    task = gp.tasks.NQueens(6, tokens=tokens)
    y = task.solutions(task.blank)
    turn = task.symmetries(len(y), torch.Generator().manual_seed(3))
    one = torch.nn.functional.one_hot(y, task.spec.vocab_out).bool()
    assert torch.equal(turn.sets(one).int().argmax(-1), turn(y))
    assert torch.equal(turn.inverse()(turn(y)), y)
    assert {*map(tuple, turn(y).tolist())} <= {*map(tuple, y.tolist())}
    assert turn.cells.unique(dim=0).shape[0] > 1


def arguments(**changes: Any) -> dict[str, Any]:
    return {
        "updates": 12,
        "batch_size": 8,
        "evaluations": 2,
        "evaluate_on": 4,
        "own_states": OwnStates(),
        "progress": False,
        "checkpoint_every": 4,
        "seed": 5,
    } | changes


def made(**options: Any) -> tuple[Deciding, Any, Any]:
    model = small(**options)
    objective = gp.DecidingELBO(steps=2, every_step=True, window=2)
    return model, gp.guides.Revealing(model), objective


KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "carried": ({}, {}),
    "anew, under symmetries, with a keep head": (
        {"anew": True, "keep": True, "policy": Both(Drop(), RandomCells())},
        {"own_states": OwnStates(symmetric=True, redraw=False, temperature=1.5)},
    ),
    "no contradiction head, half own": ({"contradiction": False}, {"own_states": OwnStates(share=0.5)}),
    "the posterior's states alone": ({}, {"own_states": None}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    model_options, fit_options = KINDS[kind]
    whole, guide, objective = made(**model_options)
    history = gp.fit(whole, guide, TASK, objective=objective, **arguments(**fit_options))
    assert all(record.loss == record.loss for record in history)

    class Stop(Exception):
        pass

    def stop(trainer: Trainer) -> None:
        if trainer.update == 6:
            raise Stop

    parts, guide, objective = made(**model_options)
    with pytest.raises(Stop):
        gp.fit(parts, guide, TASK, objective=objective, out=tmp_path, before_update=stop, **arguments(**fit_options))
    parts, guide, objective = made(**model_options)
    again = gp.fit(parts, guide, TASK, objective=objective, out=tmp_path, resume=True, **arguments(**fit_options))
    assert [record.loss for record in again][-3:] == [record.loss for record in history][-3:]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_rows_go_on_from_the_prior_and_give_way() -> None:
    ages: list[Tensor] = []

    def see(trainer: Trainer) -> None:
        if trainer.rows.carry is not None:
            ages.append(trainer.rows.carry.age.clone())
            assert trainer.rows.carry.done is not None
            assert (trainer.rows.carry.age <= 8).all()

    model, guide, objective = made()
    gp.fit(model, guide, TASK, objective=objective, before_update=see, **arguments(updates=30))
    assert torch.stack(ages).max() == 8
    assert (torch.stack(ages).diff(dim=0) < 0).any()


def test_a_few_minutes_of_it_learn_something() -> None:
    """Against the untrained model: the loss falls, and answers hold more often."""
    model, guide, objective = made(width=32)
    x = TASK.inputs("test")
    before = gp.metrics.evaluate(model, TASK, x=x, num_samples=4, steps=64)
    history = gp.fit(
        model, guide, TASK, objective=objective, **arguments(updates=250, batch_size=32, lr=3e-3, evaluations=0)
    )
    after = gp.metrics.evaluate(model, TASK, x=x, num_samples=4, steps=64)
    assert history[-1].loss < 0.75 * history[0].loss
    assert after["conflicts"] + 40 * after["unanswered"] < before["conflicts"] + 40 * before["unanswered"]
    assert {"unanswered", "wrong", "restarts", "selected_wrong"} <= after.keys()


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (gp.models.GRAM(TASK.spec, width=16), {}, "GRAM makes no decisions"),
        (small(), {"symmetric": True}, "latent begins anew"),
    ],
)
def test_what_cannot_be_had(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gp.fit(model, gp.guides.Empty(model), TASK, **arguments(own_states=OwnStates(**options)))


def test_boards_from_nothing() -> None:
    task = gp.tasks.Unconditional(TASK, num_validation=4)
    model = Deciding(task.spec, width=16, transitions=1, block=2, supervision=8)
    options = arguments(updates=3, evaluations=1)
    history = gp.fit(model, gp.guides.Revealing(model), task, objective=gp.DecidingELBO(steps=2), **options)
    assert history[-1].update == 3
    assert OwnRows(OwnStates(), task, model, 10).lists
    digits = gp.tasks.BinarizedMNIST(size=8, num_validation=0)
    with pytest.raises(ValueError, match="too many solutions to list, and BinarizedMNIST draws no answers among"):
        OwnRows(OwnStates(), digits, Deciding(digits.spec, width=16), 10)


def test_a_completion_agrees_with_candidates() -> None:
    """There is one exactly where one of all 288 grids agrees, and of those that agree all come up."""
    generator = torch.Generator().manual_seed(3)
    x, _ = next(TASK.batches("train", 200, generator))
    sets = small().begin(x, len(x)).sets & (torch.rand(200, 16, 5, generator=generator) < 0.93)
    left = [agree(*pair) for pair in zip(x, sets, strict=True)]
    assert 20 < sum(number > 0 for number in left) < 180
    for seed, (row, candidates, number) in enumerate(zip(x, sets, left, strict=True)):
        y = TASK.completion(row, candidates, seed)
        assert (y is not None) == (number > 0)
        assert y is None or (TASK.verify(row, y) and not excluded(candidates[None], y[None]))
    free = small().begin(TASK.blank[None], 1).sets[0]
    drawn = [TASK.completion(TASK.blank, free, seed) for seed in range(1000)]
    assert len({tuple(y.tolist()) for y in drawn if y is not None}) > 200
    assert all(y is not None for y in drawn)


def test_rows_of_boards_that_are_too_many_to_list() -> None:
    """A row that keeps its y keeps it; one that has lost it gets another, or is lost."""
    task = gp.tasks.Unconditional(gp.tasks.Sudoku((3, 3), (30, 40), num_validation=0, num_test=0, pool=4))
    model = Deciding(task.spec, width=16, transitions=1, block=2, supervision=8)
    rows = OwnRows(OwnStates(), task, model, 10)
    x, y = next(task.batches("train", 6, torch.Generator().manual_seed(0)))
    candidates = model.begin(x, 6).sets.clone()
    candidates[:, :3] = torch.nn.functional.one_hot(y[:, :3], 10).bool()
    candidates[3:, 3] &= torch.arange(10) != y[3:, 3, None]  # not that of y
    candidates[5, 4] = candidates[5, 0]  # twice in a row
    found = rows._surviving(x, y, candidates, torch.ones(6).bool(), torch.rand(6))
    assert torch.equal(found[:3], y[:3])
    assert excluded(candidates, found).tolist() == [False] * 5 + [True]
    assert task.verify(x, found).all()


def test_the_share_rises() -> None:
    own = OwnStates(share=0.8, rise=(0.2, 0.6))
    assert [own.at(progress) for progress in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0, 0, 0.4, 0.8, 0.8])
    assert OwnStates().at(0.0) == 1


@pytest.mark.parametrize("options", [{"share": 1.5}, {"filled": 0.8, "corrupted": 0.4}, {"temperature": 0.0}])
def test_shares_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected shares"):
        OwnStates(**options)
