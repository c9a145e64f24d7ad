"""GRAM, Generative Recursive Reasoning, as a probabilistic program in Pyro."""

from . import features, guides, metrics, models, nn, poutine, report, select, tasks
from .checkpoint import CheckpointError, load, save
from .guide import Guide
from .infer import generate, rollout, solve
from .objective import LogLinear, SegmentELBO
from .state import Answers, Batch, Latent, Rollouts, SegmentInfo
from .train import STATE_FILE, History, NonFiniteLoss, fit

__version__ = "0.1.0"

__all__ = [
    "Answers",
    "Batch",
    "CheckpointError",
    "Guide",
    "History",
    "Latent",
    "LogLinear",
    "NonFiniteLoss",
    "STATE_FILE",
    "Rollouts",
    "SegmentELBO",
    "SegmentInfo",
    "features",
    "fit",
    "generate",
    "guides",
    "load",
    "metrics",
    "models",
    "nn",
    "poutine",
    "report",
    "rollout",
    "save",
    "select",
    "solve",
    "tasks",
]
