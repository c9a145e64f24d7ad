"""Binarized MNIST: damaged files of every kind, splits, drawn digits, the count of bad tokens against brute force."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy import ndimage, stats
from torch import Tensor

from gram_ppl.tasks.mnist.idx import read_idx, read_mnist
from gram_ppl.tasks.mnist.strokes import draw_digits
from gram_ppl.tasks.mnist.task import BinarizedMNIST

many = settings(max_examples=200)
TOKENS = st.integers(-(2**63), 2**63 - 1)
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist"
# How many pictures of each digit the published files hold.
PUBLISHED = {
    "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim])
    return head + b"".join(struct.pack(">I", n) for n in array.shape) + array.astype(np.uint8).tobytes()


def numbered(n: int, first: int = 0, size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Pictures that hold their number in binary, in grey levels on both sides of one half, and its last digit."""
    number = np.arange(first, first + n)
    bits = number[:, None] >> np.arange(size * size) & 1
    return np.where(bits, 128, 127).reshape(n, size, size), number % 10


def number(tokens: Tensor) -> list[int]:
    return ((tokens - 1) << torch.arange(tokens.shape[-1])).sum(-1).tolist()


def folder(path: Path, mark: str = "-", ending: str = "", train: int = 60, test: int = 30) -> Path:
    path.mkdir(exist_ok=True)
    for name, (images, labels) in {"train": numbered(train), "t10k": numbered(test, 1000)}.items():
        for stem, kind, array in (("images", "idx3", images), ("labels", "idx1", labels)):
            raw = idx(array)
            file = path / f"{name}-{stem}{mark}{kind}-ubyte{ending}"
            file.write_bytes(gzip.compress(raw, mtime=0) if ending else raw)
    return path


@cache
def drawn(size: int = 12) -> BinarizedMNIST:
    return BinarizedMNIST(size=size, num_validation=50, num_test=200)


# Files


@many
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=3), zipped=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_read_idx_undoes_writing(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], zipped: bool, seed: int
) -> None:
    array = np.random.default_rng(seed).integers(0, 256, shape)
    path = tmp_path_factory.getbasetemp() / "array"
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    found = read_idx(path, len(shape))
    assert found.dtype == torch.uint8
    assert (found.numpy() == array).all()


@pytest.mark.parametrize("length", range(8 + 5))
def test_a_truncated_file_names_file_and_byte(tmp_path: Path, length: int) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx(np.arange(5))[:length])
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}, byte {length}: the file ends"):
        read_idx(path, 1)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda raw: b"\1" + raw[1:], "byte 0: expected 00 00 08 01, .* found 01 00 08 01"),
        (lambda raw: raw[:2] + b"\x0d" + raw[3:], "byte 0: expected 00 00 08 01, .* found 00 00 0d 01"),
        (lambda raw: raw[:3] + b"\3" + raw[4:], "byte 0: .* 1-dimensional .* found 00 00 08 03"),
        (lambda raw: raw[:4] + bytes(4), "byte 4: expected a size of at least 1"),
        (lambda raw: raw[:4] + b"\xff" * 4 + raw[8:], "byte 13: the file ends, but by its header it has 4294967303"),
        (lambda raw: raw + b"\0\0", "byte 13: expected the end of the file, found 2 more"),
        (lambda raw: gzip.compress(raw)[:-9], "byte 0 or later: the gzip stream is damaged"),
        (lambda raw: gzip.compress(raw)[:3], "byte 0 or later: the gzip stream is damaged"),
        (lambda raw: gzip.compress(raw) + b"more", "byte 0 or later: the gzip stream is damaged"),
    ],
)
def test_a_damaged_file_names_file_and_byte(tmp_path: Path, change: Callable[[bytes], bytes], expected: str) -> None:
    path = tmp_path / "labels"
    path.write_bytes(change(idx(np.arange(5))))
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}, {expected}") as error:
        read_idx(path, 1)
    assert "\n" not in str(error.value)


