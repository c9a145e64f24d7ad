"""Pyro models, one a file."""

if __name__ != "gram_ppl.models":
    raise ImportError("the folder models is no package of its own: use `import gram_ppl.models`.")

from .baselines.autoregressive import Autoregressive
from .baselines.d3pm import D3PM
from .baselines.direct import Direct
from .baselines.hrm import HRM
from .baselines.kernels import Absorbing, Uniform
from .baselines.looped import LoopedTransformer
from .baselines.mdlm import MDLM
from .baselines.trm import TRM
from .baselines.vae import VAE
from .deciding import Deciding
from .decisions import AllSure, Both, Drop, RandomCells, RuleOut, SurestCells, View
from .encoders.patches import Patches
from .encoders.tokens import NodeTokens, PuzzleTokens, Tokens
from .gram import GRAM
from .noise import LearnedNoise, NoNoise, NoVariance, UnboundedNoise, ZeroMeanNoise

__all__ = [
    "Absorbing",
    "AllSure",
    "Autoregressive",
    "Both",
    "D3PM",
    "Deciding",
    "Direct",
    "Drop",
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
    "RandomCells",
    "RuleOut",
    "SurestCells",
    "TRM",
    "Tokens",
    "UnboundedNoise",
    "Uniform",
    "VAE",
    "View",
    "ZeroMeanNoise",
]
