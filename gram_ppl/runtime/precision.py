"""How numbers are computed where speed matters: precision by device, no argument validation, data without waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pyro
import torch
from torch import Tensor

T = TypeVar("T")

VALIDATIONS = ("validate_infer", "validate_poutine", "validate_distributions_pyro", "validate_distributions_torch")


def use_bf16(device: torch.device) -> bool:
    """Whether bfloat16 autocast pays: on CUDA, and on processors with bfloat16 instructions.

    Other processors emulate it and are several times slower.
    """
    return device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())


def use_tf32(device: torch.device) -> bool:
    """Whether products that stay in float32 may round their factors to TF32, which is many times faster on CUDA.

    Noise heads can bear it. With factors rounded so on a CPU, means of size 2 from a head of width 64 to 512 are off by
    0.001 (root mean square), a tenth of the smallest sigma; in bf16 by 0.010.
    """
    return device.type == "cuda"


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; CUDA copies it from pinned memory.

    Nobody waits for the copy, so the processor makes the next batch while the device computes.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def full(x: Tensor) -> Tensor:
    """The tensor in float32, or as it is where it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def wide(x: Tensor) -> Tensor:
    """The tensor in float64, or in float32 on a device that has no float64 (MPS)."""
    return x.double() if x.device.type in ("cpu", "cuda") else x.float()


def mean(x: Tensor) -> float:
    """The mean of all elements in float64, taken on the CPU, which has it."""
    return x.cpu().double().mean().item()


def exactly(function: Callable[[Tensor], T], x: Tensor) -> T:
    """``function(x)`` in float32 at least, whatever autocast says.

    For noise heads: in bf16 the error of a mean of 2 is nearly the smallest sigma, so that posterior and prior could
    never agree on it.
    """
    with torch.autocast(x.device.type, enabled=False):
        return function(full(x))


def at_least_single(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What ``nn.Module._apply`` does to tensors, but for making float32 narrower: noise heads compute in it."""

    def kept(tensor: Tensor) -> Tensor:
        changed = fn(tensor)
        narrow = changed.is_floating_point() and changed.dtype != torch.promote_types(changed.dtype, torch.float32)
        return tensor.to(changed.device, torch.float32) if narrow else changed

    return kept


def chosen(device: str | torch.device | None) -> torch.device:
    """The device that is asked for; where none is, CUDA when present, else the CPU.

    Raises:
        ValueError: there is no such device here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here, other = ["cpu"], torch.accelerator.current_accelerator()
    if other is not None:
        here += [f"{other.type}:{number}" for number in range(torch.accelerator.device_count())]
    if str(device) not in {*here, *(name.partition(":")[0] for name in here)}:
        raise ValueError(f"device: expected one of {', '.join(here)}, found {str(device)!r}")
    return torch.device(device)


@contextmanager
def fast(device: torch.device) -> Iterator[None]:
    """Within: no validation of distributions and sites, bf16 autocast where it pays; all restored afterwards.

    On the CPU float32 products take the oneDNN kernels ("medium"), up to twice as fast as the default ones; on CUDA
    they take TF32 ("high").
    """
    precision = torch.get_float32_matmul_precision()
    if device.type == "cpu":
        torch.set_float32_matmul_precision("medium")
    elif use_tf32(device):
        torch.set_float32_matmul_precision("high")
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=use_bf16(device))
    try:
        with pyro.settings.context(**dict.fromkeys(VALIDATIONS, False)), autocast:
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
