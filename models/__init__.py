"""Pyro models, one a file."""

if __name__ != "gram_ppl.models":
    raise ImportError("the folder models is no package of its own: use `import gram_ppl.models`.")

from .gram import GRAM
from .noise import LearnedNoise, NoNoise, NoVariance, ZeroMeanNoise

__all__ = ["GRAM", "LearnedNoise", "NoNoise", "NoVariance", "ZeroMeanNoise"]
