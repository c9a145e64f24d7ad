"""The contract of a guide."""

from __future__ import annotations

import copy
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ..program.guide import Guide
from ..program.objective import SegmentELBO
from .claims import Claims
from .models import latent_sites, tokens


def check_guide(guide: Guide, objective: Any = None, *, seed: int = 0) -> None:
    """See that a guide keeps what :class:`gram_ppl.Guide` promises, over the model that it was made for.

    Latent sites with the shapes of the model's, the same values returned by name, a refusal where y is missing, a
    finite objective with gradients, copies.

    Args:
        guide: on the CPU; its weights stay as they are.
        objective: :class:`gram_ppl.SegmentELBO` if not given.
        seed: of tokens and noise.

    Raises:
        AssertionError: a promise is broken; a sentence names method and fault.
    """
    claim, objective = Claims(guide), objective or SegmentELBO()
    claim(isinstance(guide, Guide), "", "expected an object of a subclass of gp.Guide")
    with pyro.get_param_store().scope():
        _check(claim, guide, objective, seed)


def _check(claim: Claims, guide: Guide, objective: Any, seed: int) -> None:
    model: Any = claim.runs(lambda: guide.model, "__init__", "reading guide.model")
    x, y = tokens(model.spec, seed)
    if guide.needs_y:
        claim.refuses(lambda: guide(x), "forward", "a missing y")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trace = claim.runs(lambda: poutine.trace(guide).get_trace(x, y), "posterior", "a run")
        theirs = latent_sites(poutine.trace(model).get_trace(x, y))
        ours = latent_sites(trace)
        claim("y" not in trace.nodes, "forward", "the guide has a site y")
        strangers = sorted(set(ours) - set(theirs))
        claim(not strangers, "forward", f"it has sites that the model lacks: {', '.join(strangers)}")
        hidden = [name for name, site in theirs.items() if not site["is_observed"] and name not in ours]
        claim(not hidden, "forward", f"it has no sites for latent variables of the model: {', '.join(hidden)}")
        for name, site in ours.items():
            for part in ("batch_shape", "event_shape"):
                found, expected = (tuple(getattr(one["fn"], part)) for one in (site, theirs[name]))
                sentence = f"at {name} the {part} is {found}, and the prior's is {expected}"
                claim(found == expected, "posterior", sentence)
            claim(site["value"].isfinite().all(), "posterior", f"a value at {name} is not finite")
        _rows(claim, guide, trace, x, y)
        returned = trace.nodes["_RETURN"]["value"]
        same = returned.keys() == ours.keys() and all(returned[name] is ours[name]["value"] for name in ours)
        claim(same, "forward", "it does not return the values of its sites by name")
        loss, _ = claim.runs(lambda: objective(model, guide)(x, y), "posterior", "the objective")
        claim(loss.isfinite(), "posterior", f"the objective is {loss.item()}")
        weights = [weight for weight in guide.parameters() if weight.requires_grad]
        slopes = torch.autograd.grad(loss, weights, allow_unused=True) if weights and loss.requires_grad else []
        good = all(slope is None or slope.isfinite().all() for slope in slopes)
        claim(good, "posterior", "a gradient of the objective is not finite")
        reached = not weights or any(slope is not None for slope in slopes)
        claim(reached, "posterior", "none of its parameters has a gradient of the objective")
        claim.runs(lambda: copy.deepcopy(objective(model, guide))(x, y), "__init__", "a deep copy")


def _rows(claim: Claims, guide: Guide, trace: Any, x: Tensor, y: Tensor) -> None:
    """At the same values a row's density is the same again, and without the other rows."""

    def scored(rows: slice) -> dict[str, Tensor]:
        given = trace.copy()
        for name, site in latent_sites(trace).items():
            given.nodes[name] = site | {"value": site["value"][rows]}
        again = poutine.trace(poutine.replay(guide, trace=given)).get_trace(x[rows], y[rows])
        return {name: site["fn"].log_prob(site["value"]) for name, site in latent_sites(again).items()}

    whole = scored(slice(None))
    for name, score in scored(slice(None)).items():
        same = torch.allclose(score, whole[name], rtol=1e-3, atol=1e-3)
        claim(same, "posterior", f"at {name} the same latent values have another density when asked again")
    for row in range(len(x)):
        for name, score in scored(slice(row, row + 1)).items():
            same = torch.allclose(score[0], whole[name][row], rtol=1e-3, atol=1e-3)
            claim(same, "posterior", f"at {name} the rows of a batch depend on each other")
