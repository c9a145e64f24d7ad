"""Uniformity over known solutions: an ideal sampler is rejected as often as it should be, others are found out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import gram_ppl as gp
from gram_ppl.evaluation.uniformity import even, over_inputs
from gram_ppl.reporting import pictures

SCIPY = pytest.importorskip("scipy.stats")


def counted(probs: torch.Tensor, number: int, seed: int) -> torch.Tensor:
    drawn = torch.multinomial(probs, number, replacement=True, generator=torch.Generator().manual_seed(seed))
    return torch.bincount(drawn, minlength=len(probs))


def p_values(probs: torch.Tensor, number: int, times: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    found = [even(counted(probs, number, seed), 199, generator)[0] for seed in range(times)]
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize(("solutions", "number"), [(2, 20), (7, 20), (30, 100), (5, 1)])
def test_p_values_of_an_ideal_sampler_are_uniform(solutions: int, number: int) -> None:
    found = p_values(torch.ones(solutions), number, 800)
    assert SCIPY.kstest(found.numpy(), "uniform").pvalue > 1e-3
    assert abs((found < 0.01).double().mean() - 0.01) < 0.012


def test_p_values_are_those_of_chi_square() -> None:
    """Of many draws the simulated distribution is that of χ² with S − 1 degrees of freedom."""
    probs = torch.tensor([1.0, 1.1, 0.9, 1.05])
    for seed in range(5):
        counts = counted(probs, 2000, seed)
        statistic, exact = SCIPY.chisquare(counts.numpy())
        p_value, excess = even(counts, 4999, torch.Generator().manual_seed(seed))
        assert p_value == pytest.approx(exact, abs=0.03)
        assert excess == pytest.approx(statistic / 3)


def test_no_answer_that_holds_is_rejected() -> None:
    generator = torch.Generator().manual_seed(0)
    none, some = even(torch.zeros(4, dtype=torch.int64), 99, generator), even(torch.tensor([5, 5]), 99, generator)
    assert none[0] == 0
    found = over_inputs([none, some])
    assert (found["rejected"], found["inputs"], found["excess"]) == (0.5, 2, 0.0)
    assert over_inputs([none])["excess"] is None


def test_a_sampler_with_a_favourite_is_found_out() -> None:
    assert (p_values(torch.tensor([3.0, 1.0, 1.0]), 100, 100) < 0.01).double().mean() > 0.9


def test_shipped_weights_and_a_guess() -> None:
    """Trained weights are far nearer to uniform than a model that always gives the same answer."""
    model, _, task, options = gp.pretrained("sudoku4")
    x = task.inputs("test")[:24]
    found = gp.uniformity(model, task, x, **options | {"num_samples": 30})
    several = sum(len(task.solutions(row)) > 1 for row in x)
    assert found["inputs"] == len(found["p_values"]) == several
    assert found["accuracy"] > 0.99
    assert found["rejected"] < 0.3
    assert found["excess"] < 2.5
    same = gp.models.Direct(task.spec, width=8)
    one = gp.uniformity(same, task, x[:2].expand(2, -1), num_samples=10)
    assert one["accuracy"] < 1
    assert one["unsolved"] == 1 - one["accuracy"]  # of one answer, ten times
    assert one["rejected"] >= one["unsolved"]
    assert found["unsolved"] == 0
    assert gp.uniformity(same, task, x[:2].tolist(), num_samples=10) == gp.uniformity(same, task, x[:2], num_samples=10)
    with pytest.raises(ValueError, match="no input has 2 to 1 solutions"):
        gp.uniformity(model, task, x, most=1)
    with pytest.raises(ValueError, match="draws must be at least 1, got -1"):
        gp.uniformity(model, task, x, draws=-1)


def test_too_many_solutions_are_not_listed() -> None:
    """One clue leaves some 7e20."""
    model, _, task, _ = gp.pretrained("sudoku9")
    x = torch.zeros(1, 81, dtype=torch.int64)
    x[0, 0] = 1
    with pytest.raises(ValueError, match="no input has 2 to 50 solutions"):
        gp.uniformity(model, task, x)
    assert len(task.first_solutions(x[0], 3)) == 3
    queens = gp.pretrained("queens8").task
    empty = torch.zeros(8, dtype=torch.int64)
    assert queens.first_solutions(empty, 3).equal(queens.solutions(empty)[:3])  # takes no limit


def test_picture(tmp_path: Path) -> None:
    found = {"even": {"p_values": [0.2, 0.6, 0.9], "rejected": 0.0}, "uneven": {"p_values": [0.0], "rejected": 1.0}}
    pictures.draw_uniformity(found, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="no uniformity"):
        pictures.draw_uniformity({}, tmp_path / "p.png")
