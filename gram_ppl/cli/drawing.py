"""A puzzle that is drawn: on which places of its scene something stands, or which nodes of a graph are joined.

It need not have a solution, nor keep the rules, before it is asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..reporting.board import board, spots
from ..tasks import scene as scenes
from ..tasks.base import Task

CLEARING = ("0", ".", "Backspace", "Delete")  # keys that empty a place


class Drawing(NamedTuple):
    """What stands on a board."""

    given: tuple[int, ...]  # [L_out] tokens, OPEN where nothing is
    links: tuple[tuple[int, int], ...] = ()  # joined nodes
    chosen: int | None = None  # the node that waits for another


def drawable(task: Task) -> bool:
    """Whether the inputs of a task can be drawn: graphs, and boards whose givens are tokens of the answer."""
    if task.graphs:
        return True
    leaves = task.spec.leaves
    return leaves is not None and len(leaves) == task.spec.vocab_in and task.spec.len_in == task.spec.len_out


def nothing(task: Task) -> Tensor:
    """The input ``[L_in]`` to begin a drawing with."""
    return task.parse("") if task.graphs else task.blank


def begun(task: Task, x: Tensor) -> Drawing:
    """The drawing of an input ``[L_in]``."""
    scene = task.scene(x)
    links = tuple((min(link), max(link)) for link in scene.links) if task.graphs else ()
    return Drawing(tuple(scene.given), links)


def touched(task: Task, drawing: Drawing, spot: int, key: str = "") -> Drawing:
    """What becomes of it when somebody points at a spot, or presses a key there.

    A place takes the next of its values, or the one whose sign the key is, and gives it up at the last; two nodes
    are joined, or part.
    """
    places = spots(task.scene(nothing(task)))
    if not 0 <= spot < len(places):
        return drawing
    place, token = places[spot]
    if task.graphs:
        return _joined(drawing, place)
    now, given = drawing.given[place], list(drawing.given)
    if token is not None:
        given[place] = scenes.OPEN if now == token or key in CLEARING else token
    else:
        given[place] = _next(task, now, key)
    return drawing._replace(given=tuple(given))


def written(task: Task, drawing: Drawing) -> str:
    """The text of a drawing, which the task reads: a list of edges, or the board."""
    if task.graphs:
        return " ".join(f"{a}-{b}" for a, b in sorted(drawing.links))
    given, blank = torch.tensor(drawing.given), task.blank
    return task.line(torch.where(given == scenes.OPEN, blank, given))


def picture(task: Task, drawing: Drawing) -> str:
    """It as SVG, with something to point at."""
    scene = task.scene(nothing(task))._replace(given=list(drawing.given))
    scene = scene._replace(links=drawing.links) if task.graphs else scene
    return board(scene, label="The puzzle, to draw on", chosen=drawing.chosen, touch=True)


def _next(task: Task, now: int, key: str) -> int:
    assert task.spec.leaves is not None
    values = [scenes.OPEN, *(token for token, left in enumerate(task.spec.leaves) if left.sum() == 1)]
    signs = {task.scene(task.blank).marks[token].text.upper(): token for token in values[1:]}
    if key:
        return scenes.OPEN if key in CLEARING else signs.get(key.upper(), now)
    return values[(values.index(now) + 1) % len(values)] if now in values else scenes.OPEN


def _joined(drawing: Drawing, node: int) -> Drawing:
    if drawing.chosen is None or drawing.chosen == node:
        return drawing._replace(chosen=node if drawing.chosen is None else None)
    link = min(node, drawing.chosen), max(node, drawing.chosen)
    links = tuple(sorted({*drawing.links} ^ {link}))
    return Drawing(drawing.given, links)
