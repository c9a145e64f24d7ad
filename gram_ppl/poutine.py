"""Effect handlers over the unchanged program, and the two effects that a model offers them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK, effectful
from pyro.poutine.trace_messenger import TraceMessenger
from torch import nn

from .state import Latent


@effectful(type="transition")
def transition(step: Callable[[Latent], Latent], z: Latent, *, charged: bool) -> Latent:
    """One latent transition z → step(z) as an effect, so that handlers can act on it.

    Args:
        step: the transition; it holds one sample site.
        z: the state before it.
        charged: whether it is the last one of its supervision step, the one whose KL eq. 14 charges.
    """
    return step(z)


class GradientWindow(Messenger):
    """Gradients of the last transition of each supervision step only (eq. 14): memory constant in depth.

    The state before every transition is detached, and all but the last of a supervision step run without
    a gradient tape.
    """

    def _pyro_transition(self, msg: Any) -> None:
        step, z = msg["args"]
        msg["args"] = (step, Latent(*(state.detach() for state in z)))
        if not msg["kwargs"]["charged"]:
            msg["fn"] = torch.no_grad()(msg["fn"])


class Replay(ReplayMessenger):
    """As ``poutine.replay``, which takes ``infer`` from the guide's site, but keeps what the model's site says.

    A guide that names its sites and no more must not make the model's charged sites free.
    """

    def _pyro_sample(self, msg: Any) -> None:
        infer = msg["infer"]
        super()._pyro_sample(msg)
        msg["infer"] = {**infer, **msg["infer"]}


class Record(TraceMessenger):
    """As ``poutine.trace``, for an objective's own traces: it doesn't listen for parameters (:func:`register`)."""


def register(name: str, module: nn.Module) -> None:
    """``pyro.module`` where somebody outside listens for parameters, as ``SVI.step`` does; free elsewhere.

    Raises:
        RuntimeError: the parameter store holds another module's parameters under this name, which stock
            Pyro would train in silence instead of these.
    """
    if not any(isinstance(f, TraceMessenger) and not isinstance(f, (GuideMessenger, Record)) for f in _PYRO_STACK):
        return
    for key, parameter in module.named_parameters():
        if parameter.requires_grad and pyro.param(f"{name}$$${key}", parameter) is not parameter:
            raise RuntimeError(
                f"the parameter store holds {key!r} of another module named {name!r}: call pyro.clear_param_store()"
            )
