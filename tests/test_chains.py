"""Trajectories that decide: answers, contradictions, budgets, places in the batch."""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor

import gram_ppl as gp
from gram_ppl.models import Both, Deciding, Drop, RandomCells
from gram_ppl.runtime.precision import fast
from gram_ppl.state import Latent, Symmetry

TASK = gp.tasks.Sudoku((2, 2), (12, 14), num_validation=8, num_test=8)  # few are blank, so that luck suffices
X = TASK.inputs("test")


def small(**options: Any) -> Deciding:
    return Deciding(TASK.spec, **{"width": 16, "transitions": 1, "block": 2, "supervision": 64, **options})


class Knowing(Deciding):
    """An oracle in place of its heads: it knows which sets of candidates leave no grid."""

    def settled(self, z: Latent, before: Latent) -> tuple[Tensor, Tensor]:
        """A state contradicts itself if no grid is left."""
        every = TASK.solutions(TASK.blank)
        held = every[..., None] == torch.arange(5)  # [288, 16, 5]
        left = (z.sets[:, None] >= held).all(-1).all(-1).any(-1)
        return (z.sets.sum(-1) == 1).all(-1) & left, ~left


def test_answers_and_contradictions_are_what_the_model_says() -> None:
    """With an oracle in place of the heads, random decisions and restarts find right answers and no others."""
    model = Knowing(TASK.spec, width=16, transitions=1, block=1, supervision=400, policy=RandomCells(2))
    out = gp.rollout(model, X, num_samples=3, seed=1)
    assert out.answered is not None
    assert out.restarts is not None
    assert out.answered.any()
    assert TASK.verify(X[:, None], out.tokens)[out.answered].all()
    assert (out.tokens[~out.answered] == -1).all()
    assert out.log_prob[~out.answered].isneginf().all()
    assert (out.steps[~out.answered] == 400).all()
    assert (out.restarts > 0).any()
    assert not TASK.verify(X[:, None], out.tokens)[~out.answered].any()


def test_the_same_seed_gives_the_same_whatever_the_chunks() -> None:
    model = small(contradiction=False)
    one, other = (gp.rollout(model, X, num_samples=3, seed=7, chunk=chunk) for chunk in (5, 100))
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.steps, other.steps)
    assert not torch.equal(one.tokens, gp.rollout(model, X, num_samples=3, seed=8).tokens)


def test_givens_never_change() -> None:
    out = gp.rollout(small(contradiction=False), X, num_samples=5, seed=0)
    assert out.answered is not None
    assert out.answered.all()
    assert (((X[:, None] == 0) | (out.tokens == X[:, None])).all()).item()
    assert (out.tokens > 0).all()


def test_a_budget_that_is_spent_leaves_no_answer() -> None:
    model = small(contradiction=False, block=2, policy=RandomCells())
    out = gp.rollout(model, X, num_samples=2, steps=3)
    assert out.answered is not None
    assert not out.answered.any()
    assert (out.steps == 2).all()
    answers = gp.solve(model, TASK, X, num_samples=2, steps=3)
    assert answers.answered is not None
    assert not answers.answered.any()
    assert not answers.verified.any()
    figures = gp.metrics.evaluate(model, TASK, x=X, num_samples=2, steps=3)
    assert figures["unanswered"] == figures["selected_unanswered"] == 1
    assert figures["wrong"] == figures["selected_wrong"] == figures["accuracy"] == 0
    assert (gp.rollout(model, X, steps=1).steps == 2).all()  # a trajectory makes one decision at least


def test_calls_and_restarts_are_counted() -> None:
    model = Knowing(TASK.spec, width=16, transitions=1, block=1, supervision=400, policy=RandomCells(2))
    answers = gp.solve(model, TASK, X, num_samples=3, seed=1)
    assert answers.calls is not None
    assert answers.restarts is not None
    assert torch.equal(answers.calls, answers.rollouts.steps.sum(-1) * model.step_calls)
    assert torch.equal(answers.restarts, answers.rollouts.restarts.sum(-1))  # type: ignore[union-attr]


def test_the_first_answer_ends_the_others() -> None:
    model = Knowing(TASK.spec, width=16, transitions=1, block=1, supervision=2000, policy=RandomCells(2))
    whole = gp.rollout(model, X, num_samples=8, seed=1)
    first = gp.rollout(model, X, num_samples=8, seed=1, first_answer=True)
    assert whole.answered is not None
    assert first.answered is not None
    assert first.answered.any(-1).all()
    assert first.steps.sum() < whole.steps.sum()
    few = gp.rollout(model, X, num_samples=8, seed=1, first_answer=True, chunk=len(X))
    assert few.answered is not None
    assert (few.answered[:, 0] | few.answered.any(-1)).all()
    late = few.steps[:, -1] == 0  # whose input was answered before there was a place for its last trajectory
    assert late.any()
    assert not few.answered[late, -1].any()


@pytest.mark.parametrize("selector", ["vote", "confident", "first", "verified", "residual"])
def test_selectors_prefer_an_answer_to_none(selector: str) -> None:
    model = Knowing(TASK.spec, width=16, transitions=1, block=1, supervision=150, policy=RandomCells(2))
    answers = gp.solve(model, TASK, X, num_samples=6, seed=1, select=gp.select.SELECTORS[selector])
    assert answers.answered is not None
    assert answers.rollouts.answered is not None
    some = answers.rollouts.answered.any(-1) & ~answers.rollouts.answered.all(-1)
    assert some.any()
    if selector in ("vote", "confident", "verified"):
        assert answers.answered[some].all()
    assert torch.equal(answers.answered, (answers.tokens >= 0).all(-1))


