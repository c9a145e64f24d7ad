"""Every file and name that the documents name is there, their lines can be read, and docstrings' examples hold."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import gram_ppl as gp

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


FENCED = re.compile(r"^```(?:python|\{code-cell\})\n(.*?)^```", re.M | re.S)


def unknown(text: str) -> list[str]:
    """Dotted names of the package in the Python of a document that lead nowhere."""
    found = []
    for block in FENCED.findall(text):
        code = re.sub(r"^:.*$", "", block, flags=re.M)  # options of a notebook's cell
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Attribute) and re.fullmatch(r"gp(\.\w+)+", name := ast.unparse(node)):
                try:
                    eval(name, {"gp": gp})
                except AttributeError:
                    found.append(name)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_python_in_documents_names_what_exists(document: Path) -> None:
    assert unknown(document.read_text()) == []


def test_a_name_that_is_gone_is_found() -> None:
    assert unknown("```{code-cell}\n:tags: [x]\n\ngp.fit(gp.guides.Missing(model))\n```\n") == ["gp.guides.Missing"]


def test_examples_in_docstrings() -> None:
    examples: Any = [0, 0]
    for folder in ("gram_ppl", "models", "guides"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                name = path.relative_to(ROOT).with_suffix("").as_posix().removeprefix("gram_ppl/").replace("/", ".")
                module = importlib.import_module(f"gram_ppl.{name}")
                tried = doctest.testmod(module, extraglobs={"gp": gp, "torch": torch})
                examples = [sum(pair) for pair in zip(examples, tried[:2], strict=True)]
    assert examples[0] == 0
    assert examples[1] >= 8
