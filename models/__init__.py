"""Pyro models, one a file."""

if __name__ != "gram_ppl.models":
    raise ImportError("the folder models is no package of its own: use `import gram_ppl.models`.")

from .direct import Direct
from .encoders import NodeTokens, PuzzleTokens, Tokens
from .gram import GRAM
from .hrm import HRM
from .looped import LoopedTransformer
from .noise import LearnedNoise, NoNoise, NoVariance, UnboundedNoise, ZeroMeanNoise
from .patches import Patches
from .trm import TRM

__all__ = [
    "Direct",
    "GRAM",
    "HRM",
    "LearnedNoise",
    "LoopedTransformer",
    "NoNoise",
    "NoVariance",
    "NodeTokens",
    "Patches",
    "PuzzleTokens",
    "TRM",
    "Tokens",
    "UnboundedNoise",
    "ZeroMeanNoise",
]
