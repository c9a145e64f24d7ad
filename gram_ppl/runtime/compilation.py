"""Compiled networks while training runs; program, parameters and state dict stay what they are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._triton import has_triton


def pays(device: torch.device) -> bool:
    """Whether training compiles unless told otherwise: on CUDA with Triton.

    On a CPU it saves 6 to 14 % of an update and costs 20 to 45 s, which one to three thousand updates pay back.
    """
    return device.type == "cuda" and has_triton()


def possible(device: torch.device) -> bool:
    """Whether what compiling needs is there: on a CPU a C++ compiler that works."""
    if device.type != "cpu":
        return True
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        cpp_builder.get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


@contextmanager
def compiled(model: nn.Module) -> Iterator[None]:
    """Within: the model's ``core``, its deterministic part, runs compiled for the shapes that come up; afterwards not.

    Handlers and sample sites stay outside, so the program is the same program. Results differ by rounding only.
    Copies of the model, such as a weight average, stay uncompiled.

    Args:
        model: a program; nothing is compiled if its ``core`` is None. Nor is it, with a warning, without a C++
            compiler on a CPU.
    """
    core: Any = model.core
    if core is not None and not possible(next(model.parameters()).device):
        warnings.warn("no C++ compiler that works was found: the run is the same, uncompiled", stacklevel=3)
        core = None
    if core is None:
        yield
        return
    core.compile(dynamic=False)
    try:
        # The compiler counts all models of a process together, and runs what is beyond its limit of 8 uncompiled.
        with torch._dynamo.config.patch(recompile_limit=64):
            yield
    finally:
        core._compiled_call_impl = None


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Within :func:`compiled`, a block in which the model runs uncompiled all the same."""
    core: Any = model.core
    code = None if core is None else core._compiled_call_impl
    if code is None:
        yield
        return
    core._compiled_call_impl = None
    try:
        yield
    finally:
        core._compiled_call_impl = code