@many
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_gzip_file_never_changes_the_array(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    array, _ = numbered(50)
    raw = bytearray(gzip.compress(idx(array), mtime=0))
    raw[at % len(raw)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.gz"
    path.write_bytes(raw)
    try:
        found = read_idx(path, 3)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 (only some flips are errors)
    else:
        assert (found.numpy() == array).all()


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_every_name_of_the_files(tmp_path: Path, mark: str, ending: str) -> None:
    found = read_mnist(folder(tmp_path, mark, ending), 4)
    for split, expected in (("train", numbered(60)), ("test", numbered(30, 1000))):
        for part, array in zip(found[split], expected, strict=True):
            assert (part.numpy() == array).all()


@pytest.mark.parametrize(
    ("file", "array", "expected"),
    [
        ("train-images-idx3-ubyte", np.zeros((60, 4, 5)), "byte 8: expected pictures of 4 x 4 pixels, found 4 x 5"),
        ("train-images-idx3-ubyte", np.zeros((59, 4, 4)), "byte 4: expected 59 labels, .* found 60"),
        ("t10k-labels-idx1-ubyte", np.arange(31) % 10, "byte 4: expected 30 labels, .* found 31"),
        ("t10k-labels-idx1-ubyte", np.r_[np.zeros(20), [10], np.zeros(9)], "byte 28: .* from 0 to 9, found 10"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, file: str, array: np.ndarray, expected: str) -> None:
    (folder(tmp_path) / file).write_bytes(idx(array))
    with pytest.raises(ValueError, match=expected):
        BinarizedMNIST(tmp_path, size=4, num_validation=5)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (folder(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    for root, name in ((tmp_path, "t10k-labels-idx1-ubyte"), (tmp_path / "none", "train-images-idx3-ubyte")):
        with pytest.raises(ValueError, match=f"{root}: there is no file {name}, also not as"):
            read_mnist(root, 4)


@pytest.mark.skipif(not REAL.is_dir(), reason="MNIST's files are not here")
def test_the_real_files() -> None:
    found = read_mnist(REAL)
    for split, counts in PUBLISHED.items():
        images, labels = found[split]
        assert images.shape == (sum(counts), 28, 28)
        assert labels.bincount().tolist() == counts
    images, _ = found["train"]
    assert images.sum(dtype=torch.long).item() / 255 / images.numel() == pytest.approx(0.13066, abs=1e-5)
    task = BinarizedMNIST(REAL, num_validation=5000)
    assert [len(task.labels(split)) for split in ("train", "validation", "test")] == [55_000, 5_000, 10_000]
    white = (images > 127).sum().item()
    held = sum((task.answers(split) == 2).sum().item() for split in ("train", "validation"))
    assert held == white


# Splits


def test_splits_of_files_share_nothing_and_keep_their_labels(tmp_path: Path) -> None:
    root = folder(tmp_path)
    task = BinarizedMNIST(root, size=4, num_validation=20)
    numbers = {split: number(task.answers(split)) for split in ("train", "validation", "test")}
    assert sorted(numbers["train"] + numbers["validation"]) == list(range(60))
    assert numbers["test"] == list(range(1000, 1030))
    assert len(numbers["validation"]) == 20
    for split, found in numbers.items():
        assert task.labels(split).tolist() == [n % 10 for n in found]
        assert task.inputs(split).shape == (len(found), 0)
        assert task.inputs(split).dtype == task.answers(split).dtype == torch.long
    some = BinarizedMNIST(root, size=4, num_validation=20, num_test=10)
    assert number(some.answers("validation")) == numbers["validation"]
    assert number(some.answers("test")) != numbers["test"][:10]
    assert set(number(some.answers("test"))) < set(numbers["test"])
    other = BinarizedMNIST(root, size=4, num_validation=20, seed=1)
    assert number(other.answers("validation")) != numbers["validation"]


@pytest.mark.parametrize(
    "options",
    [{"num_validation": 60}, {"num_test": 31}, {"num_validation": -1}, {"num_test": -1}],
)
def test_impossible_splits(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"num_validation and num_test"):
        BinarizedMNIST(folder(tmp_path), size=4, **({"num_validation": 5} | options))


@pytest.mark.parametrize("size", [-1, 7, 65])
def test_sizes_that_are_not_drawn(size: int) -> None:
    with pytest.raises(ValueError, match=f"^size: .* found {size}"):
        BinarizedMNIST(size=size)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_batches_are_uniform_over_their_split(tmp_path: Path, split: str) -> None:
    task = BinarizedMNIST(folder(tmp_path), size=4, num_validation=20)
    own = number(task.answers(split))
    _, y = next(task.batches(split, 3000, torch.Generator().manual_seed(3)))
    counts = np.bincount(np.searchsorted(own, number(y)), minlength=len(own))
    assert set(number(y)) == set(own)
    assert stats.chisquare(counts).pvalue > 1e-6


def test_an_empty_or_unknown_split() -> None:
    task = BinarizedMNIST(num_validation=0, num_test=0)
    assert task.inputs("test").shape == (0, 0)
    with pytest.raises(ValueError, match="The test split is empty"):
        task.batches("test", 4, torch.Generator())
    with pytest.raises(ValueError, match="'train', 'validation' or 'test', found 'tset'"):
        task.answers("tset")


def test_the_config_names_the_files(tmp_path: Path) -> None:
    task = BinarizedMNIST(folder(tmp_path), size=4, num_validation=7, num_test=9, seed=2)
    again = BinarizedMNIST(**json.loads(json.dumps(task.config)))
    assert again.config == task.config
    for split in ("train", "validation", "test"):
        assert torch.equal(again.answers(split), task.answers(split))
        assert torch.equal(again.labels(split), task.labels(split))


# Drawn digits


@pytest.mark.parametrize("size", [8, 12, 28])
def test_drawn_digits_are_connected_and_inside(size: int) -> None:
    digits = torch.arange(10).repeat(30)
    white = draw_digits(digits, size, torch.Generator().manual_seed(0))
    assert white.shape == (300, size, size)
    for picture in white.numpy():
        assert ndimage.label(picture, np.ones((3, 3)))[1] == 1
    border = torch.cat([white[:, 0], white[:, -1], white[:, :, 0], white[:, :, -1]], 1)
    assert border.float().mean() < 0.06
    assert 0.1 < white.float().mean() < 0.3


def test_drawn_digits_are_many_and_their_labels_right() -> None:
    task = drawn()
    y, labels = task.answers("train"), task.labels("train")
    assert y.unique().tolist() == [1, 2]
    assert len(y) == 10_000
    assert len(y.unique(dim=0)) > 9_000
    assert stats.chisquare(labels.bincount()).pvalue > 1e-6
    nearest = torch.cdist(task.answers("test").float(), y.float()).argmin(1)
    assert (labels[nearest] == task.labels("test")).float().mean() > 0.95
    other = BinarizedMNIST(num_validation=50, num_test=200, seed=1)
    assert not torch.equal(other.answers("test"), task.answers("test"))


def test_drawing_in_parts_depends_on_the_generator_only() -> None:
    digits = torch.arange(1200) % 10
    first, again = (draw_digits(digits, 8, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, again)
    assert len(draw_digits(digits[:0], 8, torch.Generator())) == 0


# Rules


@many
@given(
    rows=st.lists(st.integers(0, 199), min_size=1, max_size=3),
    changes=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 63), TOKENS | st.integers(-1, 3)), max_size=9),
)
def test_violations_count_the_tokens_that_are_no_pixel(rows: list[int], changes: list[tuple[int, int, int]]) -> None:
    task = drawn(8)
    y = task.answers("test")[rows]
    for row, cell, token in changes:
        y[row % len(rows), cell] = token
    expected = [sum(token not in (1, 2) for token in board) for board in y.tolist()]
    x = torch.zeros(len(rows), 0, dtype=torch.long)
    assert task.violations(x, y).tolist() == expected
    assert task.verify(x, y).tolist() == [number == 0 for number in expected]


def test_an_input_of_any_tokens_is_not_looked_at() -> None:
    y = torch.randint(0, 4, (4, 64))
    for x in (torch.zeros(5, 1, 0, dtype=torch.long), torch.randint(-9, 9, (5, 1, 64))):
        assert torch.equal(drawn(8).violations(x, y), ((y == 0) | (y == 3)).sum(1).expand(5, 4))
    with pytest.raises(ValueError, match=r"^x: expected .*\[\.\.\., 0\]"):
        drawn(8).violations(torch.zeros(3, dtype=torch.long), y)


def test_spec_and_pictures() -> None:
    task = drawn()
    assert task.spec == (144, 3, 144, 3, None, None)
    for split in ("train", "validation", "test"):
        assert task.verify(task.inputs(split), task.answers(split)).all()


def test_there_are_neither_solutions_nor_inputs_to_parse() -> None:
    with pytest.raises(NotImplementedError, match="no list of solutions: measure FID"):
        drawn().solutions(torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match=r"no input to read\.$"):
        drawn().parse("7")


# Pictures


def test_pictures_hold_the_tokens_row_by_row() -> None:
    task, y = drawn(), drawn().answers("test")
    pictures = task.pictures(y.view(10, 20, -1))
    assert (pictures.shape, pictures.dtype) == ((10, 20, 12, 12), torch.float32)
    assert torch.equal(pictures.view(200, 144), (y - 1).float())
    assert task.pictures(torch.tensor([0, 1, 2, -5] * 36)).view(-1)[:4].tolist() == [0, 0, 1, 0]
    with pytest.raises(ValueError, match=r"^tokens: expected .*\[\.\.\., 144\]"):
        task.pictures(y[:, 1:])


def test_render(tmp_path: Path) -> None:
    task, none = BinarizedMNIST(folder(tmp_path), size=4, num_validation=5), torch.zeros(0, dtype=torch.long)
    y = torch.tensor([[1, 2, 1, 2], [1, 1, 2, 2], [2, 2, 2, 2], [1, 0, 2, -7]])
    assert task.render(none, y.flatten()) == " ▀▄█\n▀?█?"
    assert task.render(none) == "(any picture)"
    odd = BinarizedMNIST(size=9, num_validation=1, num_test=1)
    assert [len(line) for line in odd.render(none, torch.full((81,), 2)).splitlines()] == [9] * 5
    with pytest.raises(ValueError, match=r"^y: expected .*\[16\]"):
        task.render(none, y)


def test_draw() -> None:
    task, none = drawn(8), torch.zeros(0, dtype=torch.long)
    y = task.answers("test")[0].clone()
    y[0] = 7
    figure = Figure((1, 1), dpi=80)
    axes = figure.add_axes((0, 0, 1, 1))
    task.draw(axes, none, y)
    figure.savefig(out := io.BytesIO(), format="png")
    assert out.getvalue().startswith(b"\x89PNG")
    figure.savefig(raw := io.BytesIO(), format="rgba")
    pixels = np.frombuffer(raw.getvalue(), np.uint8).reshape(80, 80, 4)[5::10, 5::10, :3]  # one of each 10 x 10
    expected = task.pictures(y).numpy()[..., None].repeat(3, 2) * 255
    expected[0, 0] = [204, 26, 26]
    assert np.abs(pixels - expected).max() <= 1
    empty = Figure().subplots()
    task.draw(empty, none)
    assert not empty.images
