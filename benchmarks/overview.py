"""Accuracy and coverage of every system of table 1, the picture of docs/results.md.

    python benchmarks/overview.py

Means over the seeds in ``benchmarks/results/table_1_cpu.json``.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import table_text

from gram_ppl.reporting.pictures.style import BLUE, GREEN, GREY, INK, ORANGE, RED, SKY, canvas, save, tidy

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "deterministic": (GREY, "s", ("Direct, 8 layers", "Direct, 32 layers", "Looped Transformer", "HRM", "TRM")),
    "TRM, randomised at the test": (SKY, "D", ("TRM, random z_0", "TRM, sampled decoding", "PTRM")),
    "autoregressive": (GREEN, "v", ("Autoregressive",)),
    "MDLM": (ORANGE, "^", ("MDLM",)),
    "GRAM": (BLUE, "o", ("GRAM",)),
    "GRAM, deciding": (RED, "o", ("GRAM, deciding",)),
}

Point = tuple[float, ...]  # accuracy, coverage of inputs with several solutions, and an ideal sampler's


def points(results: Path) -> dict[str, dict[str, Point]]:
    """For each task and system the means over the seeds."""
    found: dict[str, dict[str, list[Point]]] = {}
    for record in table_text.written(results, "table 1 cpu").values():
        point = tuple(record[name] for name in ("accuracy", "coverage", "coverage_ceiling"))
        found.setdefault(record["title"], {}).setdefault(record["system"], []).append(point)
    return {
        title: {system: tuple(map(mean, zip(*seeds, strict=True))) for system, seeds in systems.items()}
        for title, systems in found.items()
    }


def main() -> None:
    """Draw it."""
    tasks = points(ROOT / "benchmarks" / "results")
    figure, panels = canvas(11, 3.8, columns=len(tasks), sharey=True)
    for axes, (title, systems) in zip(panels, tasks.items(), strict=True):
        for label, (colour, shape, names) in KINDS.items():
            x, y, _ = zip(*(systems[name] for name in names), strict=True)
            axes.plot(x, y, shape, color=colour, label=label, markersize=7, clip_on=False)
        ideal = next(iter(systems.values()))[2]
        axes.plot(1, ideal, "*", color="none", markeredgecolor=INK, markersize=16, label="ideal", clip_on=False)
        axes.set(title=title, xlabel="accuracy of one sample", xlim=(0.35, 1.02), ylim=(0, 1.02))
        tidy(axes, grid="both")
    panels[0].set_ylabel("coverage by 20, several solutions")
    panels[0].legend(frameon=False, loc="upper left", fontsize=8)
    save(figure, ROOT / "docs" / "accuracy_and_coverage.png")


if __name__ == "__main__":
    main()
