"""A page to watch trajectories on: one HTML file that needs nothing besides itself."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from ..inference.course import Moment
from ..inference.select import distinct
from ..tasks.base import Task

DECIDED, CHANGED = 1, 2  # bits of the flags of a place
MOST_BITS = 32  # candidates of larger vocabularies are not shown


def watched(task: Task, x: Tensor, moments: Sequence[Moment], solutions: tuple[int, bool] | None) -> dict[str, Any]:
    """What a page shows, as JSON.

    Args:
        task: lays the board out, and judges.
        x: the input, ``[L_in]``.
        moments: what :func:`gram_ppl.inference.course.course` gave: S of them, with N trajectories each.
        solutions: how many there are, and whether that is the exact number or a lower bound; None if nobody knows.

    Returns:
        ``asked``, ``judged``, ``scene``; ``steps [S]``; little-endian arrays ``[S, N, L_out]`` in base64: ``tokens``
        (2 bytes), ``confidence`` (1 byte, in 255ths), ``flags`` (1 byte, :data:`DECIDED` and :data:`CHANGED`) and, of
        models that decide, ``candidates`` (4 bytes, a bit each); lists ``[S][N]``: ``running``, ``answered``,
        ``again``, ``restarts``, ``violations`` and ``verified`` (of models that decide, answers alone are); ``found
        [S]``, different verified boards at that step; ``answers``, those of the last step, each with its ``tokens``,
        ``text`` and ``trajectories``; ``solutions`` and ``exact``.
    """
    sets, last = [moment.candidates for moment in moments], moments[-1]
    tokens, confidence, changed, running, answered, again = (
        torch.stack(fields).cpu()
        for fields in zip(*((m.tokens, m.confidence, m.changed, m.running, m.answered, m.again) for m in moments),
                          strict=True)
    )  # fmt: skip
    flags = CHANGED * changed
    violations = task.violations(x, tokens)
    verified = violations == 0
    found: dict[str, Any] = {"decides": last.candidates is not None, "candidates": None}
    if last.candidates is not None:
        left = torch.stack([some for some in sets if some is not None]).cpu()
        flags = flags + DECIDED * (left.sum(dim=-1) == 1)
        verified &= answered
        if left.shape[-1] <= MOST_BITS:
            bits = 1 << torch.arange(left.shape[-1])
            found["candidates"] = _packed((left * bits).sum(dim=-1), "<u4")
    boards = task.canonical(tokens)
    new = distinct(boards, verified)
    number, exact = solutions or (None, False)
    return found | {
        "asked": len(x) > 0,
        "judged": task.judged,
        "scene": task.scene(x).described(),
        "given_text": task.render(x),
        "steps": [moment.number for moment in moments],
        "trajectories": tokens.shape[1],
        "tokens": _packed(tokens, "<u2"),
        "confidence": _packed((255 * confidence).round(), "u1"),
        "flags": _packed(flags, "u1"),
        "running": running.int().tolist(),
        "answered": answered.int().tolist(),
        "again": again.int().tolist(),
        "restarts": again.int().cumsum(dim=0).tolist(),
        "violations": violations.tolist(),
        "verified": verified.int().tolist(),
        "found": new.sum(dim=-1).tolist(),
        "answers": [
            {
                "tokens": tokens[-1, k].tolist(),
                "text": task.render(x, tokens[-1, k]),
                "trajectories": ((boards[-1] == boards[-1, k]).all(dim=-1) & verified[-1]).nonzero()[:, 0].tolist(),
            }
            for k in new[-1].nonzero()[:, 0].tolist()
        ],
        "solutions": number,
        "exact": exact,
    }


def _packed(values: Tensor, kind: str) -> str:
    return base64.b64encode(values.numpy().astype(kind).tobytes()).decode()


def summary(data: dict[str, Any]) -> str:
    """What came of it, in a sentence or two."""
    num, different = data["trajectories"], len(data["answers"])
    verified, answered, again = (sum(data[name][-1]) for name in ("verified", "answered", "restarts"))
    if not data["judged"]:
        return f"{_many(num, 'trajectory', 'trajectories')}; no verifier says which of them are good."
    number, least = data["solutions"], "" if data["exact"] else "at least "
    if number is None:
        found = _many(different, "different answer")
    else:
        found = f"{different:,} of {least}{_many(number, 'solution')}" if number else "No solution is known, and none"
    ends = [f"{verified:,} of {_many(num, 'trajectory', 'trajectories')} came to a verified answer"]
    ends += [f"{answered - verified:,} to a wrong one"] if answered > verified else []
    ends += [f"{num - answered:,} to none"] if num > answered else []
    why = "at a contradiction" if data["decides"] else "without halting"
    more = f" {_many(again, 'try', 'tries')} ended {why} and began anew." if again else ""
    return f"{found} found: {', '.join(ends)}.{more}"


def _many(number: int, one: str, several: str = "") -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def watch_page(title: str, made: str, data: dict[str, Any]) -> str:
    """The whole page, as HTML.

    Args:
        title: in one line.
        made: how it was made, in some lines of text.
        data: what :func:`watched` gave.
    """
    assets = files(__package__) / "assets"
    document = json.dumps(data, separators=(",", ":"))
    for char in "<>&":  # which might end the script
        document = document.replace(char, f"\\u{ord(char):04x}")
    plain = "\n\n".join([data["given_text"], *(answer["text"] for answer in data["answers"])])
    texts = {"title": title, "summary": summary(data), "made": made, "plain": plain}
    parts = {name: html.escape(text) for name, text in texts.items()} | {"data": document}
    parts |= {name: (assets / f"watch.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    page = (assets / "watch.html").read_text(encoding="utf-8")
    return re.sub(r"{{(\w+)}}", lambda name: parts[name[1]], page)
