"""Where the parameters of models and guides meet Pyro's parameter store."""

from __future__ import annotations

import pyro
from pyro.ops.provenance import detach_provenance
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.trace_messenger import TraceMessenger
from torch import nn

from .poutine import Record


def register(name: str, module: nn.Module) -> None:
    """``pyro.module`` where somebody outside listens for parameters, as ``SVI.step`` does; free elsewhere.

    Args:
        name: of the module in Pyro's parameter store: ``program.name`` or ``guide.name``.
        module: its parameters are registered.

    Raises:
        RuntimeError: the parameter store holds another module's parameters under this name, which stock Pyro would
            train in silence instead of these; or a handler changes parameters, which the module would not see.
    """
    if not any(isinstance(f, TraceMessenger) and not isinstance(f, (GuideMessenger, Record)) for f in _PYRO_STACK):
        return
    store = pyro.get_param_store()
    for key, parameter in module.named_parameters():
        full = f"{name}$$${key}"
        if not parameter.requires_grad or detach_provenance(pyro.param(full, parameter)) is parameter:
            continue
        if full in store and store[full] is not parameter:
            raise RuntimeError(
                f"the parameter store holds {key!r} of another module named {name!r}: register this one under a name "
                f"of its own, such as module.name = '{name}_2', or call pyro.clear_param_store() if the other is done"
            )
        raise RuntimeError(
            f"a handler gives {key!r} of {name!r} another value, and a module computes with its own parameters"
        )


def unbound(module: nn.Module) -> None:
    """Take off the weak references that the parameter store puts on parameters when asked: nothing can pickle them."""
    for parameter in module.parameters():
        vars(parameter).pop("unconstrained", None)
