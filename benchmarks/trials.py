"""What somebody who comes from Pyro, or from numpy, tries first, and what it says: a line for each trial.

    python benchmarks/trials.py

On 4×4 Sudoku, width 16, a batch of 8, of GRAM and of GRAM that decides; each trial begins with fresh weights and an
empty parameter store. Ten seconds on one core. ``tests/test_trials.py`` holds the answers.
"""

from __future__ import annotations

import copy
import logging
import pickle
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI, RenyiELBO, ReweightedWakeSleep, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.inspect import get_model_relations
from torch import Tensor

import gram_ppl as gp

TASK = gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=2, num_test=8, pool=50)
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "GRAM": (gp.models.GRAM, gp.guides.AmortizedGuide, {}),
    "Deciding": (gp.models.Deciding, gp.guides.Revealing, {"block": 1}),
}


class Try(NamedTuple):
    """What a trial is made with."""

    model: Any
    guide: Any
    x: Tensor  # [8, 16]
    y: Tensor  # [8, 16]


def fresh(name: str) -> Try:
    """A model, its guide and eight puzzles."""
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    return Try(*made(name), *next(TASK.batches("train", 8, torch.Generator().manual_seed(0))))


def made(name: str, seed: int = 0) -> tuple[Any, Any]:
    """A model and its guide, whose noise is moved off the prior's."""
    model, guide, options = MODELS[name]
    program = model(TASK.spec, width=16, seed=seed, **options)
    q = guide(program)
    for parameter in q.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return program, q


def step(t: Try, elbo: Any, guide: Any = None, **kwargs: Any) -> Any:
    """A step of SVI."""
    adam = pyro.optim.PyroOptim(torch.optim.Adam, {"lr": 1e-3})
    return SVI(t.model, guide or t.guide, adam, elbo).step(t.x, t.y, **kwargs)


def trained(t: Try) -> Try:
    """After a step of SVI, which fills the parameter store."""
    step(t, Trace_ELBO())
    return t


def second(t: Try, named: bool = False) -> Any:
    """Another model of the same kind, and its guide, in the parameter store."""
    other, guide = made(type(trained(t).model).__name__, seed=1)
    if named:
        other.name, guide.name = "model_2", "guide_2"
    return step(Try(other, guide, t.x, t.y), Trace_ELBO())


def worn(t: Try, handler: Any) -> str:
    """Loss of the segment with and without a handler around the guide."""
    losses = []
    for guide in (t.guide, handler(t.guide)):
        pyro.set_rng_seed(0)
        losses.append(gp.SegmentELBO()(t.model, guide)(t.x, t.y)[0].item())
    return "{:.4f} without, {:.4f} with it".format(*losses)


def converted(t: Try, dtype: torch.dtype) -> Any:
    """An answer of a model of other precision."""
    return gp.solve(t.model.to(dtype), TASK, t.x, num_samples=2).tokens


def relations(t: Try) -> str:
    """What ``pyro.render_model`` draws."""
    found = get_model_relations(t.model, (t.x, t.y), {"steps": 1})
    return f"plate {found['plate_sample']}, observed {found['observed']}"


def solved(t: Try, x: Any, **options: Any) -> Tensor:
    """Answers to inputs of some kind."""
    return gp.solve(t.model, TASK, x, num_samples=2, **options).tokens


many = {"num_particles": 2, "vectorize_particles": True}
TRIALS: dict[str, Callable[[Try], Any]] = {
    "get_model_relations(fresh model)": relations,
    "pickle.dumps(model), before": lambda t: pickle.loads(pickle.dumps(t.model)),
    "pickle.dumps(model), after SVI": lambda t: pickle.loads(pickle.dumps(trained(t).model)),
    "pickle.dumps(guide), after SVI": lambda t: pickle.loads(pickle.dumps(trained(t).guide)),
    "copy.deepcopy(guide), after SVI": lambda t: copy.deepcopy(trained(t).guide),
    "Trace_ELBO": lambda t: step(t, Trace_ELBO()),
    "Trace_ELBO, vectorized particles": lambda t: step(t, Trace_ELBO(**many)),
    "TraceMeanField_ELBO, vectorized": lambda t: step(t, TraceMeanField_ELBO(**many)),
    "RenyiELBO, vectorized": lambda t: step(t, RenyiELBO(alpha=0.5, **many)),
    "IWAE: RenyiELBO(alpha=0)": lambda t: step(t, RenyiELBO(alpha=0, **many)),
    "ReweightedWakeSleep": lambda t: step(t, ReweightedWakeSleep(num_particles=2)),
    "ReweightedWakeSleep, guides.Plain": lambda t: step(
        t, ReweightedWakeSleep(num_particles=2), gp.guides.Plain(t.guide)
    ),
    "SVI with SegmentELBO": lambda t: step(t, gp.SegmentELBO()),
    "AutoNormal": lambda t: step(t, Trace_ELBO(), AutoNormal(t.model)),
    "poutine.scale(guide, 2.)": lambda t: worn(t, lambda guide: poutine.scale(guide, scale=2.0)),
    "poutine.mask(guide, False)": lambda t: worn(t, lambda guide: poutine.mask(guide, mask=False)),
    "poutine.block(guide)": lambda t: worn(t, poutine.block),
    "poutine.condition(guide, ...)": lambda t: worn(
        t, lambda guide: poutine.condition(guide, data=t.guide(t.x, t.y, steps=4))
    ),
    "model(x), float tokens": lambda t: t.model(t.x.float())[1],
    "model(x), tokens out of range": lambda t: t.model(t.x + 5)[1],
    "model(x), 5 tokens": lambda t: t.model(t.x[:, :5])[1],
    "model(x), no rows": lambda t: t.model(t.x[:0])[1],
    "model(x), numpy array": lambda t: t.model(t.x.numpy())[1],
    "solve, float tokens": lambda t: solved(t, t.x.float()),
    "solve, tokens out of range": lambda t: solved(t, t.x + 5),
    "solve, 5 tokens": lambda t: solved(t, t.x[:, :5]),
    "solve, no rows": lambda t: solved(t, t.x[:0]),
    "solve, numpy array": lambda t: solved(t, t.x.numpy()),
    'solve, device="cuda"': lambda t: solved(t, t.x, device="cuda"),
    'fit, device="cuda"': lambda t: gp.fit(t.model, t.guide, TASK, updates=1, device="cuda", progress=False),
    "model.half()": lambda t: converted(t, torch.half),
    "model.double()": lambda t: converted(t, torch.double),
    "a second model in the store": second,
    "a second model, named": lambda t: second(t, named=True),
}


def said(name: str, model: str) -> str:
    """What a trial answers, in one line: a value, or an error's type and first line."""
    try:
        found = TRIALS[name](fresh(model))
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    if isinstance(found, Tensor):
        return f"{found.dtype} {list(found.shape)}"
    return type(found).__name__ if isinstance(found, torch.nn.Module) else str(found)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    for trial in TRIALS:
        for model in MODELS:
            print(f"{trial:34} {model:9} {said(trial, model)}")
