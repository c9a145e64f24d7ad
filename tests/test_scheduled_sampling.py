"""Scheduled sampling: the state is the prior's, the loss the posterior's, and the answer fits where the state is."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gram_ppl as gp
from gram_ppl.runtime import precision
from gram_ppl.training.scheduled_sampling import Redraw
from gram_ppl.training.trainer import Trainer

from .processes import kind

SETTINGS: dict[str, Any] = {
    "updates": 12, "batch_size": 8, "evaluations": 2, "checkpoint_every": 3, "scheduled_sampling": 0.5,
    "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def task() -> gp.tasks.Sudoku:
    return gp.tasks.Sudoku(box=(2, 2), clues=(4, 6), num_validation=8, num_test=8)


def tiny(task: Any, **options: Any) -> tuple[Any, Any]:
    """Model and guide with noise heads that aren't zero."""
    model = gp.models.GRAM(task.spec, width=8, mixer=gp.nn.Attention(heads=2), **options)
    guide = gp.guides.AmortizedGuide(model)
    torch.manual_seed(0)
    for head in (model.guidance, guide.guidance):
        for weights in head.parameters():
            nn.init.normal_(weights, std=0.3)
    return model, guide


@pytest.mark.parametrize("transitions", [1, 3])
def test_the_state_has_noise_of_the_prior_and_the_loss_is_the_posteriors(
    task: gp.tasks.Sudoku, monkeypatch: pytest.MonkeyPatch, transitions: int
) -> None:
    monkeypatch.setattr(precision, "use_bf16", lambda *_: False)
    model, guide = tiny(task, transitions=transitions)
    segment = gp.SegmentELBO()(model, guide)
    x, y = next(task.batches("train", 3, torch.Generator().manual_seed(0)))
    torch.manual_seed(1)
    plain, info = segment(x, y)
    assert info.from_prior is None
    segment.scheduled_sampling = 1.0
    torch.manual_seed(1)
    loss, wandered = segment(x, y)
    assert wandered.from_prior.all()
    assert torch.equal(loss, plain)
    assert torch.equal(wandered.kl_rows, info.kl_rows)
    assert torch.equal(wandered.latent.l, info.latent.l)
    assert not torch.equal(wandered.latent.h, info.latent.h)

    torch.manual_seed(1)
    trace, _, (z, _) = segment.elbo.run(model, guide, (x, y), {"steps": 1})
    site, draws = trace.nodes[f"eps_0_{transitions - 1}"], 2000
    with torch.no_grad():
        eps = torch.stack([segment._wander(trace, z)[0].h - site["infer"]["proposal"] for _ in range(draws)])
        loc, scale = site["fn"].base_dist.loc, site["fn"].base_dist.scale
        assert ((eps.mean(0) - loc).abs() < 6 * scale * draws**-0.5).all()
        assert ((eps.std(0) / scale - 1).abs() < 6 * (2 * draws) ** -0.5).all()


def test_as_many_rows_wander_as_asked(task: gp.tasks.Sudoku) -> None:
    segment = gp.SegmentELBO()(*tiny(task))
    segment.scheduled_sampling = 0.3
    x, y = next(task.batches("train", 2000, torch.Generator().manual_seed(0)))
    torch.manual_seed(0)
    with torch.no_grad():
        _, info = segment(x, y)
        assert info.from_prior.float().mean() == pytest.approx(0.3, abs=0.04)
        _, same = segment.eval()(x, y)
        assert same.from_prior is None


def test_answers_are_drawn_from_bayes_rule(task: gp.tasks.Sudoku) -> None:
    """A fine grid of chances against the solutions' likelihoods, one by one."""
    model, _ = tiny(task)
    x = next(x for x in task.inputs("test") if 3 <= task.num_solutions(x) <= 20)
    solutions, h = task.solutions(x), torch.randn(1, model.encoder.length, 8)
    likelihood = torch.tensor([model.answer(h).log_prob(y[None]).exp().item() for y in solutions])
    expected = likelihood / likelihood.sum()
    grid = 4000
    xs, ys, hs = (tensor.expand(grid, *tensor.shape[1:]) for tensor in (x[None], solutions[:1], h))
    chance = (torch.arange(grid) + 0.5) / grid
    drawn = Redraw(task, 1)(model, xs, ys, hs, torch.ones(grid, dtype=torch.bool), chance)
    counts = (drawn[:, None] == solutions).all(-1).float().mean(0)
    torch.testing.assert_close(counts, expected, rtol=0, atol=1.5 / grid)
    assert expected.max() / expected.min() > 1.2
    kept = Redraw(task, 1)(model, xs, ys, hs, torch.zeros(grid, dtype=torch.bool), chance)
    assert torch.equal(kept, ys)


def test_rows_in_flight_have_solutions_that_change_and_a_run_without_does_not_go_on(
    task: gp.tasks.Sudoku, tmp_path: Path
) -> None:
    carried: list[tuple[torch.Tensor, ...]] = []

    def watch(run: Trainer) -> None:
        if (carry := run.rows.carry) is not None:
            assert task.verify(carry.x, carry.y).all()
            carried.append((carry.y.clone(), carry.age.clone()))

    gp.fit(*tiny(task), task, out=tmp_path, before_update=watch, **SETTINGS)
    assert len(carried) == SETTINGS["updates"] - 1
    changed = [(age > 1) & (y != before).any(-1) for (before, _), (y, age) in pairwise(carried)]
    assert torch.stack(changed).any()
    with pytest.raises(gp.CheckpointError, match="scheduled_sampling"):
        gp.fit(*tiny(task), task, out=tmp_path, resume=True, **SETTINGS | {"scheduled_sampling": 0.0})


def test_parts_in_turn_are_the_whole() -> None:
    one, two = (kind("scheduled", 12, **options) for options in ({}, {"accumulate": 2}))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-5)


def test_refusals(task: gp.tasks.Sudoku) -> None:
    for share in (-0.1, 1.5):
        with pytest.raises(ValueError, match="scheduled_sampling must be a probability"):
            gp.fit(*tiny(task), task, **SETTINGS | {"scheduled_sampling": share})
    silent = gp.models.TRM(task.spec, width=8)
    with pytest.raises(ValueError, match="a charged noise site"):
        gp.fit(silent, gp.guides.Empty(silent), task, **SETTINGS)
    pictures = gp.tasks.BinarizedMNIST(size=8, num_validation=6, num_test=8)
    with pytest.raises(ValueError, match="needs a task that lists the solutions"):
        gp.fit(*tiny(pictures), pictures, **SETTINGS)
