"""Supervision steps of a fixed number of rows as a graph, without a launch or a read between two of them."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from ..program.poutine import Streams
from ..runtime.graphs import CudaGraphs, Static, Unfit
from ..runtime.precision import fast
from ..state import Latent
from .options import Options


class Strides:
    """Moves rows through supervision steps, replaying one stride of them where options ask for graphs and that can be.

    A graph holds one number of rows, that of the first call; chunks of the same size share it, and fewer rows run
    launch by launch.

    Args:
        program: the model.
        how: options.
        device: of the rows.
    """

    def __init__(self, program: Any, how: Options, device: torch.device) -> None:
        self.program, self.device = program, device
        self.size = program.block or 1  # supervision steps of a stride
        self.backend = CudaGraphs() if isinstance(how.graph, bool) else how.graph
        self.graphed = bool(how.graph)
        self.streams: Streams | None = None
        self.work: Static | None = None
        self.count: int | None = None  # rows of the graph
        if how.graph is True and device.type != "cuda":
            self._say("there is no CUDA")
        elif self.graphed and (how.noise is not None or program.depth is not None):
            self._say("the noise or the model asks for the number of the step")

    def drawing(self, streams: Streams) -> Streams:
        """The streams that rows must draw from: these, or those of the graph, set to where these are."""
        if not self.graphed:
            return streams
        if self.streams is None or self.streams.rows != streams.rows:
            self.streams, self.count = streams, None
            self.work = Static(self._stride, self.backend, generators=streams.generators)
        else:
            for own, other in zip(self.streams.generators, streams.generators, strict=True):
                own.set_state(other.get_state())
        return self.streams

    def __call__(self, x: Tensor, z: Latent, steps: int, start: int = 0) -> Latent:
        """The state after ``steps`` supervision steps, called under the streams and :func:`fast`.

        Args:
            x: inputs, ``[R, L_in]``.
            z: states, ``[R, L, D]`` each.
            steps: how many.
            start: number of the first.
        """
        whole = steps % self.size == 0 and start % self.size == 0
        if self.graphed and self.work is not None and whole and self.count in (None, len(x)):
            assert self.streams is not None
            self.count, present = len(x), self.streams.present
            some = [] if present is None else [present]
            try:
                for _ in range(steps // self.size):
                    z = Latent(*self.work(x, *z.parts, *some))
                return z.map(torch.clone)
            except Unfit as error:
                self._say(f"{error} within a supervision step")
            finally:
                self.streams.present = present
        moved: Latent = self.program(x, latent=z, steps=steps, start=start)[0]
        return moved

    def _stride(self, x: Tensor, *rest: Tensor) -> list[Tensor]:
        count = 2 if self.program.block is None else 3
        parts, some = rest[:count], rest[count:]
        assert self.streams is not None
        self.streams.present = some[0] if some else None
        with fast(self.device):
            z, _ = self.program(x, latent=Latent(*parts), steps=self.size)
        return [new.to(old.dtype) for new, old in zip(z.parts, parts, strict=True)]

    def _say(self, reason: str) -> None:
        self.graphed = False
        warnings.warn(f"no graph, supervision steps run launch by launch: {reason}", stacklevel=4)
