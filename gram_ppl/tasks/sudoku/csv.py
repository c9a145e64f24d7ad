"""Puzzles from CSV files in the format of Sudoku-Extreme, plain or gzipped.

``source,question,answer,rating``: question and answer are n * n characters, row by row, ``.`` or ``0`` for blank, then
1 .. 9, A .. G. The public set is https://huggingface.co/datasets/sapientinc/sudoku-extreme (train.csv, test.csv).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from io import BufferedIOBase
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .exact import box_of

HEADER = "source,question,answer,rating"
DIGITS = "123456789ABCDEFG"
BAD = 255
Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


def strings(paths: Paths | None) -> list[str] | None:
    """One path or several as a list of strings."""
    if paths is None:
        return None
    return [fspath(path) for path in ([paths] if isinstance(paths, (str, PathLike)) else paths)]


def locate(path: str) -> Path:
    """A local path as it is; ``hub:OWNER/NAME/FILE`` is downloaded from the Hugging Face hub (or found in its cache).

    Raises:
        ValueError: the download failed.
    """
    if not path.startswith("hub:"):
        return Path(path)
    owner, _, rest = path.removeprefix("hub:").partition("/")
    name, _, file = rest.partition("/")
    if not file:
        raise ValueError(f"{path} does not name a file of a data set: write hub:OWNER/NAME/FILE.csv.")
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(f"{owner}/{name}", file, repo_type="dataset"))
    except Exception as error:  # the hub raises errors of many libraries
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"Could not download {file} of the data set {owner}/{name} ({type(error).__name__}: {reason}); "
            f"get the file by other means and give its local path instead of {path}."
        ) from error


def read_csv(path: str | Path, box: tuple[int, int], block: int = 1 << 24) -> tuple[Tensor, Tensor]:
    """Questions and answers, each ``[N, n * n]`` uint8, read in blocks of ``block`` bytes.

    Every row is checked: its length, its characters, the answer a valid grid, the question agreeing with its answer.

    Raises:
        ValueError: the file is damaged; the message names file and line.
    """
    path, line, parts = Path(path), 2, []
    with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
        try:
            header = file.readline().decode(errors="replace").strip()
            if header != HEADER:
                raise ValueError(f"{path}, line 1: expected the header {HEADER}, found {header[:80]!r}.")
            while text := _whole_lines(file, block):
                parts.append(_parse(text, box, path, line))
                line += len(parts[-1])
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}, line {line} or later: the gzip stream is damaged ({error}).") from error
    if not parts:
        raise ValueError(f"{path}, line 2: the file holds no puzzles.")
    boards = torch.from_numpy(np.concatenate(parts))
    return boards[:, 0], boards[:, 1]


def _whole_lines(file: BufferedIOBase, block: int) -> bytes:
    text = file.read(block)
    text += file.readline()
    return text if not text or text.endswith(b"\n") else text + b"\n"


def _parse(text: bytes, box: tuple[int, int], path: Path, line: int) -> np.ndarray:
    """Rows of text, the first of them line number ``line``, to ``[N, 2, n * n]`` uint8."""
    n = box[0] * box[1]
    chars = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(chars == ord("\n"))
    commas = np.flatnonzero(chars == ord(","))

    def check(ok: np.ndarray, expected: str) -> None:
        if not ok.all():
            raise ValueError(f"{path}, line {line + int(np.argmin(ok))}: expected {expected}.")

    fields = np.bincount(np.searchsorted(ends, commas), minlength=len(ends)) + 1
    check(fields == 4, f"the four fields {HEADER}")
    first, second, third = commas.reshape(-1, 3).T
    check(second - first == n * n + 1, f"a question of {n * n} characters")
    check(third - second == n * n + 1, f"an answer of {n * n} characters")

    code = np.full(256, BAD, np.uint8)
    code[[ord("."), ord("0")]] = 0
    code[[ord(char) for char in DIGITS[:n]]] = np.arange(1, n + 1)
    starts = np.stack([first, second], 1) + 1
    boards = code[chars[starts[:, :, None] + np.arange(n * n)]]
    question, answer = boards[:, 0], boards[:, 1]
    check((question != BAD).all(1), f"a question of the characters {DIGITS[:n]} and . or 0 for blank")
    check(((answer != BAD) & (answer > 0)).all(1), f"an answer of the characters {DIGITS[:n]}")
    check(((question == 0) | (question == answer)).all(1), "a question that agrees with its answer")

    bits = np.uint32(1) << answer.astype(np.uint32)
    by_box = bits[:, np.argsort(box_of(box).numpy(), kind="stable")]
    units = np.stack([bits.reshape(-1, n, n), bits.reshape(-1, n, n).swapaxes(1, 2), by_box.reshape(-1, n, n)], 1)
    full = np.bitwise_or.reduce(units, axis=3) == np.uint32(2 ** (n + 1) - 2)
    check(full.all((1, 2)), "an answer with every digit once in each row, column and box")
    return boards
