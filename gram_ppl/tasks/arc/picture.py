"""ARC canvases as text and as pictures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..scene import OPEN, Mark, Scene, grid
from .canvas import EOS, FIRST, PAD, VOCABULARY
from .data import SIDE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# black, blue, red, green, yellow, grey, magenta, orange, light blue, maroon: those of ARC's own site
PALETTE = ("000000", "0074D9", "FF4136", "2ECC40", "FFDC00", "AAAAAA", "F012BE", "FF851B", "7FDBFF", "870C25")
GAP = 3  # blank columns between question and answer


def _cropped(canvas: Tensor) -> np.ndarray:
    """The part of a canvas ``[900]`` that is neither padding nor end, ``[rows, columns]``; at least one cell."""
    tokens = canvas.detach().cpu().long().numpy().reshape(SIDE, SIDE)
    marked = (tokens != PAD) & (tokens != EOS)
    rows, columns = (np.append(np.flatnonzero(marked.any(axis)), 0) for axis in (1, 0))
    return tokens[rows[0] : rows[:-1].max(initial=0) + 1, columns[0] : columns[:-1].max(initial=0) + 1]


def text_of(canvas: Tensor, marks: bool) -> list[str]:
    """The lines of a canvas ``[900]``: digits, ``.`` for padding and end tokens, ``?`` for others."""

    def char(token: int) -> str:
        if token in (PAD, EOS):
            return "."
        if not FIRST <= token < VOCABULARY:
            return "?"
        color = token - FIRST
        # black on a dark terminal could not be read
        return f"[#{PALETTE[color]}]{color}[/]" if marks and color else str(color)

    return [" ".join(char(token) for token in row) for row in _cropped(canvas).tolist()]


def side_by_side(blocks: list[list[str]]) -> str:
    """Blocks of lines next to each other; the lines of a block look equally long."""
    height = max(len(lines) for lines in blocks)
    blank = [" " * _width(lines[0]) for lines in blocks]
    filled = [lines + [space] * (height - len(lines)) for lines, space in zip(blocks, blank, strict=True)]
    return "\n".join((" " * GAP).join(row).rstrip() for row in zip(*filled, strict=True))


def _width(line: str) -> int:
    return len(re.sub(r"\[[^]]*\]", "", line))


def canvases(question: list[int], side: int) -> Scene:
    """A question's canvas of side² tokens, as what lies behind, and the places of the answer's on its right."""
    marks = [Mark("nothing"), Mark("end"), *(Mark(f"colour {k}", fill=f"#{code}") for k, code in enumerate(PALETTE))]
    answer = grid(side, side, marks, [OPEN] * side**2)
    cells = zip(answer.places, question, strict=True)
    shown = [(*place, marks[token].fill) for place, token in cells if FIRST <= token < VOCABULARY]
    places = [(across + side + 1, down) for across, down in answer.places]
    return answer._replace(width=2 * side + 1, places=places, squares=shown, lines=[(side + 0.5, 0, side + 0.5, side)])


def draw_canvases(axes: Axes, canvases: list[Tensor]) -> None:
    """One or two canvases ``[900]`` side by side, in ARC's colours; white for padding, end and any other token."""
    colors = np.array([[int(code[k : k + 2], 16) for k in (0, 2, 4)] for code in (*PALETTE, "FFFFFF")]) / 255
    left = height = 0
    for k, canvas in enumerate(canvases):
        tokens = _cropped(canvas)
        known = (tokens >= FIRST) & (tokens < VOCABULARY)
        rows, columns = tokens.shape
        picture = colors[np.where(known, tokens - FIRST, len(PALETTE))]
        if k:
            axes.text(left - GAP / 2, height / 2, "→", ha="center", va="center", fontsize=14)
        axes.imshow(picture, extent=(left, left + columns, rows, 0), interpolation="nearest")
        axes.hlines(range(rows + 1), left, left + columns, colors="#555555", linewidth=0.5)
        axes.vlines(range(left, left + columns + 1), 0, rows, colors="#555555", linewidth=0.5)
        left, height = left + columns + GAP, max(height, rows)
    axes.set_xlim(-0.2, left - GAP + 0.2)
    axes.set_ylim(height + 0.2, -0.2)
    axes.set_aspect("equal")
    axes.set_axis_off()
