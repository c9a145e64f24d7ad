"""GRAM, Generative Recursive Reasoning, as a probabilistic program in Pyro."""

from . import guides, models, nn, tasks, testing
from .evaluation import bounds, features, metrics
from .evaluation.metrics import tune
from .evaluation.uniformity import uniformity
from .inference import halt, select
from .inference.rollout import rollout, trajectories
from .inference.solve import generate, solve
from .program import poutine
from .program.deciding import DecidingELBO
from .program.denoising import DenoisingELBO
from .program.guide import Guide
from .program.model import Program
from .program.objective import LogLinear, SegmentELBO
from .reporting import tables as report
from .reporting.arviz import to_arviz
from .runtime.moved import install
from .state import Answers, Batch, Latent, Rollouts, SegmentInfo, Step
from .storage.card import Card
from .storage.checkpoint import CheckpointError, load, save
from .storage.pretrained import pretrained
from .training import tracking
from .training.fit import STATE_FILE, History, NonFiniteLoss, fit
from .training.fit_heads import HeadTrainer, fit_heads
from .training.own_states import OwnStates

install()

__version__ = "0.1.0"

__all__ = [
    "Answers",
    "Batch",
    "Card",
    "CheckpointError",
    "DecidingELBO",
    "DenoisingELBO",
    "Guide",
    "HeadTrainer",
    "History",
    "Latent",
    "LogLinear",
    "NonFiniteLoss",
    "OwnStates",
    "Program",
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
    "pretrained",
    "report",
    "rollout",
    "save",
    "select",
    "solve",
    "tasks",
    "testing",
    "trajectories",
    "tracking",
    "tune",
    "to_arviz",
    "uniformity",
]
