"""Boards that settle step by step: trajectories of one input, as a strip of pictures or an animation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...inference.select import distinct
from ...runtime.precision import wide
from ...state import Rollouts
from ...tasks.base import Task
from .style import BLUE, GREEN, INK, RED, canvas, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RULES = "|-+"  # lines between boxes, in boards of text


class Convergence(NamedTuple):
    """What k trajectories of one input answer after each of S supervision steps."""

    x: Tensor  #: [L_in]
    tokens: Tensor  #: [S, k, L_out]
    violations: Tensor  #: [S, k] int64


def convergence(
    task: Task, x: Tensor, course: Sequence[Rollouts], *, example: int | None = None, boards: int = 4
) -> Convergence:
    """Trajectories worth seeing: those that end at different verified answers first.

    Args:
        task: its verifier judges.
        x: inputs, ``[B, L_in]``.
        course: what :func:`gram_ppl.inference.depths.rollouts_by_depth` gave.
        example: which input; if not given the one with most different verified answers, among such the one whose
            first answers are wrong most often.
        boards: k, at most.

    Raises:
        ValueError: no such input.
    """
    x = x.to(course[0].tokens.device)
    last = course[-1].tokens
    new = distinct(task.canonical(last), task.verify(x[:, None], last))
    if example is None:
        early = 1 - wide(task.verify(x[:, None], course[0].tokens)).mean(dim=1)
        example = int((new.sum(dim=1).clamp(max=boards) + 0.9 * early).argmax())
    if not 0 <= example < len(x):
        raise ValueError(f"example must be one of {len(x)} inputs, got {example}")
    order = torch.argsort((~new[example]).int(), stable=True)[:boards]
    tokens = torch.stack([out.tokens[example, order] for out in course])
    return Convergence(x[example].cpu(), tokens.cpu(), task.violations(x[example], tokens).cpu())


def spread(last: int, most: int) -> list[int]:
    """At most so many steps from 1 to the last, closer together in the beginning."""
    if last <= most:
        return list(range(1, last + 1))
    wanted = {round(last ** (k / (most - 1))) for k in range(most)} if most > 1 else {last}
    return sorted(wanted | {last})


def draw_convergence(task: Task, found: Convergence, path: str | Path, *, columns: int = 8) -> None:
    """A row of boards for each trajectory, a column for some of the supervision steps; the input stands first.

    On boards of text what the input gives is black, and what changed since the column before is red.

    Args:
        task: draws the boards.
        found: what :func:`convergence` gave.
        path: the PNG or SVG file to write.
        columns: steps to show, at most.
    """
    steps, rows = spread(len(found.tokens), columns), found.tokens.shape[1]
    lead = int(len(found.x) > 0)
    width, height = _size(task, found)
    shape = rows, lead + len(steps)
    figure, panels = _panels(width, height, *shape)
    if lead:
        _board(task, panels[0], found.x, None, None)
        panels[0].set_title("input", fontsize=9)
    for row in range(rows):
        before = None
        for column, step in enumerate(steps):
            axes = panels[row * shape[1] + lead + column]
            answer = found.tokens[step - 1, row]
            _board(task, axes, found.x, answer, before)
            _verdict(axes, int(found.violations[step - 1, row]))
            if not row:
                axes.set_title(f"step {step}", fontsize=9)
            before = answer
    save(figure, path)


def animate(task: Task, found: Convergence, path: str | Path, *, seconds: float = 0.6) -> None:
    """The same boards as an animated GIF, one frame for each supervision step; the last one stays longer.

    Args:
        task: draws the boards.
        found: what :func:`convergence` gave.
        path: the GIF file to write.
        seconds: how long a frame stays.

    Raises:
        ValueError: another kind of file, or no time for a frame.
    """
    from PIL import Image

    if Path(path).suffix.lower() != ".gif":
        raise ValueError(f"{path}: an animation is written as .gif")
    if seconds <= 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    frames = [Image.fromarray(frame) for frame in _frames(task, found)]
    shown = [round(1000 * seconds)] * (len(frames) - 1) + [round(4000 * seconds)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=shown, loop=0)


def _frames(task: Task, found: Convergence) -> list:
    """An RGB picture ``[height, width, 3]`` for each supervision step."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    steps, boards = found.tokens.shape[:2]
    lead = int(len(found.x) > 0)
    width, height = _size(task, found)
    frames = []
    for step in range(steps):
        figure, panels = _panels(width, height, 1, lead + boards)
        if lead:
            _board(task, panels[0], found.x, None, None)
            _caption(panels[0], "input", INK)
        for k in range(boards):
            before = found.tokens[step - 1, k] if step else None
            _board(task, panels[lead + k], found.x, found.tokens[step, k], before)
            _verdict(panels[lead + k], int(found.violations[step, k]))
        panels[lead].set_title(f"step {step + 1} of {steps}", fontsize=9)
        drawn = FigureCanvasAgg(figure)
        figure.set_dpi(150)
        drawn.draw()
        frames.append(np.asarray(drawn.buffer_rgba())[..., :3].copy())
    return frames


def _panels(width: float, height: float, rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """Panels of so many inches each, with room for a caption below and a title above the first row."""
    side, below, above, gap = 0.15, 0.3, 0.35, 0.35
    whole = 2 * side + columns * width + (columns - 1) * gap, above + rows * (height + below)
    figure, panels = canvas(*whole, rows, columns, layout=None)
    room = {"left": side / whole[0], "right": 1 - side / whole[0], "top": 1 - above / whole[1]}
    figure.subplots_adjust(**room, bottom=below / whole[1], wspace=gap / width, hspace=below / height)
    for axes in panels:
        axes.set_axis_off()
    return figure, panels


def _verdict(axes: Axes, violations: int) -> None:
    _caption(axes, f"{violations:,} wrong" if violations else "valid", RED if violations else GREEN)


def _caption(axes: Axes, text: str, colour: str) -> None:
    axes.text(0.5, -0.02, text, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=colour)


def _text(task: Task, x: Tensor, y: Tensor | None) -> list[str] | None:
    """The lines of a board that is drawn as text, None where the task has a picture of its own."""
    return task.render(x, y).splitlines() if type(task).draw is Task.draw else None


def _size(task: Task, found: Convergence) -> tuple[float, float]:
    """Inches that a board needs."""
    lines = _text(task, found.x, found.tokens[0, 0])
    return (1.3, 1.3) if lines is None else (0.09 * max(map(len, lines)), 0.17 * len(lines))


def _board(task: Task, axes: Axes, x: Tensor, y: Tensor | None, before: Tensor | None) -> None:
    """A board on its panel; text character by character, in colours."""
    lines = _text(task, x, y)
    if lines is None:
        task.draw(axes, x, y)
        return
    given = _text(task, x, None) if len(x) else None
    earlier = lines if before is None else _text(task, x, before)
    for row, line in enumerate(lines):
        for column, char in enumerate(line):
            if char == " ":
                continue
            own = y is None or _at(given, row, column) == char
            changed = not own and _at(earlier, row, column) != char
            colour = "0.75" if char in RULES else INK if own else RED if changed else BLUE
            weight = "bold" if changed or (own and given is not None and char.isalnum()) else "normal"
            style: dict[str, Any] = {"family": "monospace", "fontsize": 9, "ha": "center", "va": "center"}
            axes.text(column + 0.5, row + 0.5, char, color=colour, weight=weight, **style)
    axes.set(xlim=(0, max(map(len, lines))), ylim=(len(lines), 0))


def _at(lines: list[str] | None, row: int, column: int) -> str | None:
    return lines[row][column] if lines and row < len(lines) and column < len(lines[row]) else None
