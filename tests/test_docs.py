"""Every file that the documents name is there, and their lines can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Not the changelog: it may name what an earlier version had.
DOCUMENTS = sorted(
    {ROOT / "README.md", ROOT / "CONTRIBUTING.md"}
    | {path for folder in ("docs", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.md")}
)
# A path has a folder; what a command writes (.json, .png) need not be there yet.
NAMED = re.compile(r"(?<![\w./:-])((?:[\w-]+/)+[\w-]+\.(?:py|md))\b")
LINKED = re.compile(r"\]\((?!https?:|#|mailto:)([^)\s#]+)")


def missing(document: Path) -> list[str]:
    """Names that lead nowhere, from the repository, from the package, or from the document's own folder."""
    text = document.read_text()
    bases = ROOT, ROOT / "gram_ppl", document.parent
    named = [name for name in NAMED.findall(text) if not any((base / name).exists() for base in bases)]
    return named + [name for name in LINKED.findall(text) if not (document.parent / name).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_is_named_exists(document: Path) -> None:
    assert missing(document) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_lines_are_not_too_long(document: Path) -> None:
    assert [line for line in document.read_text().splitlines() if len(line) > 120 and not line.startswith("|")] == []


def test_a_file_that_moved_away_is_found(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("`gram_ppl/poutine.py`, `program/poutine.py`, [there](page.md), [gone](guides.md#top)")
    assert missing(document) == ["gram_ppl/poutine.py", "guides.md"]
