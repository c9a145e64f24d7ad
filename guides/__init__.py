"""Pyro guides, one a file."""

if __name__ != "gram_ppl.guides":
    raise ImportError("the folder guides is no package of its own: use `import gram_ppl.guides`.")

from .amortized import AmortizedGuide, EveryTransition
from .noising import Noising
from .plain import Plain
from .prior import Empty, PriorGuide
from .recognition import Recognition
from .revealing import Revealing

__all__ = ["AmortizedGuide", "Empty", "EveryTransition", "Noising", "Plain", "PriorGuide", "Recognition", "Revealing"]
