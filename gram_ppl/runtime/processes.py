"""Work shared out: over the processes that ``torchrun`` or ``accelerate launch`` started, and over parts in turn.

The rows of the joint batch are cut into as many shares as there are processes and parts. Every process draws the joint
batch and the joint noise from the same generators and takes its share of both, and gradients are averaged, so that a
run is the same run (but for rounding) on any number of processes, and can go on with another number of them. Of the
carried states each process holds its own rows only. Rollouts are shared out by trajectories.
"""

from __future__ import annotations

import atexit
import os
import time
from contextlib import nullcontext
from typing import Any

import pyro.distributions as dist
import torch
import torch.distributed
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from ..state import Latent, SegmentInfo, joined
from .clocks import Clock
from .precision import fast


def launched() -> bool:
    """Whether this is one of several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def main_process() -> bool:
    """Whether this process writes files and speaks: one alone, or the first of several."""
    return not launched() or os.environ.get("RANK", "0") == "0"


def restarted() -> bool:
    """Whether an elastic agent started this process in the place of one that had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


class JointNoise(Messenger):
    """Gaussian noise of some rows, and :func:`gram_ppl.poutine.chance`, as a draw for the joint batch would give it.

    Other families, and sites that have no value for each row, draw from the global generator as ever.

    Args:
        rows: rows of the joint batch.
        share: which of them are here.
        generator: what the joint batch draws from.
    """

    def __init__(self, rows: int, share: slice, generator: torch.Generator) -> None:
        super().__init__()
        self.rows = rows
        self.share = share
        self.generator = generator

    def _pyro_sample(self, msg: Any) -> None:
        base = getattr(msg["fn"], "base_dist", msg["fn"])
        if msg["value"] is not None or type(base) not in (dist.Normal, torch.distributions.Normal):
            return
        loc = base.loc
        if loc.shape[:1] == (self.share.stop - self.share.start,):  # else a site outside the plate
            shape = (self.rows, *loc.shape[1:])
            noise = torch.randn(shape, dtype=loc.dtype, device=loc.device, generator=self.generator)
            msg["value"] = loc + noise[self.share] * base.scale

    def _pyro_chance(self, msg: Any) -> None:
        msg["value"] = msg["args"][0](self.rows, self.generator)[self.share]


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
        self.bound: Any = None
        if launched():
            from accelerate import Accelerator, DistributedDataParallelKwargs  # takes a second to import

            _meet(device)
            self.ddp = DistributedDataParallelKwargs()
            self.engine = Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[self.ddp])
            if (kind := self.engine.distributed_type.value) not in ("MULTI_CPU", "MULTI_GPU"):
                raise ValueError(f"processes share training by copies of the model (DDP), and the launcher says {kind}")
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

    def check(self, batch_size: int) -> None:
        """Refuse what cannot be shared out.

        Raises:
            ValueError: rows that don't divide.
        """
        shares = self.world * self.accumulate
        if batch_size % shares:
            raise ValueError(
                f"batch_size must be a multiple of {self.world} processes times accumulate={self.accumulate}, "
                f"got {batch_size}"
            )

    def here(self, batch: int) -> slice:
        """The rows of the joint batch that are this process's."""
        size = batch // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def own(self, rows: Any, batch: int) -> Any:
        """Rows of the joint batch, a slice or indices, as rows of this process, the part of them that is here."""
        here = self.here(batch)
        if isinstance(rows, Tensor):
            return rows if self.world == 1 else rows[(rows >= here.start) & (rows < here.stop)] - here.start
        inside = [min(max(edge, here.start), here.stop) - here.start for edge in (rows.start, rows.stop)]
        return slice(*inside)

    def backward(
        self, segment: nn.Module, x: Tensor, y: Tensor, latent: Latent, age: Tensor, clock: Clock, seed: int
    ) -> tuple[Tensor, SegmentInfo]:
        """Loss, gradients and info of this process's rows; x, y and age are joint, the latent is its own.

        The clock is told where a forward and a backward pass end, the exchange of gradients included. What is drawn
        and is no noise of the joint batch follows ``seed``, in each share in a way of its own.
        """
        batch, size = len(x), len(x) // (self.world * self.accumulate)
        generator, start = torch.Generator(self.device), _random(self.device)
        losses, infos = [], []
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            for part in range(self.accumulate):
                number = self.rank * self.accumulate + part
                joint, here = (slice(n * size, (n + 1) * size) for n in (number, part))
                z = latent.rows(here)
                bound = self._bound(segment, x[joint], y[joint], z, age[joint])
                generator.set_state(start)
                torch.manual_seed(hash((seed, number)))
                last = part == self.accumulate - 1 or self.world == 1
                with nullcontext() if last else self.engine.no_sync(bound), fast(self.device):
                    with JointNoise(batch, joint, generator):
                        loss, info = bound(x[joint], y[joint], latent=z, age=age[joint])
                    clock.end("forward")
                    (loss / self.accumulate).backward()
                    clock.end("backward")
                losses.append(loss.detach())
                infos.append(info)
        _restore(generator.get_state(), self.device)
        return torch.stack(losses).mean(), _joined(infos)

    def _bound(self, segment: nn.Module, x: Tensor, y: Tensor, latent: Latent, age: Tensor) -> nn.Module:
        """The segment, averaging gradients over the processes where there are several.

        The first rows show whether parameters are left unused, as by the unconditional model its embedding: those have
        to be looked for in every backward pass.
        """
        if self.world == 1:
            return segment
        if self.bound is None:
            parameters = [parameter for parameter in segment.parameters() if parameter.requires_grad]
            with fast(self.device):
                loss, _ = segment(x, y, latent=latent, age=age)
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            self.ddp.find_unused_parameters = any(gradient is None for gradient in gradients)
            self.bound = self.engine.prepare_model(segment)
        bound: nn.Module = self.bound
        return bound

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        return values if self.world == 1 else self.engine.reduce(values.clone(), reduction="mean")

    def gathered(self, rows: Tensor) -> Tensor:
        """The rows of all processes, those of the first one first: ``[b, ...] -> [W b, ...]``. Bytes travel."""
        if self.world == 1:
            return rows
        if not rows.numel():
            return rows.new_empty(self.world * len(rows), *rows.shape[1:])
        received: Tensor = self.engine.gather(rows.contiguous().view(len(rows), -1).view(torch.uint8))
        return received.view(rows.dtype).view(-1, *rows.shape[1:])

    def some(self, count: int) -> Tensor:
        """Which of ``count`` things, one or more, are this process's: indices, as many in each process.

        The last one is repeated at the end; what is :meth:`gathered` is cut to ``count``.
        """
        size = -(-count // self.world)
        return torch.arange(self.rank * size, (self.rank + 1) * size).clamp(max=count - 1)

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
    atexit.register(_part)


def _part() -> None:
    """Leave the other processes before the interpreter ends.

    Gloo's threads drop the tensors of their last exchange when they please, and abort the process if Python is gone by
    then: the pause lets them.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        time.sleep(0.1)


def _joined(infos: list[SegmentInfo]) -> SegmentInfo:
    latent = joined([info.latent for info in infos])
    nll, kl = (torch.stack([getattr(info, name) for info in infos]).mean() for name in ("nll", "kl"))
    kl_rows, correct = (torch.cat([getattr(info, name) for info in infos]) for name in ("kl_rows", "correct"))
    halted, from_prior = ([getattr(info, name) for info in infos] for name in ("halted", "from_prior"))
    some = (None if flags[0] is None else torch.cat(flags) for flags in (halted, from_prior))
    return SegmentInfo(latent, nll, kl, kl_rows, correct, *some)


def _random(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _restore(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
