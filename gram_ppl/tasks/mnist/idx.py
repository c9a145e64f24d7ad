"""MNIST's four IDX files, plain or gzipped: big-endian ``00 00 08 rank``, the dimensions as uint32, then the bytes.

The format is described where the data set comes from, http://yann.lecun.com/exdb/mnist.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import torch
from torch import Tensor

NAMES = {"train": "train", "test": "t10k"}
GZIP = b"\x1f\x8b"
BLOCK = 1 << 20


def read_mnist(root: str | Path, size: int = 28) -> dict[str, tuple[Tensor, Tensor]]:
    """Grey pictures ``[n, size, size]`` uint8, 0 .. 255, and digits ``[n]`` int64 of ``"train"`` and ``"test"``.

    Files are called as in the original, ``train-images-idx3-ubyte``, or with a dot, ``train-images.idx3-ubyte``, with
    or without ``.gz``.

    Raises:
        ValueError: a file is missing, damaged or of other sizes; the message names file and byte.
    """
    return {split: _labelled(Path(root), name, size) for split, name in NAMES.items()}


def _labelled(root: Path, name: str, size: int) -> tuple[Tensor, Tensor]:
    path = _find(root, f"{name}-images", "idx3-ubyte")
    images = read_idx(path, 3)
    n, *sides = images.shape
    if sides != [size, size]:
        raise ValueError(
            f"{path}, byte 8: expected pictures of {size} x {size} pixels, found {' x '.join(map(str, sides))}."
        )
    path = _find(root, f"{name}-labels", "idx1-ubyte")
    labels = read_idx(path, 1)
    if len(labels) != n:
        raise ValueError(f"{path}, byte 4: expected {n} labels, one for each picture, found {len(labels)}.")
    bad = (labels > 9).nonzero()
    if len(bad):
        at = int(bad[0])
        raise ValueError(f"{path}, byte {8 + at}: expected a digit from 0 to 9, found {int(labels[at])}.")
    return images, labels.long()


def _find(root: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{mark}{kind}{ending}" for mark in "-." for ending in ("", ".gz")]
    for name in names:
        if (root / name).is_file():
            return root / name
    raise ValueError(f"{root}: there is no file {names[0]}, also not as {', '.join(names[1:])}.")


def read_idx(path: str | Path, rank: int) -> Tensor:
    """The uint8 array of one IDX file, with ``rank`` dimensions, none of them 0.

    Raises:
        ValueError: a damaged file, or one of another type or rank; the message names the file and the byte (of the
            unpacked data).
    """
    raw = _contents(Path(path))

    def bad(byte: int, problem: str) -> ValueError:
        return ValueError(f"{path}, byte {byte}: {problem}.")

    magic, start = bytes([0, 0, 8, rank]), 4 + 4 * rank
    if raw[:4] != magic[: len(raw)]:
        raise bad(0, f"expected {magic.hex(' ')}, an IDX file of {rank}-dimensional bytes, found {raw[:4].hex(' ')}")
    if len(raw) < start:
        raise bad(len(raw), f"the file ends within its header of {start} bytes")
    shape = struct.unpack_from(f">{rank}I", raw, 4)
    if 0 in shape:
        raise bad(4 + 4 * shape.index(0), "expected a size of at least 1, found 0")
    end = start + prod(shape)
    if len(raw) < end:
        raise bad(len(raw), f"the file ends, but by its header it has {end} bytes")
    if len(raw) > end:
        raise bad(end, f"expected the end of the file, found {len(raw) - end} more bytes")
    return torch.frombuffer(raw, dtype=torch.uint8, offset=start).view(shape)


def _contents(path: Path) -> bytearray:
    raw = bytearray()
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP
    with gzip.open(path) if zipped else path.open("rb") as stream:
        try:
            while block := stream.read(BLOCK):
                raw += block
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}, byte {len(raw)} or later: the gzip stream is damaged ({error}).") from error
    return raw
