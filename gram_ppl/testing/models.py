"""The contract of a model."""

from __future__ import annotations

import json
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..inference.rollout import rollout
from ..program.model import Program
from ..state import Latent
from ..storage.descriptions import describe
from ..tasks.base import Spec
from .claims import Claims

ROWS = 3


def tokens(spec: Spec, seed: int) -> tuple[Tensor, Tensor]:
    """Random inputs and answers of a task, ``[ROWS, L_in], [ROWS, L_out]``; answers keep to what inputs leave."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(spec.vocab_in, (ROWS, spec.len_in), generator=generator)
    open_ = torch.ones(ROWS, spec.len_out, spec.vocab_out) if spec.leaves is None else spec.leaves.float()
    if spec.leaves is not None:
        open_ = open_[x] if len(open_) > 1 else open_[0].expand(ROWS, spec.len_out, -1)
    return x, torch.multinomial(open_.flatten(0, 1), 1, generator=generator).view(ROWS, spec.len_out)


def latent_sites(trace: Any) -> dict[str, Any]:
    """Sample sites of a trace but plates and the answer."""
    nodes = trace.nodes.items()
    return {name: site for name, site in nodes if site["type"] == "sample" and name not in ("batch", "y")}


def check_model(model: Program, *, seed: int = 0) -> None:
    """See that a model keeps what :class:`gram_ppl.Program` promises.

    Its attributes, the arguments that build it again, the program (plate, answer, latent state), gradients, the
    unconditional program, and rollouts.

    Args:
        model: on the CPU; its weights stay as they are.
        seed: of tokens and noise.

    Raises:
        AssertionError: a promise is broken; a sentence names method and fault.
    """
    claim = Claims(model)
    claim(isinstance(model, Program), "", "expected an object of a subclass of gp.Program")
    with pyro.get_param_store().scope():
        _check(claim, model, seed)


def _check(claim: Claims, model: Program, seed: int) -> None:
    for name in ("spec", "width", "supervision"):
        claim.runs(getattr, name, "reading it", model, name)
    x, y = tokens(model.spec, seed)
    _arguments(claim, model)
    _states(claim, model, x)
    _program(claim, model, x, y, seed)
    found = claim.runs(lambda: rollout(model, x, num_samples=4, steps=2, seed=seed), "forward", "a rollout")
    again = rollout(model, x, num_samples=4, steps=2, seed=seed, chunk=5)
    claim(torch.equal(found.tokens, again.tokens), "forward", "the rows of a batch depend on each other")
    _answers(claim, model.spec, found.tokens, "rollouts")


def _arguments(claim: Claims, model: Program) -> None:
    claim.runs(lambda: json.dumps(describe(model)), "__init__", "writing its arguments as JSON for a checkpoint")
    maker: Any = type(model)
    twin = claim.runs(lambda: maker(model.spec, **model.config), "__init__", "building it again from model.config")
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (model, twin)]
    claim(shapes[0] == shapes[1], "__init__", "a model with the same arguments has other weights")


def _states(claim: Claims, model: Program, x: Tensor) -> None:
    z = claim.runs(lambda: model.begin(x, ROWS), "begin", "the state before the first step")
    claim(isinstance(z, Latent), "begin", f"expected a gp.Latent, found {type(z).__name__}")
    good = len(z.h) == ROWS and z.h.dim() == 3
    claim(good, "begin", f"expected [B, L, D] with B = {ROWS}, found {list(z.h.shape)}")
    answer = claim.runs(lambda: model.decode(z), "decode", "the answer of a state")
    shapes = tuple(answer.batch_shape), tuple(answer.event_shape)
    expected = (ROWS,), (model.spec.len_out,)
    claim(shapes == expected, "answer", f"expected batch and event shape {expected}, found {shapes}")


def _program(claim: Claims, model: Program, x: Tensor, y: Tensor, seed: int) -> None:
    def traced(*given: Any, **options: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return claim.runs(lambda: poutine.trace(model).get_trace(*given, **options), "forward", "a run")

    trace = traced(x, y, steps=1)
    returned = trace.nodes["_RETURN"]["value"]
    good = isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], Latent)
    claim(good, "forward", "expected to return (gp.Latent, y)")
    claim(
        "y" in trace.nodes and trace.nodes["y"]["is_observed"], "forward", "the answer y that is given is not observed"
    )
    claim(returned[1].equal(y), "forward", "it returns another answer than the one that is given")
    for name, site in {**latent_sites(trace), "y": trace.nodes["y"]}.items():
        plates = [frame.name for frame in site["cond_indep_stack"]]
        claim(plates == ["batch"], "forward", f"expected site {name} in the plate batch alone, found {plates}")
        shape = tuple(site["fn"].batch_shape)
        claim(shape == (ROWS,), "forward", f"expected site {name} of batch shape ({ROWS},), found {shape}")
    free = traced(x, steps=1)
    claim(not free.nodes["y"]["is_observed"], "forward", "without y an answer is observed")
    _answers(claim, model.spec, free.nodes["y"]["value"], "samples of y")
    again = traced(x, y, steps=1).nodes["_RETURN"]["value"][0]
    claim(again.h.equal(returned[0].h), "forward", "the same seed gives another state")
    further = traced(x, y, latent=returned[0], steps=1, start=1)
    claim(further.nodes["_RETURN"]["value"][0].h.shape == again.h.shape, "forward", "a carried state changes its shape")
    if model.block is None:  # decisions of the prior may exclude y
        score = trace.log_prob_sum()
        claim(score.isfinite(), "forward", "log p(y, τ | x) is not finite")
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        slopes = torch.autograd.grad(score, weights, allow_unused=True) if score.requires_grad else []
        good = any(slope is not None and slope.abs().sum() > 0 for slope in slopes)
        claim(good, "forward", "no weight has a gradient of log p(y, τ | x)")
    alone = traced(None, y[:1], steps=1).nodes["_RETURN"]["value"][0]
    claim(len(alone.h) == 1, "forward", f"without x it has {len(alone.h)} rows for one y")


def _answers(claim: Claims, spec: Spec, y: Tensor, what: str) -> None:
    claim(y.shape[-1] == spec.len_out, "forward", f"{what} have {y.shape[-1]} tokens, expected {spec.len_out}")
    claim((y >= -1).all() and (y < spec.vocab_out).all(), "forward", f"{what} have tokens outside the vocabulary")
