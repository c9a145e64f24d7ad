"""A board as one SVG: a puzzle, an answer to it, or something to draw on."""

from __future__ import annotations

import html
from collections.abc import Sequence
from math import hypot

from ..tasks import scene as scenes

PAD = 0.12  # around the board, of one place
SIGNS = 0x2000  # characters from here on are drawn smaller by most fonts than digits and letters


def spots(scene: scenes.Scene) -> list[tuple[int, int | None]]:
    """What a finger can point at: a place, and the token that stands there where it has a spot of its own."""
    places = range(len(scene.places))
    if not any(mark.across for mark in scene.marks):
        return [(place, None) for place in places]
    shown = [token for token, mark in enumerate(scene.marks) if mark.text or mark.fill]
    return [(place, token) for place in places for token in shown]


def board(
    scene: scenes.Scene, tokens: Sequence[int] = (), *, label: str, chosen: int | None = None, touch: bool = False
) -> str:
    """A board as SVG, its colours by classes that the page defines.

    Args:
        scene: how it is laid out, and what is given.
        tokens: an answer, ``[L_out]``; nothing for the puzzle alone.
        label: in words, for whoever can't see it.
        chosen: a place with a ring around it.
        touch: every spot is a button, ``data-spot`` its number in :func:`spots`.
    """
    parts = [_square(x, y, 1, _look(fill)) for x, y, fill in scene.squares]
    if not scene.round:
        parts.append(f'<rect width="{scene.width}" height="{scene.height}" class="frame"/>')
    values = [given if given != scenes.OPEN or not tokens else tokens[k] for k, given in enumerate(scene.given)]
    for a, b in scene.links:
        (x0, y0), (x1, y1) = scene.places[a], scene.places[b]
        parts.append(f'<line class="link" x1="{x0:.3f}" y1="{y0:.3f}" x2="{x1:.3f}" y2="{y1:.3f}"/>')
    for place, (x, y) in enumerate(scene.places):
        if scene.round:
            parts.append(_shape(scene, x, y, 'class="plate"'))
        if scene.framed:
            parts.append(_shape(scene, x, y, 'class="frame"'))
        parts.append(_value(scene, place, values[place], scene.given[place] != scenes.OPEN))
    parts += [f'<line class="rule" x1="{a}" y1="{b}" x2="{c}" y2="{d}"/>' for a, b, c, d in scene.lines]
    if scene.round:
        parts += [_number(scene, place) for place in range(len(scene.places))]
    if chosen is not None:
        parts.append(_shape(scene, *scene.places[chosen], 'class="chosen"'))
    if touch:
        parts += [_spot(scene, number, *spot) for number, spot in enumerate(spots(scene))]
    box = f"{-PAD} {-PAD} {scene.width + 2 * PAD:.3f} {scene.height + 2 * PAD:.3f}"
    role = "group" if touch else "img"
    return f'<svg class="board" role="{role}" aria-label="{html.escape(label)}" viewBox="{box}">{"".join(parts)}</svg>'


def _value(scene: scenes.Scene, place: int, token: int, given: bool) -> str:
    if not 0 <= token < len(scene.marks):
        return ""
    mark, (x, y) = scene.marks[token], scene.places[place]
    x, text = x + mark.across, html.escape(mark.text)
    if mark.fill:
        letter = f'<text class="on-colour" x="{x:.3f}" y="{y:.3f}" font-size="0.55">{text}</text>' if text else ""
        return _shape(scene, x, y, _look(mark.fill)) + letter
    if not text:
        return ""
    size, kind = 0.95 if ord(mark.text[0]) > SIGNS else 0.7, "given" if given else "found"
    back = _shape(scene, x, y, f'class="{kind}"')
    return f'{back}<text class="{kind}-text" x="{x:.3f}" y="{y:.3f}" font-size="{size}">{text}</text>'


def _spot(scene: scenes.Scene, number: int, place: int, token: int | None) -> str:
    (x, y), name = scene.places[place], scene.names[place]
    if token is not None:
        x, name = x + scene.marks[token].across, f"{name}, {scene.marks[token].word}"
    held = scene.marks[scene.given[place]].word if scene.given[place] != scenes.OPEN else ""
    label = html.escape(f"{name}: {held}" if held else name)
    inner = f'class="spot" data-spot="{number}" tabindex="0" role="button" aria-label="{label}"'
    return _shape(scene, x, y, inner)


def _number(scene: scenes.Scene, place: int) -> str:
    """Of a node, outside of the circle."""
    x, y = scene.places[place]
    right, down = x - scene.width / 2, y - scene.height / 2
    far = 0.82 / hypot(right, down)
    return f'<text class="name" x="{x + right * far:.3f}" y="{y + down * far:.3f}" font-size="0.36">{place}</text>'


def _shape(scene: scenes.Scene, x: float, y: float, rest: str) -> str:
    return f'<circle cx="{x:.3f}" cy="{y:.3f}" r="0.5" {rest}/>' if scene.round else _square(x, y, 1, rest)


def _square(x: float, y: float, side: float, rest: str) -> str:
    return f'<rect x="{x - side / 2:.3f}" y="{y - side / 2:.3f}" width="{side}" height="{side}" {rest}/>'


def _look(fill: str) -> str:
    return f'fill="{html.escape(fill)}"' if fill.startswith("#") else f'class="f-{html.escape(fill)}"'
