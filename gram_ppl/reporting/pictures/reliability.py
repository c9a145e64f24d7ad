"""Whether the heads' probabilities mean what they say: the reliability curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...evaluation.calibration import calibration
from ...state import Rollouts
from ...tasks.base import Task
from .style import BLUE, GREY, canvas, save, tidy


def reliability(task: Task, x: Tensor, course: Sequence[Rollouts], bins: int = 10) -> dict[str, dict[str, Any]]:
    """The calibration of halt head and value head over all depths of a course of rollouts.

    Args:
        task: its verifier says which answers are right.
        x: inputs, ``[B, L_in]``.
        course: what :func:`gram_ppl.inference.depths.rollouts_by_depth` gave.
        bins: as for :func:`gram_ppl.heads.calibration`, which made what is returned.

    Raises:
        ValueError: the rollouts come from a model without heads.
    """
    if course[0].halt is None:
        raise ValueError("these rollouts come from a model without heads: fit them with gp.fit_heads")
    x = x.to(course[0].tokens.device)
    right = torch.stack([task.verify(x[:, None], out.tokens) for out in course])
    halt, value = (torch.stack([_head(out, name) for out in course]) for name in ("halt", "value"))
    return {
        "halt": calibration(halt.sigmoid(), right, bins),
        "value": calibration(value, right[-1:].expand_as(right), bins),
    }


def _head(out: Rollouts, name: str) -> Tensor:
    found: Tensor = getattr(out, name)
    return found


TITLES = {"halt": "halt head: the answer is right now", "value": "value head: the last answer will be right"}


def draw_reliability(found: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Observed against predicted frequency, a panel a head; the area of a point is the share of its predictions.

    Args:
        found: by name of the head, what :func:`gram_ppl.heads.calibration` gave.
        path: the PNG or SVG file to write.

    Raises:
        ValueError: no head.
    """
    if not found:
        raise ValueError("there is no calibration to draw")
    figure, panels = canvas(4.4 * len(found), 4.4, columns=len(found), sharey=True)
    for axes, (name, curve) in zip(panels, found.items(), strict=True):
        total = sum(curve["counts"])
        sizes = [20 + 380 * count / total for count in curve["counts"]]
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="perfect calibration", zorder=1)
        axes.plot(curve["predicted"], curve["observed"], color=BLUE, linewidth=1, zorder=2)
        axes.scatter(curve["predicted"], curve["observed"], sizes, color=BLUE, alpha=0.75, linewidths=0, zorder=3)
        axes.set_title(TITLES.get(name, name), fontsize=10)
        score = f"Brier score {curve['brier']:.3f}\n(constant guess {curve['brier_constant']:.3f})"
        axes.text(0.97, 0.04, f"{score}\n{total:,} predictions", ha="right", va="bottom", fontsize=9, color="0.3")
        axes.set(xlabel="predicted probability", xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
        tidy(axes, grid="both")
    panels[0].set_ylabel("observed frequency")
    panels[0].legend(frameon=False, loc="upper left", fontsize=9)
    save(figure, path)
