"""Trained weights that the library brings, ready to answer."""

from __future__ import annotations

from typing import Any, NamedTuple

from .card import Card, digest
from .checkpoint import MODEL_FILE, CheckpointError, load
from .measurement import Measurement
from .places import PRETRAINED, located


class Pretrained(NamedTuple):
    """What :func:`pretrained` gives."""

    model: Any
    guide: Any
    task: Any
    options: dict[str, Any]


def pretrained(name: str) -> Pretrained:
    """A trained model by its name, such as ``"sudoku4"``; ``gram-ppl list`` names them all.

    >>> model, guide, task, options = gp.pretrained("sudoku4")
    >>> x = task.parse("1... .... ...2 ....")
    >>> gp.solve(model, task, x, **options, seed=0).verified
    tensor([True])
    >>> task.num_solutions(x)
    18

    Args:
        name: of the weights.

    Returns:
        Model, guide and task, on the CPU, and the options of :func:`gram_ppl.solve` or :func:`gram_ppl.generate` that
        the figures of its card were measured with.

    Raises:
        ValueError: there are no weights of that name.
        CheckpointError: they are damaged.
    """
    folder = located(f"{PRETRAINED}{str(name).removeprefix(PRETRAINED)}")
    card = Card.read(folder)
    if card is None or digest(folder / MODEL_FILE) != card.sha256:
        raise CheckpointError(f"{folder / MODEL_FILE}: these are not the weights that the card tells of")
    model, guide, task = load(folder)
    how = Measurement.stored(folder)
    return Pretrained(model, guide, task, {"num_samples": how.samples, **how.options(task)})
