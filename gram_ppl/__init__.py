"""GRAM, Generative Recursive Reasoning, as a probabilistic program in Pyro."""

from . import bounds, features, guides, halt, metrics, models, nn, poutine, report, select, tasks, tracking
from .arviz_adapter import to_arviz
from .checkpoint import CheckpointError, load, save
from .denoising import DenoisingELBO
from .guide import Guide
from .heads import HeadTrainer, fit_heads
from .infer import generate, rollout, solve, trajectories
from .metrics import tune
from .objective import LogLinear, SegmentELBO
from .state import Answers, Batch, Latent, Rollouts, SegmentInfo, Step
from .train import STATE_FILE, History, NonFiniteLoss, fit

__version__ = "0.1.0"

__all__ = [
    "Answers",
    "Batch",
    "CheckpointError",
    "DenoisingELBO",
    "Guide",
    "HeadTrainer",
    "History",
    "Latent",
    "LogLinear",
    "NonFiniteLoss",
    "STATE_FILE",
    "Rollouts",
    "SegmentELBO",
    "SegmentInfo",
    "Step",
    "bounds",
    "features",
    "fit",
    "fit_heads",
    "generate",
    "guides",
    "halt",
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
    "trajectories",
    "tracking",
    "tune",
    "to_arviz",
]
