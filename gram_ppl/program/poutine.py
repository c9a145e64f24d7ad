"""Effect handlers over the unchanged program: gradients, traces, noise; and two effects that a model offers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.messenger import Messenger
from pyro.poutine.plate_messenger import PlateMessenger
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK, effectful
from pyro.poutine.trace_messenger import TraceMessenger
from torch import Tensor

from ..runtime.precision import full
from ..state import Latent


@effectful(type="transition")
def transition(move: Callable[[Latent], Latent], z: Latent, *, charged: bool) -> Latent:
    """One latent transition z → move(z) as an effect, so that handlers can act on it.

    The effect also takes ``name=``, that of its site, and ``infer=``, with ``"step"`` the number of the supervision
    step: handlers read them.

    Args:
        move: the transition; it holds one sample site.
        z: the state before it.
        charged: whether it is the last one of its supervision step, the one whose KL eq. 14 charges.
    """
    return move(z)


@effectful(type="supervision")
def supervision(z: Latent) -> Latent:
    """The state after the transitions of a supervision step, as an effect; ``infer["step"]`` is the step's number."""
    return z


@effectful(type="chance")
def chance(draw: Callable[[int, torch.Generator | None], Tensor], rows: int) -> Tensor:
    """Random numbers ``draw(rows, generator)`` of each row as an effect, so that a handler can draw more of them."""
    return draw(rows, None)


class GradientWindow(Messenger):
    """Gradients of the last transition of each supervision step only (eq. 14): memory constant in depth.

    The state before every transition is detached, and all but the last of a supervision step run without
    a gradient tape.

    Args:
        first: number of a supervision step; from it on gradients flow through everything, and before it nowhere.
    """

    def __init__(self, first: int | None = None) -> None:
        super().__init__()
        self.first = first
        self.inside = False  # whether the state has a gradient to keep

    def _pyro_transition(self, msg: Any) -> None:
        move, z = msg["args"]
        if self.first is None:
            cut, taped = True, msg["kwargs"]["charged"]
        else:
            taped = msg["infer"]["step"] >= self.first
            cut, self.inside = not (taped and self.inside), taped
        if cut:
            msg["args"] = (move, z.map(torch.Tensor.detach))
        if not taped:
            msg["fn"] = torch.no_grad()(msg["fn"])


class Visited(Messenger):
    """Remembers the states after supervision steps, in :attr:`states`, by the number of the step.

    Args:
        first: number of the first of them.
        every: remember each, not the last alone.
    """

    def __init__(self, first: int = 0, *, every: bool = True) -> None:
        super().__init__()
        self.first, self.every = first, every
        self.states: dict[int, Latent] = {}

    def _pyro_post_supervision(self, msg: Any) -> None:
        step = msg["infer"]["step"]
        if step >= self.first:
            self.states = {**(self.states if self.every else {}), step: msg["value"]}


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


class Hidden(BlockMessenger):
    """As ``poutine.block(hide_fn=...)``, but plates around it, that of vectorized particles say, still act."""

    def _process_message(self, msg: Any) -> None:
        super()._process_message(msg)
        if msg["stop"]:
            for handler in reversed(_PYRO_STACK[: _PYRO_STACK.index(self)]):
                if isinstance(handler, PlateMessenger):
                    handler._process_message(msg)


class Temperature(Messenger):
    """Scales the standard deviation of the prior's noise, at every site that has a proposal.

    1 changes nothing, 0 leaves the mean path. Above 1 answers are more various, below 1 more alike. Logits of
    categorical sites, decisions among them, are divided by it.

    Args:
        value: the factor, or a function of the number of the supervision step, counted from 0 (:class:`Anneal`).

    Raises:
        ValueError: a negative factor, or noise that is neither Gaussian nor categorical.
    """

    def __init__(self, value: float | Callable[[int], float]) -> None:
        super().__init__()
        self.value = value
        if not callable(value):
            _scale(value, 0, self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value})"

    def _pyro_sample(self, msg: Any) -> None:
        if msg["infer"].keys().isdisjoint(("proposal", "labels")) or msg["is_observed"]:
            return
        fn, factor = msg["fn"], _scale(self.value, msg["infer"].get("step", 0), self)
        base = getattr(fn, "base_dist", fn)
        if isinstance(base, torch.distributions.Categorical):
            sharp = base.logits / max(factor, 1e-6)
            msg["fn"] = dist.Categorical(logits=sharp).to_event(fn.event_dim)
            return
        if not isinstance(base, torch.distributions.Normal):
            raise ValueError(f"{self} needs Gaussian or categorical noise, and {msg['name']!r} is {base}")
        if factor == 0:
            msg["fn"] = dist.Delta(base.loc).to_event(fn.event_dim)
        elif factor != 1:
            family: Any = type(base)
            msg["fn"] = family(base.loc, factor * base.scale).to_event(fn.event_dim)


