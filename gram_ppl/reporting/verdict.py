"""What a run is and whether it is good, in a few sentences."""

from __future__ import annotations

from typing import Any

from ..tasks.base import Task
from ..training.record import History

GOOD, FAIR = 0.95, 0.7  # least shares of right answers


def verdict(model: Any, task: Task, metrics: dict[str, Any], history: History) -> str:
    """The paragraph that a page begins with.

    Args:
        model: the program.
        task: what it was trained on.
        metrics: what :func:`gram_ppl.metrics.evaluate` returned, or ``accuracy`` alone; nothing if nobody measured.
        history: records of the training; empty if there are none.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    parts = [f"{model.title} of {parameters:,} parameters on {task.title}"]
    if history:
        parts.append(f"after {history[-1].update:,} updates in {_time(history[-1].seconds)}")
    sentences = [", ".join(parts) + "."]
    if not task.judged:
        sentences.append("No verifier says whether its answers are good: look at the pictures.")
    elif "accuracy" in metrics:
        sentences += [_worth(metrics), *_variety(metrics)]
    return " ".join(sentences)


def _worth(metrics: dict[str, Any]) -> str:
    one, chosen = metrics["accuracy"], metrics.get("selected_accuracy")
    best = one if chosen is None else chosen
    word = "good" if best >= GOOD else "fair" if best >= FAIR else "poor"
    shares = f"one sample is right in {_share(one)}"
    if chosen is not None:
        shares = f"the answer chosen among {metrics['num_samples']:,} samples is right in {_share(chosen)}, " + shares
    tested = f" of {metrics['num_test']:,} unseen inputs" if "num_test" in metrics else ""
    left = metrics.get("selected_unanswered") or 0
    return f"It is {word}: {shares}{tested}{f', and {_share(left)} stay unanswered' if left else ''}."


def _variety(metrics: dict[str, Any]) -> list[str]:
    if "coverage" not in metrics:
        return []
    if "boards_in_all" in metrics:
        return [f"It makes {_share(metrics['coverage'])} of the {metrics['boards_in_all']:,} boards that there are."]
    found = f"Of inputs with several solutions it finds {_share(metrics['coverage'])} of them"
    ideal = metrics.get("coverage_ceiling")
    return [found + (f"; as many draws of an ideal sampler would find {_share(ideal)}." if ideal else ".")]


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:,.0f} s" if minutes < 3 else f"{minutes:,} min" if minutes < 180 else f"{minutes / 60:,.1f} h"
