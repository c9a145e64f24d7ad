"""The model without an input: p(y) from the empty embedding, and a relation that belongs to each example."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import gram_ppl as gp
from gram_ppl.tasks.base import Spec
from gram_ppl.tasks.edges import adjacency


@pytest.fixture(scope="module")
def task() -> gp.tasks.Unconditional:
    return gp.tasks.Unconditional(gp.tasks.Sudoku((2, 2), clues=(4, 8), num_test=5, num_validation=5), num_validation=7)


def test_no_tokens_are_no_input(task: gp.tasks.Unconditional) -> None:
    """An input of no tokens and ``x=None`` are one program: equal densities on the same trajectory."""
    model = gp.models.GRAM(task.spec, width=16, supervision=2, transitions=1)
    y = task.solutions(task.inputs("test")[0])[:3]
    torch.manual_seed(0)
    z, _ = model(torch.zeros(3, 0, dtype=torch.long), y)
    torch.manual_seed(0)
    other, _ = model(None, y)
    torch.testing.assert_close(z, other, rtol=0, atol=0)


def test_boards_are_uniform(task: gp.tasks.Unconditional) -> None:
    """All 288 grids come up, with a chi-square within 6 standard deviations of its mean (error rate below 1e-6)."""
    batch = next(task.batches("train", 28_800, torch.Generator().manual_seed(0)))
    assert batch.x.shape == (28_800, 0)
    boards, counts = batch.y.unique(dim=0, return_counts=True)
    assert len(boards) == 288
    chi_square = ((counts - 100.0) ** 2 / 100).sum().item()
    assert abs(chi_square - 287) < 6 * (2 * 287) ** 0.5


def test_inputs_have_no_tokens(task: gp.tasks.Unconditional) -> None:
    assert task.inputs("validation").shape == (7, 0)
    assert task.inputs("test").shape == (1, 0)
    assert len(task.solutions(task.inputs("test")[0])) == 288
    with pytest.raises(ValueError, match="takes no input"):
        task.parse("1...")


def test_trains_saves_and_generates(task: gp.tasks.Unconditional, tmp_path: Path) -> None:
    model = gp.models.GRAM(task.spec, width=16, supervision=2, transitions=1)
    guide = gp.guides.AmortizedGuide(model)
    history = gp.fit(model, guide, task, updates=4, batch_size=4, out=tmp_path, progress=False, evaluations=1)
    assert history[-1].prior_accuracy is not None
    loaded, _, again = gp.load(tmp_path)
    assert isinstance(again, gp.tasks.Unconditional)
    torch.manual_seed(0)
    boards = gp.generate(model, num_samples=9, steps=3)
    torch.manual_seed(0)
    assert torch.equal(boards, gp.generate(loaded, num_samples=9, steps=3))
    assert boards.shape == (9, 16)


def test_relations_of_each_example_are_the_static_ones() -> None:
    """A batch of one graph gives what the same relation gives as the task's own, with equal weights."""
    spec = Spec(10, 3, 5, 4)
    options = gp.nn.Attention()
    static = gp.nn.AttentionMixer(16, 5, torch.rand(2, 5, 5) > 0.5, 0, options)
    dynamic = gp.nn.AttentionMixer(16, 5, None, 2, options)
    dynamic.load_state_dict(static.state_dict())
    x = torch.randn(3, 5, 16)
    related = static.related.expand(3, -1, -1, -1)
    torch.testing.assert_close(dynamic(x, related), static(x))
    model = gp.models.GRAM(spec, width=16, encoder=gp.models.NodeTokens(), registers=1)
    graphs = torch.randint(1, 3, (3, 10))
    found = model.encoder.related(graphs)
    assert found is not None
    assert torch.equal(found[:, 0, 1:, 1:] > 0, adjacency(graphs))
    with torch.no_grad():
        torch.manual_seed(0)
        first, _ = model(graphs[:1], steps=1)
        torch.manual_seed(0)
        changed, _ = model(graphs[:1].flip(1), steps=1)
    assert not torch.equal(first.h, changed.h)


def test_patches_meet_the_program() -> None:
    """Pictures go in and come out pixel by pixel, and every parameter of the decoder takes part."""
    spec = Spec(64, 3, 64, 3)
    model = gp.models.GRAM(spec, width=16, encoder=gp.models.Patches(channels=8), supervision=1)
    assert model.encoder.length == 1 + 16
    y = torch.randint(1, 3, (2, 64))
    guide = gp.guides.AmortizedGuide(model)
    loss, info = gp.SegmentELBO()(model, guide)(torch.zeros(2, 0, dtype=torch.long), y)
    loss.backward()
    assert info.correct.shape == (2, 64)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.decoder.parameters())
    _, tokens = model(y)
    assert tokens.shape == (2, 64)
    with pytest.raises(ValueError, match="no square"):
        gp.models.GRAM(Spec(60, 3, 60, 3), encoder=gp.models.Patches())


def test_puzzle_tokens() -> None:
    """The puzzle's embedding starts at zero, so a fresh model answers every puzzle alike, and it is trained."""
    spec = Spec(10, 12, 9, 12)
    model = gp.models.GRAM(spec, width=16, encoder=gp.models.PuzzleTokens(5), supervision=1)
    x = torch.randint(0, 5, (2, 10))
    _, y = model(x)
    assert y.shape == (2, 9)
    other = x.clone()
    other[:, 0] = (x[:, 0] + 1) % 5
    assert torch.equal(model.encoder(x, 2), model.encoder(other, 2))
    with pytest.raises(ValueError, match="one token before"):
        gp.models.GRAM(Spec(9, 12, 9, 12), encoder=gp.models.PuzzleTokens(5))