@dataclass(frozen=True)
class Anneal:
    """From ``first`` to ``last`` in equal steps over ``steps`` supervision steps, constant afterwards."""

    first: float
    last: float
    steps: int

    def __call__(self, step: int) -> float:
        """The value in supervision step ``step``, counted from 0."""
        return self.first + (self.last - self.first) * min(step / max(self.steps - 1, 1), 1.0)


class ExtraNoise(Messenger):
    """Adds Normal(0, std²) noise to h after every transition, by a site ``extra_...`` of its own.

    Noise at test time only, as PTRM gives to a deterministic model; the prior's own noise stays as it is.

    Args:
        std: standard deviation, or a function of the number of the supervision step, counted from 0.

    Raises:
        ValueError: a negative standard deviation.
    """

    def __init__(self, std: float | Callable[[int], float]) -> None:
        super().__init__()
        self.std = std
        if not callable(std):
            _scale(std, 0, self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.std})"

    def _pyro_transition(self, msg: Any) -> None:
        move, z = msg["args"]
        std = _scale(self.std, msg["infer"].get("step", 0), self)

        def shaken(z: Latent) -> Latent:
            z = move(z)
            noise = dist.Normal(torch.zeros_like(z.h), std).to_event(z.h.dim() - 1)
            return z._replace(h=z.h + pyro.sample(f"extra_{msg['name']}", noise))

        if std > 0:
            msg["args"] = (shaken, z)


def _scale(value: float | Callable[[int], float], step: int, owner: object) -> float:
    number = value(step) if callable(value) else value
    if number < 0:
        raise ValueError(f"{type(owner).__name__} must not be negative, got {number}")
    return number


class Streams(Messenger):
    """Every row of the batch draws its noise from a stream of its own, and y is its most probable value.

    What a trajectory does then depends on its own seed only, not on the rows beside it. It acts after all other
    handlers, wherever they stand; sites that are neither Normal nor categorical draw from torch's global generator.
    On the CPU each row has a generator; on CUDA all rows share one, and the draws of absent rows are dropped.

    Args:
        seed: row r has the stream ``seed + r``.
        first: number of the first row.
        rows: how many rows there are.
        device: where the noise is needed.
    """

    def __init__(self, seed: int, first: int, rows: int, device: torch.device) -> None:
        super().__init__()
        self.rows = rows
        self.present: Tensor | None = None  # [B'] int64, the rows in the batch; all if None
        count = rows if device.type == "cpu" else 1
        self.generators = [torch.Generator(device).manual_seed(seed + first + row) for row in range(count)]

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal noise of the rows present, ``[B', ...]``."""
        if like.device.type != "cpu":
            size = (self.rows, *like.shape[1:])
            noise = torch.randn(size, dtype=like.dtype, device=like.device, generator=self.generators[0])
            return noise if self.present is None else noise[self.present]
        noise = torch.empty_like(like, memory_format=torch.contiguous_format)
        present = range(self.rows) if self.present is None else self.present.tolist()
        for row, target in zip(present, noise.unbind(), strict=True):
            target.normal_(generator=self.generators[row])
        return noise

    def gumbel(self, like: Tensor) -> Tensor:
        """Standard Gumbel noise of the rows present, -log(-log U) with U = Φ(a standard normal number).

        The argmax of logits plus such noise is a sample of the categorical distribution.
        """
        return -(-torch.special.log_ndtr(full(self.normal(like)))).log()

    def __enter__(self) -> Streams:
        _PYRO_STACK.insert(0, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self in _PYRO_STACK:  # an error inside a handler's block has removed it already
            _PYRO_STACK.remove(self)

    def _pyro_sample(self, msg: Any) -> None:
        if msg["value"] is not None:
            return
        base = getattr(msg["fn"], "base_dist", msg["fn"])
        if msg["name"] == "y":
            msg["value"] = base.logits.argmax(dim=-1)
        elif type(base) in (dist.Normal, torch.distributions.Normal):
            msg["value"] = torch.addcmul(base.loc, base.scale, self.normal(base.loc))
        elif isinstance(base, torch.distributions.Categorical):
            msg["value"] = (base.logits + self.gumbel(base.logits)).argmax(dim=-1)
