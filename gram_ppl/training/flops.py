"""Floating-point operations of a training segment, and how many of them a device does in a second."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..program.objective import Segment
from ..runtime.compilation import eager
from ..runtime.precision import fast
from ..state import Latent

# Dense bf16 TFLOP/s by a part of the card's name, from its maker's data sheet.
PEAKS = {"H200": 989.4, "H100 PCIe": 756.0, "H100": 989.4, "A100": 312.0, "L40S": 362.1, "4090": 165.2}


def peak(device: torch.device) -> float | None:
    """Dense bf16 TFLOP/s of the device, None where its name isn't known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return next((value for part, value in PEAKS.items() if part in name), None)


def count(segment: Segment, x: Tensor, y: Tensor, latent: Latent, age: Tensor) -> int:
    """Floating-point operations of one segment, forward and backward, as torch's counter sees them: its products.

    They are counted on two rows and on three, as a row costs what another costs and some products are done once for
    all of them. Gradients, random numbers and compiled code stay what they are.

    Args:
        segment: model, guide and objective.
        x, y: ``[B, L_in]`` and ``[B, L_out]``; the first row serves.
        latent: ``[B', L, D]`` each; the segment is counted for B' rows.
        age: ``[B]``, supervision steps that the rows have behind them.
    """
    rows = (x, y, latent, age)
    two, three = _counted(segment, 2, *rows), _counted(segment, 3, *rows)
    return two + (len(latent.h) - 2) * (three - two)


def _counted(segment: Segment, rows: int, x: Tensor, y: Tensor, latent: Latent, age: Tensor) -> int:
    device = latent.h.device
    model: Any = segment.model
    first = torch.zeros(rows, dtype=torch.int64, device=device)
    z = latent.rows(first)
    parameters = [parameter for parameter in segment.parameters() if parameter.requires_grad]
    forked = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with forked, fast(device), eager(model), _Counter() as counter:
        loss, _ = segment(x[first], y[first], latent=z, age=age[first])
        torch.autograd.grad(loss, parameters, allow_unused=True)  # backward() would leave gradients and tell others
    return counter.total


def _convolution_backward(gradient: Tensor, x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> int:
    """Of the gradients that are asked for each costs what the forward pass does; torch's own formula forgets groups."""
    transposed, _, groups, wanted = args[-4:]
    if transposed or groups == 1:
        return int(flop_registry[torch.ops.aten.convolution_backward](gradient, x, weight, *args, **kwargs))
    return 2 * gradient.numel() // gradient.shape[1] * weight.numel() * sum(wanted[:2])


_FORMULAS = flop_registry | {torch.ops.aten.convolution_backward: _convolution_backward}


class _Counter(TorchDispatchMode):
    """torch's ``FlopCounterMode`` but for its table of modules, which fails on some that run without gradients."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = _FORMULAS.get(func._overloadpacket)
        if formula is None:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out
