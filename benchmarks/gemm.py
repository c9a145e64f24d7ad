"""The floor of a computation: its bare matrix products, recorded once and run again on random numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
PRODUCTS = (aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default)


class Products(TorchDispatchMode):
    """Within: counts the matrix products by operator, and by shape, stride and type of what they multiply."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[Any, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in PRODUCTS:
            operands = tuple((tuple(t.shape), t.stride(), t.dtype) for t in args[-2:])
            self.found[(aten.bmm if len(operands[0][0]) == 3 else aten.mm, *operands)] += 1
        return func(*args, **kwargs or {})

    @property
    def flop(self) -> int:
        """Floating-point operations of all products, two for each multiplication and addition."""
        return sum(2 * n * _size(a[0]) * b[0][-1] for (_, a, b), n in self.found.items())


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def floor(run: Callable[[], Any]) -> tuple[Callable[[], None], int]:
    """What runs the matrix products of ``run()`` and nothing else, and their floating-point operations.

    Sums in which a product is embedded (``baddbmm``) are left out. Operands are reused, so they are in the cache more
    often than in the computation itself: a floor.
    """
    with Products() as products:
        run()
    work = [(op, _random(*a), _random(*b), count) for (op, a, b), count in products.found.items()]

    @torch.no_grad()
    def replay() -> None:
        with torch.autocast("cpu", enabled=False):
            for op, a, b, count in work:
                for _ in range(count):
                    op(a, b)

    return replay, products.flop


def _random(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    length = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return torch.randn(length).to(dtype).as_strided(shape, stride)
