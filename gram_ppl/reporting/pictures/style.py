"""What all pictures share: colours, axes without clutter, and files by their name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY, INK = "0.6", "0.2"


def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, *, layout: str | None = "constrained", **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches, and its panels, row by row; ``options`` go to ``Figure.subplots``."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(width, height), layout=layout)  # type: ignore[arg-type]
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def tidy(axes: Axes, *, grid: str = "y") -> None:
    """No frame above and to the right, a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="0.9", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def counted(axes: Axes, ticks: list[int]) -> None:
    """Horizontal axis of counts that double from tick to tick."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG or SVG, by the file's name.

    Raises:
        ValueError: another kind of file.
    """
    if Path(path).suffix.lower() not in (".png", ".svg"):
        raise ValueError(f"{path}: a picture is written as .png or .svg")
    figure.savefig(path, dpi=150)
