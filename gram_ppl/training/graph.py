"""A whole update as one graph: segment, backward, clipping, AdamW and the weight average.

Rows are exchanged between two replays, so that there the processor may ask what it likes. What moves over the run (the
learning rate, β, the share of scheduled sampling, the weight of the average) is read from tensors of the device.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..program.objective import Segment, SegmentELBO
from ..runtime.graphs import Backend, CudaGraphs, Static, Unfit
from ..runtime.precision import fast
from ..state import Latent, SegmentInfo
from .average import Average


class UpdateGraph:
    """Captures the update of a run at its first call and replays it from then on; says once why where it can't.

    Args:
        segment: model, guide and objective bound.
        optimizer: fused AdamW of its parameters.
        average: of its weights; None where something comes between the optimiser and the average.
        clip: the norm that gradients are clipped to.
        device: of all of them.
        backend: how it is captured; True for CUDA's graphs.
        several: more than one process, or more than one part, share an update.
    """

    def __init__(
        self,
        segment: Segment,
        optimizer: torch.optim.Optimizer,
        average: Average | None,
        clip: float,
        device: torch.device,
        backend: Backend | bool,
        several: bool = False,
    ) -> None:
        self.segment, self.optimizer, self.average = segment, optimizer, average
        self.clip, self.device = clip, device
        self.lr, self.beta, self.weight, self.share = torch.zeros(4, device=device).unbind()
        self.reason = self._reason(backend, several)  # why it can't be captured; "" where nothing is known against it
        self.work: dict[bool, Static] = {}  # by whether there is scheduled sampling, which draws numbers of its own
        self.backend = CudaGraphs() if isinstance(backend, bool) else backend
        self._say()

    def __call__(
        self, x: Tensor, y: Tensor, latent: Latent, age: Tensor, update: int
    ) -> tuple[Tensor, SegmentInfo] | None:
        """One update: loss and info, which the next call overwrites; None, with nothing done, where that can't be.

        Args:
            x, y, latent, age: of the rows, as the segment takes them.
            update: its number.
        """
        if self.reason:
            return None
        self.lr.fill_(self.optimizer.param_groups[0]["lr"])
        self.beta.fill_(self.segment.elbo.beta)
        self.share.fill_(self.segment.scheduled_sampling)
        if self.average is not None:
            self.weight.fill_(self.average.weight(update))
        wanders = bool(self.segment.scheduled_sampling)
        if wanders not in self.work:
            self.work = {wanders: Static(self._update, self.backend, self._changed)}
        try:
            found: tuple[Tensor, SegmentInfo] = self.work[wanders](x, y, age, *latent.parts)
        except Unfit as error:
            self.reason = f"{error} within a segment"
            self._say()
            return None
        if self.average is not None:
            self.average.n_averaged += 1
        return found

    def _update(self, x: Tensor, y: Tensor, age: Tensor, *latent: Tensor) -> tuple[Tensor, SegmentInfo]:
        with self._tensors():
            self.optimizer.zero_grad(set_to_none=True)
            with fast(self.device):
                loss, info = self.segment(x, y, latent=Latent(*latent), age=age)
                loss.backward()
            nn.utils.clip_grad_norm_(self.segment.parameters(), self.clip)
            self.optimizer.step()
            if self.average is not None:
                self.average.move(self.segment, self.weight)
        return loss.detach(), info

    @contextmanager
    def _tensors(self) -> Iterator[None]:
        """Within, all that moves over the run is a tensor."""
        elbo: Any = self.segment.elbo
        groups = self.optimizer.param_groups
        capturing = self.device.type == "cuda" and torch.cuda.is_current_stream_capturing()
        beta, share, rates = elbo.beta, self.segment.scheduled_sampling, [group["lr"] for group in groups]
        elbo.beta, self.segment.scheduled_sampling = self.beta, self.share if share else 0.0
        for group in groups:
            group["lr"], group["capturable"] = self.lr, capturing
        try:
            yield
        finally:
            elbo.beta, self.segment.scheduled_sampling = beta, share
            for group, rate in zip(groups, rates, strict=True):
                group["lr"], group["capturable"] = rate, False

    def _changed(self) -> list[Tensor]:
        """What an update changes: weights, their average, and the state of the optimiser, which begins at zeros."""
        modules = [self.segment] if self.average is None else [self.segment, self.average]
        found = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        return found + [value for state in self.optimizer.state.values() for value in state.values()]

    def _reason(self, backend: Backend | bool, several: bool) -> str:
        if isinstance(backend, bool) and self.device.type != "cuda":
            return "there is no CUDA"
        if several:
            return "several processes or parts share an update"
        if type(self.segment.elbo).set_progress is not SegmentELBO.set_progress:
            return "its objective moves more than beta over the run"
        return ""

    def _say(self) -> None:
        if self.reason:
            warnings.warn(f"no graph, updates run launch by launch: {self.reason}", stacklevel=4)
