"""From finished runs to a table: mean and standard deviation over seeds, beside the paper's figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

Key = tuple[str, str, int]  # column, system and seed of a run

# How a metric is called in a table, and how many digits it has there.
METRICS = {
    "accuracy": ("accuracy", 3),
    "selected_accuracy": ("vote of N", 3),
    "pass_at_n": ("any of N", 3),
    "exact_match": ("exact match", 3),
    "coverage_all": ("coverage", 3),
    "coverage": ("coverage, several solutions", 3),
    "coverage_ceiling": ("its ceiling", 3),
    "conflicts": ("conflicts", 1),
    "selected_conflicts": ("conflicts of the vote", 1),
    "fid": ("FID", 1),
    "inception_score": ("IS", 2),
    "distinct": ("distinct", 0),
    "network_calls": ("network calls", 0),
    "unanswered": ("unanswered", 3),
    "selected_wrong": ("vote wrong", 3),
    "restarts": ("restarts", 2),
    "seconds": ("seconds", 1),
    "parameters": ("parameters", 0),
    "operations": ("operations, 10¹²", 1),
    "updates": ("updates", 0),
    "train_seconds": ("training, s", 0),
}

# Table 1 of arXiv 2605.19376 and the best published since (2609.11801): per cent, and conflicts.
PAPER: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "8 queens": {
        "Direct, 8 layers": (40.4, 13.7), "Looped Transformer": (68.4, 23.6), "HRM": (78.7, 26.7), "TRM": (66.8, 36.1),
        "Autoregressive": (96.3, 84.8), "MDLM": (96.1, 87.2), "GRAM": (99.7, 90.3), "Looped Flows": (99.9, 91.4),
    },
    "10 queens": {
        "Direct, 8 layers": (13.6, 1.6), "Looped Transformer": (50.0, 6.2), "HRM": (37.4, 4.7), "TRM": (17.5, 2.0),
        "Autoregressive": (90.0, 53.2), "MDLM": (74.3, 47.4), "GRAM": (89.7, 57.5), "Looped Flows": (94.4, 61.5),
    },
    "colouring, 8 nodes": {
        "Direct, 8 layers": (179.3, 19.9), "Looped Transformer": (136.0, 20.5), "HRM": (109.7, 21.8),
        "TRM": (109.3, 22.3), "Autoregressive": (19.0, 83.0), "MDLM": (2.7, 84.5), "GRAM": (2.7, 85.8),
        "Looped Flows": (0.7, 89.4),
    },
    "colouring, 10 nodes": {
        "Direct, 8 layers": (198.7, 6.7), "Looped Transformer": (157.3, 7.2), "HRM": (164.3, 8.9),
        "TRM": (170.7, 6.8), "Autoregressive": (61.3, 40.0), "MDLM": (12.0, 48.2), "GRAM": (3.3, 51.3),
        "Looped Flows": (1.0, 55.2),
    },
}  # fmt: skip


def number(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation of some seeds' values, the mean alone where they are equal; nothing for none."""
    if not values:
        return ""
    text = f"{mean(values):,.{digits}f}"
    return text if len(set(values)) < 2 else f"{text} ± {stdev(values):,.{digits}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [list(header), ["---"] * len(header), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def column(title: str, found: Mapping[str, Sequence[Mapping[str, Any]]], metrics: Sequence[str]) -> str:
    """The table of one column: a row for each system, with the paper's figures where it has them.

    Args:
        title: of the column.
        found: for each system, config and metrics of its finished runs, one a seed.
        metrics: keys of :data:`METRICS`.
    """
    paper = PAPER.get(title, {})
    names = [METRICS[name][0] for name in metrics]
    rows = []
    for system, runs in found.items():
        values = [[float(run[name]) for run in runs if name in run] for name in metrics]
        cells = [number(some, METRICS[name][1]) for name, some in zip(metrics, values, strict=True)]
        rows.append([system, *cells, str(len(runs)), *([_published(paper.get(system))] if paper else [])])
    if paper:
        rows += [[f"{name} (published)", *[""] * (len(metrics) + 1), _published(paper[name])] for name in paper
                 if name not in found]  # fmt: skip
    kind = "conflicts" if title.startswith("colouring") else "accuracy"
    header = ["", *names, "seeds", *([f"paper: {kind} / coverage"] if paper else [])]
    return f"### {title}\n\n{markdown(header, rows)}"


def _published(figures: tuple[float, ...] | None) -> str:
    return "" if figures is None else " / ".join(f"{figure:g}" for figure in figures)


def publish(results: Path, document: Path, mark: str, records: Any, text: str) -> None:
    """Write the records as JSON, named after the mark, and the text between the marks of the document."""
    for folder in (results, document.parent):
        folder.mkdir(parents=True, exist_ok=True)
    path = results / f"{mark.replace(' ', '_')}.json"
    path.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    old = document.read_text(encoding="utf-8") if document.exists() else "# Results\n"
    document.write_text(insert(old, mark, text), encoding="utf-8")


def written(results: Path, mark: str) -> dict[Key, dict[str, Any]]:
    """The records that :func:`publish` wrote, by column, system and seed."""
    path = results / f"{mark.replace(' ', '_')}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {(record["column"], record["system"], record["seed"]): record for record in found}


def insert(document: str, name: str, text: str) -> str:
    """The document with what stands between the marks of that name replaced, or added at its end."""
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    whole = f"{first}\n\n{text.strip()}\n\n{last}"
    before, mark, rest = document.partition(first)
    if not mark:
        return f"{document.rstrip()}\n\n{whole}\n"
    return before + whole + rest.partition(last)[2]
