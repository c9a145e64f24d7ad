"""Pyro models, one a file."""

if __name__ != "gram_ppl.models":
    raise ImportError("the folder models is no package of its own: use `import gram_ppl.models`.")

from .autoregressive import Autoregressive
from .d3pm import D3PM
from .direct import Direct
from .encoders import NodeTokens, PuzzleTokens, Tokens
from .gram import GRAM
from .hrm import HRM
from .kernels import Absorbing, Uniform
from .looped import LoopedTransformer
from .mdlm import MDLM
from .noise import LearnedNoise, NoNoise, NoVariance, UnboundedNoise, ZeroMeanNoise
from .patches import Patches
from .trm import TRM
from .vae import VAE

__all__ = [
    "Absorbing",
    "Autoregressive",
    "D3PM",
    "Direct",
    "GRAM",
    "HRM",
    "LearnedNoise",
    "LoopedTransformer",
    "MDLM",
    "NoNoise",
    "NoVariance",
    "NodeTokens",
    "Patches",
    "PuzzleTokens",
    "TRM",
    "Tokens",
    "UnboundedNoise",
    "Uniform",
    "VAE",
    "ZeroMeanNoise",
]
