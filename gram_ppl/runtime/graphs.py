"""Work that is captured once and then replayed on the same memory: a CUDA graph, or what stands in for it on a CPU.

A launch costs the processor a few microseconds, and an update has thousands of them; a graph is one launch. What is
captured must find its inputs where they were, leaves its outputs where they were, and can't ask the device for a number
on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
Work = Callable[[], Any]  # reads and writes tensors that stay where they are, returns others, in tuples


class Unfit(RuntimeError):
    """Work that can't be captured; the message says why."""


class Backend(Protocol):
    """How work is captured. Capturing runs the work some times: what it changes has to be put back by its owner."""

    def capture(self, work: Work, generators: Sequence[torch.Generator] = ()) -> tuple[Any, Callable[[], Any]]:
        """What the work returned, whose tensors every call of the second value, a replay, overwrites.

        Args:
            work: draws from torch's global generators and no others but ``generators``.
            generators: of the device.

        Raises:
            Unfit: the work reads from the device, or draws random numbers on the processor.
        """


class CudaGraphs:
    """CUDA's own."""

    def capture(self, work: Work, generators: Sequence[torch.Generator] = ()) -> tuple[Any, Callable[[], Any]]:
        """See :class:`Backend`.

        A read is found in a rehearsal: once it has spoilt a capture, the device's random numbers are out of order.
        """
        side, here = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(here)
        drawn = torch.get_rng_state()
        before = torch.cuda.get_sync_debug_mode()
        try:
            with torch.cuda.stream(side):
                for _ in range(2):  # compiles, and sets up the libraries
                    work()
                torch.cuda.set_sync_debug_mode("error")
                work()
        except RuntimeError as error:
            if "synchronizing" not in str(error):
                raise
            raise Unfit("it reads from the device") from error
        finally:
            torch.cuda.set_sync_debug_mode(before)
            here.wait_stream(side)
        _drew_nothing(drawn)
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        torch.clear_autocast_cache()  # weights that were cast before won't last as long as the graph,
        with torch.cuda.graph(graph):
            found = work()
        torch.clear_autocast_cache()  # and those that it casts are there only once it is replayed
        return found, graph.replay


class Repeats:
    """Stands in on a CPU, for tests: a replay runs the work again, and its results go where the first ones are.

    It saves nothing, and refuses what reads from a tensor as CUDA would.
    """

    def capture(self, work: Work, generators: Sequence[torch.Generator] = ()) -> tuple[Any, Callable[[], Any]]:
        """See :class:`Backend`."""
        with _Watch():
            work()
        found = work()

        def replay() -> None:
            for kept, new in zip(_tensors(found), _tensors(work()), strict=True):
                kept.copy_(new)

        return found, replay


class _Watch(TorchDispatchMode):
    """Refuses what would wait for a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READS:
            raise Unfit("it reads from the device")
        return func(*args, **kwargs or {})


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _drew_nothing(state: Tensor) -> None:
    """The global generator of the processor is in this state still: a replay would repeat what it drew."""
    if not torch.equal(torch.get_rng_state(), state):
        raise Unfit("it draws random numbers on the processor")


class Static:
    """A function of tensors of one shape as captured work: inputs are copied to their places, then it is replayed.

    Args:
        function: of tensors; whatever else it changes is listed by ``keeps``.
        backend: how it is captured.
        keeps: the tensors that the function changes, once it has run; those that were not there before are zeroed.
        generators: of the device, beside the global ones, that the function draws from.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        backend: Backend,
        keeps: Callable[[], Sequence[Tensor]] = tuple,
        generators: Sequence[torch.Generator] = (),
    ) -> None:
        self.function, self.backend = function, backend
        self.keeps, self.generators = keeps, generators
        self.inputs: list[Tensor] = []
        self.found: Any = None
        self.replay: Callable[[], Any] | None = None

    def __call__(self, *given: Tensor) -> Any:
        """What the function returns; the next call overwrites it.

        Raises:
            Unfit: the function can't be captured; all is as it was before.
        """
        if self.replay is None or any(
            old.shape != new.shape or old.dtype != new.dtype for old, new in zip(self.inputs, given, strict=True)
        ):
            self.inputs = [tensor.clone() for tensor in given]
            self._capture()
        for place, tensor in zip(self.inputs, given, strict=True):
            if place is not tensor:
                place.copy_(tensor)
        assert self.replay is not None
        self.replay()
        return self.found

    def _capture(self) -> None:
        before = [(tensor, tensor.detach().clone()) for tensor in self.keeps()]
        states = [generator.get_state() for generator in self.generators]
        device = self.inputs[0].device
        try:
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                self.found, self.replay = self.backend.capture(lambda: self.function(*self.inputs), self.generators)
        finally:
            known = {id(tensor) for tensor, _ in before}
            with torch.no_grad():
                for tensor in self.keeps():
                    if id(tensor) not in known:
                        tensor.zero_()
                for tensor, value in before:
                    tensor.copy_(value)
            for generator, state in zip(self.generators, states, strict=True):
                generator.set_state(state)