def test_heads_are_fitted_and_asked() -> None:
    model = small(contradiction=False)
    gp.fit_heads(model, TASK, updates=2)
    out = gp.rollout(model, X, num_samples=3, seed=1)
    assert out.halt is not None
    assert out.value is not None
    assert out.halt.shape == out.value.shape == (len(X), 3)
    assert ((out.value > 0) & (out.value < 1)).all()
    answers = gp.solve(model, TASK, X, num_samples=3, seed=1, select=gp.select.BestOfN())
    assert torch.equal(answers.chosen, out.value.argmax(-1))


def test_arviz_has_what_decisions_cost() -> None:
    model = small(contradiction=False, supervision=6)
    guide = gp.guides.Revealing(model)
    x, y = next(TASK.batches("train", 2, torch.Generator().manual_seed(0)))
    stats = gp.to_arviz(model, guide, TASK, x, y, num_samples=4)["sample_stats"]
    paid = torch.as_tensor(stats["kl"].values)[0]  # [N, B, S, T]
    assert (paid[..., 1::2, -1].sum(-1) > 0).all()
    assert (paid[..., ::2, :] == 0).all()


def test_frames_turn_rows_and_turn_them_back() -> None:
    model = small(anew=True, contradiction=False, positions=False, keep=True, policy=Both(Drop(0.0), RandomCells()))
    out = gp.rollout(model, X, num_samples=4, seed=3, symmetries=TASK.symmetries)
    assert out.answered is not None
    assert out.answered.all()
    assert ((X[:, None] == 0) | (out.tokens == X[:, None])).all()


def test_an_answer_holds_where_the_mean_of_its_views_does() -> None:
    """One trajectory at a time: the turns that its answer was read under are the last three, and are read again."""
    model, generator = small(anew=True, threshold=1.0, supervision=1000), torch.Generator().manual_seed(0)
    assert model.contradiction is not None
    torch.nn.init.normal_(model.contradiction.weight, generator=generator)

    def doubt(turn: Symmetry, y: Tensor) -> float:
        sets = turn.sets(torch.nn.functional.one_hot(y, 5).bool())
        z = model.begin(turn(X[:1]), 1)._replace(candidates=sets)
        with torch.no_grad(), fast(X.device):
            return model.doubt(model(turn(X[:1]), latent=z, steps=2)[0].h).item()

    model.certain = 1.0
    boards = gp.rollout(model, X[:1], num_samples=20, seed=7, symmetries=TASK.symmetries).tokens[0]
    some = [doubt(TASK.symmetries(1, generator), y[None]) for y in boards]
    model.certain = 0.5
    torch.nn.init.constant_(model.contradiction.bias, model.contradiction.bias.item() - median(some))
    alone, means = [], []
    for seed in range(6):
        turns: list[Symmetry] = []

        def noted(num: int, generator: torch.Generator, turns: list[Symmetry] = turns) -> Symmetry:
            turns.append(TASK.symmetries(num, generator))
            return turns[-1]

        out = gp.rollout(model, X[:1], num_samples=1, seed=seed, symmetries=noted, views=3)
        assert out.answered is not None
        assert len(turns) == out.steps.item() // 2 + 1  # one turn more is asked for, whether there are any
        if out.answered.item():
            doubts = [doubt(turn, out.tokens[0]) for turn in turns[-3:]]
            means.append(sum(doubts) / 3)
            alone += doubts
    assert len(means) > 2
    assert max(means) < 1e-3 < max(alone)  # one view alone would have refused some


def test_what_decided_boards_have_to_be() -> None:
    turned: dict[str, Any] = {"num_samples": 4, "seed": 3, "symmetries": TASK.symmetries}
    model = small(anew=True, threshold=1.0, certain=1.0, supervision=400)
    one, three = (gp.rollout(model, X, **turned, views=views) for views in (1, 3))
    assert one.answered is not None
    assert one.answered.all()
    assert torch.equal(three.steps, one.steps + 2 * model.block)
    never = gp.rollout(small(anew=True, threshold=1.0, certain=0.0, supervision=100), X, **turned, views=2)
    assert never.answered is not None
    assert never.restarts is not None
    assert not never.answered.any()
    assert (never.restarts > 0).all()
    with pytest.raises(ValueError, match="views=3 needs symmetries"):
        gp.rollout(model, X, views=3)


def test_views_without_symmetries_are_one() -> None:
    task = gp.tasks.GraphColoring(4, num_train=5, num_validation=2, num_test=3)
    encoder = gp.models.NodeTokens()
    model = Deciding(task.spec, encoder=encoder, width=16, transitions=1, block=2, supervision=64, anew=True)
    x = task.inputs("test")
    one, four = (gp.rollout(model, x, num_samples=2, seed=1, symmetries=task.symmetries, views=n) for n in (1, 4))
    assert torch.equal(one.tokens, four.tokens)
    assert torch.equal(one.steps, four.steps)


def test_from_nothing() -> None:
    task = gp.tasks.Unconditional(TASK)
    made = gp.generate(Deciding(task.spec, width=16, block=1, supervision=40, contradiction=False), num_samples=6)
    assert made.shape == (6, 16)
    assert made.min() > 0


@pytest.mark.parametrize("task", [TASK, gp.tasks.NQueens(5), gp.tasks.NQueens(5, tokens="rows"),
                                  gp.tasks.GraphColoring(4, num_train=5, num_validation=2, num_test=3)])  # fmt: skip
def test_no_answer_is_never_right(task: Any) -> None:
    x = task.inputs("test")[:3]
    none = torch.full((len(x), task.spec.len_out), -1)
    assert not task.verify(x, none).any()
    assert task.conflicts(x, none).min() >= 0
    assert task.render(x[0], none[0])
    task.canonical(none)
