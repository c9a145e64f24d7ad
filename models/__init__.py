"""Pyro models, one a file."""

if __name__ != "gram_ppl.models":
    raise ImportError("the folder models is no package of its own: use `import gram_ppl.models`.")

from .encoders import NodeTokens, PuzzleTokens, Tokens
from .gram import GRAM
from .noise import LearnedNoise, NoNoise, NoVariance, UnboundedNoise, ZeroMeanNoise
from .patches import Patches

__all__ = [
    "GRAM",
    "LearnedNoise",
    "NoNoise",
    "NoVariance",
    "NodeTokens",
    "Patches",
    "PuzzleTokens",
    "Tokens",
    "UnboundedNoise",
    "ZeroMeanNoise",
]
