"""Fréchet distance and inception score against closed forms and scipy; the feature network on drawn digits."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gram_ppl.evaluation import features
from gram_ppl.evaluation.features import (
    LeNet,
    accuracy,
    activations,
    fid,
    inception_score,
    picture_quality,
    train_features,
)
from gram_ppl.storage.checkpoint import CheckpointError
from gram_ppl.tasks.mnist.task import BinarizedMNIST

many = settings(max_examples=200)
SEEDS = st.integers(0, 2**32)


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(seed: int, mean: Tensor, deviation: Tensor, n: int = 50) -> Tensor:
    """Rows whose mean and standard deviations are exactly these, without correlations."""
    rows = random(seed, n, len(mean))
    white = torch.linalg.qr(rows - rows.mean(0)).Q * (n - 1) ** 0.5
    return mean + white * deviation


# Fréchet distance


@many
@given(st.lists(st.tuples(*[st.floats(-10, 10)] * 2, *[st.floats(0, 10)] * 2), min_size=1, max_size=6), SEEDS)
def test_fid_of_diagonal_gaussians(moments: list[tuple[float, ...]], seed: int) -> None:
    mean_a, mean_b, sd_a, sd_b = torch.tensor(moments, dtype=torch.float64).T
    expected = ((mean_a - mean_b) ** 2 + (sd_a - sd_b) ** 2).sum().item()
    found = fid(sample(seed, mean_a, sd_a), sample(seed + 1, mean_b, sd_b, 70))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@many
@given(seed=SEEDS, d=st.integers(1, 8))
def test_fid_against_the_matrix_square_root(seed: int, d: int) -> None:
    a = random(seed, 40, d) @ random(seed + 1, d, d) + random(seed + 2, d)
    b = random(seed + 3, 60, d) @ random(seed + 4, d, d)
    cov_a, cov_b = np.atleast_2d(np.cov(a.numpy().T)), np.atleast_2d(np.cov(b.numpy().T))
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(cov_a + cov_b - 2 * root)
    assert fid(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@many
@given(seed=SEEDS, d=st.integers(1, 200))
def test_fid_of_two_points_each_where_covariances_have_rank_one(seed: int, d: int) -> None:
    a, b = random(seed, 2, d), random(seed + 1, 2, d)
    v, w = a.diff(dim=0)[0] / 2**0.5, b.diff(dim=0)[0] / 2**0.5
    expected = (a.mean(0) - b.mean(0)).square().sum() + v @ v + w @ w - 2 * (v @ w).abs()
    assert fid(a, b) == pytest.approx(expected.item(), rel=1e-9, abs=1e-9)


@many
@given(seed=SEEDS, n=st.integers(2, 60), d=st.integers(1, 20), scale=st.floats(0.01, 100))
def test_fid_is_zero_symmetric_and_moves_as_a_squared_distance(seed: int, n: int, d: int, scale: float) -> None:
    a, b, shift = random(seed, n, d), random(seed + 1, 30, d) + 1, random(seed + 2, d)
    rotation = torch.linalg.qr(random(seed + 3, d, d)).Q
    assert fid(a, a) == pytest.approx(0, abs=1e-10)
    assert fid(a, a.flip(0) + shift) == pytest.approx(shift.square().sum().item(), rel=1e-9, abs=1e-10)
    assert fid(a, b) >= 0
    for other in (fid(b, a), fid(a @ rotation, b @ rotation), fid(scale * a, scale * b) / scale**2):
        assert other == pytest.approx(fid(a, b), rel=1e-8, abs=1e-10)


def test_fid_of_constant_features() -> None:
    assert fid(torch.zeros(5, 3), torch.ones(4, 3)) == 3


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (torch.zeros(5, 3), torch.zeros(5, 4), r"found \[5, 3\] and \[5, 4\]"),
        (torch.zeros(5), torch.zeros(5), r"\[n_a, d\]"),
        (torch.zeros(1, 3), torch.zeros(5, 3), "at least two rows"),
        (torch.zeros(5, 3), torch.full((5, 3), math.nan), "finite"),
    ],
)
def test_fid_of_wrong_features(a: Tensor, b: Tensor, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        fid(a, b)


# Inception score


def test_inception_score_of_extremes() -> None:
    classes = torch.eye(10)
    assert inception_score(torch.full((7, 10), 0.1)) == pytest.approx(1)
    assert inception_score(classes.repeat(3, 1)) == pytest.approx(10)
    assert inception_score(classes[[4] * 9]) == pytest.approx(1)
    # Two certain classes with shares 3 : 1: exp of the entropy.
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert inception_score(classes[[0, 0, 0, 1]]) == pytest.approx(expected)


@many
@given(seed=SEEDS, n=st.integers(1, 20), c=st.integers(1, 12))
def test_inception_score_against_its_definition(seed: int, n: int, c: int) -> None:
    p = (3 * random(seed, n, c)).softmax(-1)
    mean = p.mean(0)
    divergences = [sum(q * math.log(q / m) for q, m in zip(row, mean.tolist(), strict=True)) for row in p.tolist()]
    assert inception_score(p) == pytest.approx(math.exp(sum(divergences) / n), rel=1e-9)
    assert 1 - 1e-9 <= inception_score(p) <= min(n, c) + 1e-9


@pytest.mark.parametrize("p", [torch.ones(2, 3), torch.tensor([[1.5, -0.5]]), torch.zeros(0, 3), torch.ones(3) / 3])
def test_inception_score_of_no_probabilities(p: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^probabilities: expected"):
        inception_score(p)


# The network


@cache
def digits() -> dict[str, tuple[Tensor, Tensor]]:
    task = BinarizedMNIST(num_validation=0, num_test=1000)
    return {split: (task.pictures(task.answers(split)), task.labels(split)) for split in ("train", "test")}


@cache
def trained() -> LeNet:
    pictures, labels = digits()["train"]
    return train_features(pictures[:4000], labels[:4000], epochs=3, batch_size=64, learning_rate=4e-3)


@pytest.mark.parametrize("size", [4, 7, 8, 12, 28])
def test_shapes_at_every_size(size: int) -> None:
    net = LeNet(size, num_features=20, num_classes=3)
    pictures = torch.rand(5, size, size)
    assert net.features(pictures).shape == (5, 20)
    assert net(pictures).shape == (5, 3)


def test_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (LeNet(8, seed=seed).hidden.weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    "pictures",
    [torch.rand(2, 8, 9), torch.rand(2, 9, 9), torch.rand(8, 8), torch.zeros(2, 8, 8, dtype=torch.uint8)],
)
def test_wrong_pictures(pictures: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^pictures: expected grey levels of shape \[n, 8, 8\]"):
        activations(LeNet(8), pictures)


def test_wrong_sizes_and_labels() -> None:
    with pytest.raises(ValueError, match="at least 4 pixels"):
        LeNet(3)
    for labels in (torch.zeros(3, dtype=torch.long), torch.zeros(2), torch.tensor([0, -1])):
        with pytest.raises(ValueError, match=r"^labels: expected one class"):
            train_features(torch.rand(2, 8, 8), labels)


def test_it_learns_digits() -> None:
    assert accuracy(trained(), *digits()["test"]) > 0.95


def test_activations_in_parts_are_those_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, _ = digits()["test"]
    monkeypatch.setattr(features, "BATCH", 70)
    found, probabilities = activations(trained(), pictures[:200])
    with torch.no_grad():
        torch.testing.assert_close(found, trained().features(pictures[:200]))
        torch.testing.assert_close(probabilities, trained()(pictures[:200]).softmax(-1))
    assert not found.requires_grad


def small(seed: int = 0, **options: object) -> LeNet:
    pictures, labels = digits()["train"]
    return train_features(pictures[:300], labels[:300], epochs=1, seed=seed, **options)  # type: ignore[arg-type]


def same(a: LeNet, b: LeNet) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_training_is_reproducible() -> None:
    state = torch.get_rng_state()
    first = small()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert same(first, small())
    assert not same(first, small(seed=1))


def test_the_cache_keeps_a_network_for_each_setting_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = small(cache=tmp_path / "nets")
    small(cache=tmp_path / "nets", learning_rate=2e-3)
    pictures, labels = digits()["train"]
    train_features(1 - pictures[:300], labels[:300], epochs=1, cache=tmp_path / "nets")
    assert len(list((tmp_path / "nets").iterdir())) == 3

    def fail(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(features, "_fit", fail)
    again = small(cache=tmp_path / "nets")
    assert same(first, again)
    assert not again.training


def test_a_damaged_or_foreign_file_in_the_cache(tmp_path: Path) -> None:
    def only(folder: Path) -> Path:
        (path,) = folder.iterdir()
        return path

    small(cache=tmp_path / "a")
    small(cache=tmp_path / "b", learning_rate=2e-3)
    path = only(tmp_path / "a")
    path.write_bytes(only(tmp_path / "b").read_bytes())
    with pytest.raises(CheckpointError, match=f"{path.name}: holds a network of other settings"):
        small(cache=tmp_path / "a")
    raw = bytearray(path.read_bytes())
    raw[-9] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=f"{path.name}: the checkpoint is damaged"):
        small(cache=tmp_path / "a")


# Both together


def test_quality_falls_with_every_flipped_pixel() -> None:
    (train, _), (real, _) = digits()["train"], digits()["test"]
    generator = torch.Generator().manual_seed(0)
    fresh = train[4000:5000]
    noise = torch.rand(fresh.shape, generator=generator)
    marginals = torch.bernoulli(train.mean(0).expand_as(real), generator=generator)
    candidates = [*((fresh - (noise < share).float()).abs() for share in (0, 0.02, 0.1)), marginals]
    found = [picture_quality(trained(), pictures, real) for pictures in candidates]
    distances = [each["fid"] for each in found]
    assert distances == sorted(distances)
    assert distances[-1] > 20 * distances[0]
    clear = picture_quality(trained(), real, real)
    assert clear["fid"] == pytest.approx(0, abs=1e-6)
    assert clear["inception_score"] > 8
    assert found[-1]["inception_score"] < clear["inception_score"] - 2
