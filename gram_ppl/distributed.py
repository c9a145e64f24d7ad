"""One update shared out: over the processes that ``torchrun`` or ``accelerate launch`` started, and over parts in turn.

The rows of the joint batch are cut into as many shares as there are processes and parts. Every process draws the joint
batch and the joint noise from the same generators and takes its share of both, and gradients are averaged, so that a
run is the same run (but for rounding) on any number of processes, and can go on with another number of them. Of the
carried states each process holds its own rows only.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributed
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from .numerics import fast
from .phases import Clock
from .state import Latent, SegmentInfo


def launched() -> bool:
    """Whether this is one of several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


class JointNoise(Messenger):
    """Gaussian noise of some rows as a draw for the joint batch would give it to them.

    Other families draw from the global generator as ever, the same numbers on every process.

    Args:
        rows: rows of the joint batch.
        share: which of them are here.
    """

    def __init__(self, rows: int, share: slice) -> None:
        super().__init__()
        self.rows = rows
        self.share = share

    def _pyro_sample(self, msg: Any) -> None:
        base = getattr(msg["fn"], "base_dist", msg["fn"])
        if msg["value"] is None and type(base) in (dist.Normal, torch.distributions.Normal):
            shape = (self.rows, *base.loc.shape[1:])
            noise = torch.normal(base.loc.new_zeros(shape), base.loc.new_ones(shape))
            msg["value"] = base.loc + noise[self.share] * base.scale


class Shares:
    """The processes of a run, this one's rank, and the parts that it takes one after the other.

    Args:
        accumulate: parts of an update in each process; their gradients add up.
        device: where this process computes.

    Raises:
        ValueError: ``accumulate`` is less than 1.
    """

    def __init__(self, accumulate: int, device: torch.device) -> None:
        if accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {accumulate}")
        self.accumulate = accumulate
        self.device = device
        self.rank, self.world = 0, 1
        self.engine: Any = None
        if launched():
            from accelerate import Accelerator  # takes a second to import

            _meet(device)
            self.engine = Accelerator(cpu=device.type == "cpu")
            self.rank, self.world = self.engine.process_index, self.engine.num_processes
            self.device = self.engine.device

    @property
    def several(self) -> bool:
        """Whether there is more than one share."""
        return self.world * self.accumulate > 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def check(self, batch_size: int, model: nn.Module, heads_every: int | None) -> None:
        """Refuse what cannot be shared out.

        Raises:
            ValueError: rows that don't divide, rows that halt by themselves, or heads trained on the way.
        """
        if not self.several:
            return
        shares = self.world * self.accumulate
        if batch_size % shares:
            raise ValueError(
                f"batch_size must be a multiple of {self.world} processes times accumulate={self.accumulate}, "
                f"got {batch_size}"
            )
        if hasattr(model, "halts"):
            raise ValueError(f"{type(model).__name__} halts row by row, which one process without accumulate= can do")
        if heads_every:
            raise ValueError("heads_every needs one process without accumulate=: fit them afterwards, gp.fit_heads")

    def wrapped(self, segment: nn.Module) -> nn.Module:
        """The segment, averaging gradients over the processes where there are several."""
        return segment if self.world == 1 else self.engine.prepare_model(segment)

    def here(self, batch: int) -> slice:
        """The rows of the joint batch that are this process's."""
        size = batch // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def own(self, rows: slice, batch: int) -> slice:
        """Rows of the joint batch as rows of this process, the part of them that is here."""
        here = self.here(batch)
        inside = [min(max(edge, here.start), here.stop) - here.start for edge in (rows.start, rows.stop)]
        return slice(*inside)

    def backward(
        self, segment: nn.Module, x: Tensor, y: Tensor, latent: Latent, age: Tensor, clock: Clock
    ) -> tuple[Tensor, SegmentInfo]:
        """Loss, gradients and info of this process's rows; x, y and age are joint, the latent is its own.

        The clock is told where a forward and a backward pass end, the exchange of gradients included.
        """
        batch, size = len(x), len(x) // (self.world * self.accumulate)
        state = _random(self.device)
        losses, infos = [], []
        for part in range(self.accumulate):
            first = (self.rank * self.accumulate + part) * size
            joint, here = slice(first, first + size), slice(part * size, (part + 1) * size)
            _restore(state, self.device)
            last = part == self.accumulate - 1 or self.world == 1
            with nullcontext() if last else self.engine.no_sync(segment), fast(self.device):
                with JointNoise(batch, joint):
                    z = Latent(*(tensor[here] for tensor in latent))
                    loss, info = segment(x[joint], y[joint], latent=z, age=age[joint])
                clock.end("forward")
                (loss / self.accumulate).backward()
                clock.end("backward")
            losses.append(loss.detach())
            infos.append(info)
        return torch.stack(losses).mean(), _joined(infos)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        return values if self.world == 1 else self.engine.reduce(values.clone(), reduction="mean")

    def gathered(self, latent: Latent) -> Latent:
        """The states of all rows."""
        return latent if self.world == 1 else Latent(*(self.engine.gather(part.contiguous()) for part in latent))

    def most(self, number: int) -> int:
        """The largest of a number that each process has."""
        if self.world == 1:
            return number
        return int(self.engine.gather(torch.tensor([number], device=self.device)).max())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            self.engine.wait_for_everyone()


def _meet(device: torch.device) -> None:
    """Join the other processes. Those that an elastic agent starts again must not find what the dead ones left."""
    if torch.distributed.is_initialized():
        return
    store, rank, world = next(torch.distributed.rendezvous("env://"))
    store = torch.distributed.PrefixStore(f"start_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "gloo" if device.type == "cpu" else "nccl"
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world)


def _joined(infos: list[SegmentInfo]) -> SegmentInfo:
    latent = Latent(*(torch.cat(parts) for parts in zip(*(info.latent for info in infos), strict=True)))
    nll, kl = (torch.stack([getattr(info, name) for info in infos]).mean() for name in ("nll", "kl"))
    kl_rows, correct = (torch.cat([getattr(info, name) for info in infos]) for name in ("kl_rows", "correct"))
    return SegmentInfo(latent, nll, kl, kl_rows, correct)


def _random(device: torch.device) -> tuple[Tensor, ...]:
    states = (torch.get_rng_state(),)
    return states if device.type == "cpu" else (*states, torch.cuda.get_rng_state(device))


def _restore(states: tuple[Tensor, ...], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1], device)
