"""Which kernels an update should be made of: the alternatives, forward and backward, at the sizes of training.

    python benchmarks/gpu/kernels.py

==========  ========================================================================================================
attention   with a bias that needs a gradient, for each length: the fused kernel, the same padded to a multiple of 8,
            three products, the same compiled, FlexAttention
noise       both heads, sample and balanced KL: in float32 and TF32, one KL in place of two, compiled, heads in bf16
block       SwiGLU and norm behind it: as they are, torch's norm, weights cast by hand, compiled
==========  ========================================================================================================

On CUDA each runs as a graph, as an update does, so that launches don't count. The difference is that of outputs and
gradients from the same in float32, by relative norm. As in training the backward pass runs under autocast, so gradients
of float32 products are taken in bf16. Rows are written as they are done, and the same command goes on.
"""

from __future__ import annotations

import sys

sys.path.insert(0, sys.path.pop(0).removesuffix("/gpu"))  # Python has a `profile` and a `queue` of its own

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from pyro.distributions.util import detach
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn.attention.flex_attention import flex_attention

from gpu.rows import Rows, add_options
from gram_ppl import nn as blocks
from gram_ppl.models import LearnedNoise
from gram_ppl.runtime.graphs import CudaGraphs
from gram_ppl.runtime.precision import exactly

BALANCE = 0.8
Way = tuple[Callable[..., Any], str]  # of the leaves, and the precision of float32 products


def products(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention as it is computed on a CPU."""
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias
    return logits.softmax(dim=-1).to(v.dtype) @ v


def fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention as it is computed on CUDA."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))


def padded(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """The same with tokens added that nobody reads."""
    length, more = q.shape[-2], -q.shape[-2] % 8
    bias = F.pad(F.pad(bias, (0, more), value=-torch.inf), (0, 0, 0, more))
    q, k, v = (F.pad(tensor, (0, 0, 0, more)) for tensor in (q, k, v))
    return fused(q, k, v, bias)[..., :length, :]


def flex(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Any:
    def score(logit: Tensor, batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return logit + bias[head, row, column]

    return flex_attention(q, k, v, score_mod=score)


def attention(size: dict[str, int], length: int, device: torch.device) -> tuple[list[Tensor], dict[str, Way]]:
    """Leaves and ways of attention among ``length`` tokens."""
    shape = (size["batch"], size["heads"], length, size["width"] // size["heads"])
    leaves = [torch.randn(shape, device=device, dtype=torch.bfloat16) for _ in range(3)]
    leaves.append(torch.randn(size["heads"], length, length, device=device))
    ways: dict[str, Way] = {"fused": (fused, ""), "fused, padded": (padded, ""), "products": (products, "")}
    if device.type == "cuda":
        return leaves, ways | {
            "products, compiled": (torch.compile(products, dynamic=False), ""),
            "FlexAttention": (torch.compile(flex, dynamic=False), ""),
        }
    return leaves, ways | {"FlexAttention": (flex, "")}


def once(q: Any, p: Any) -> Tensor:
    """The balanced KL, computed once: its gradient in q counts 1 − balance, that in p balance."""

    def weighed(normal: Any, share: float) -> Any:
        base = normal.base_dist
        loc, scale = (part.detach() + share * (part - part.detach()) for part in (base.loc, base.scale))
        return type(base)(loc, scale, validate_args=False).to_event(2)

    return kl_divergence(weighed(q, 1 - BALANCE), weighed(p, BALANCE))


def twice(q: Any, p: Any) -> Tensor:
    """The balanced KL as :class:`gram_ppl.SegmentELBO` computes it."""
    return BALANCE * kl_divergence(detach(q), p) + (1 - BALANCE) * kl_divergence(q, detach(p))


def noise(size: dict[str, int], device: torch.device) -> tuple[list[Tensor], dict[str, Way]]:
    """Leaves and ways of the guidance of a charged transition."""
    width, tokens = size["width"], (size["batch"], size["length"], size["width"])
    heads = [blocks.SwiGLU(width, width, 2 * width).to(device) for _ in range(2)]
    u, target, chance = (torch.randn(tokens, device=device) for _ in range(3))
    weights = [parameter.detach() for head in heads for parameter in head.parameters()]
    family = LearnedNoise()

    def guided(kl: Callable[[Any, Any], Tensor], bf16: bool = False) -> Callable[..., list[Tensor]]:
        def run(u: Tensor, target: Tensor, *weights: Tensor) -> list[Tensor]:
            def normal(x: Tensor, gate_up: Tensor, down: Tensor) -> Any:
                def head(x: Tensor) -> Tensor:
                    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
                    return F.linear(F.silu(gate) * up, down)

                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    return family.distribution(head(x) if bf16 else exactly(head, x))

            p, q = normal(u, *weights[:2]), normal(u + target, *weights[2:])
            return [u + q.base_dist.loc + q.base_dist.scale * chance, kl(q, p)]

        return run

    ways: dict[str, Way] = {
        "float32": (guided(twice), "highest"), "TF32": (guided(twice), "high"), "TF32, one KL": (guided(once), "high"),
        "bf16": (guided(twice, True), "high"),
    }  # fmt: skip
    if device.type == "cuda":
        for name, kl in (("TF32, compiled", twice), ("TF32, one KL, compiled", once)):
            ways[name] = (torch.compile(guided(kl), dynamic=False), "high")
    return [u, target, *weights], ways


def block(size: dict[str, int], device: torch.device) -> tuple[list[Tensor], dict[str, Way]]:
    """Leaves and ways of the second half of a block."""
    width, hidden = size["width"], 2 * size["width"]
    x = torch.randn(size["batch"], size["length"], width, device=device)
    gate_up, down = (
        torch.randn(shape, device=device) * width**-0.5 for shape in ((2 * hidden, width), (width, hidden))
    )

    def half(norm: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
        def run(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
            gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
            return norm(x + F.linear(F.silu(gate) * up, down))

        return run

    ours, theirs = half(blocks.rms_norm), half(lambda x: F.rms_norm(x, x.shape[-1:], eps=1e-6))

    def cast(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        return ours(x, gate_up.bfloat16(), down.bfloat16())

    ways: dict[str, Way] = {"as it is": (ours, ""), "torch's norm": (theirs, ""), "weights cast": (cast, "")}
    if device.type == "cuda":
        ways["compiled"] = (torch.compile(ours, dynamic=False), "")
    return [x, gate_up, down], ways


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision or kept)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(kept)


def passes(function: Callable[..., Any], leaves: Sequence[Tensor], bf16: bool = True) -> list[Tensor]:
    """Outputs and gradients of the mean of their sines, as training computes them."""
    leaves = [leaf.detach().requires_grad_(True) for leaf in leaves]
    with torch.autocast(leaves[0].device.type, torch.bfloat16, enabled=bf16):
        found = function(*leaves)
        outputs = [found] if isinstance(found, Tensor) else list(found)
        loss = torch.stack([output.float().sin().mean() for output in outputs]).sum()
        return [*(output.detach() for output in outputs), *torch.autograd.grad(loss, leaves)]


def measure(way: Way, leaves: list[Tensor], exact: list[Tensor], repeats: int) -> dict[str, Any]:
    """Milliseconds of a forward and a backward pass, and the error; or what went wrong, in a line."""
    function, precision = way
    device = leaves[0].device
    try:
        with products_in(precision), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = passes(function, leaves)
            error = max(float((a.float() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))
            run: Callable[[], Any] = lambda: passes(function, leaves)  # noqa: E731
            if device.type == "cuda":
                _, run = CudaGraphs().capture(run)
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                run()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                times.append(time.perf_counter() - start)
    except Exception as problem:  # one way that fails must not end the comparison
        return {"error": f"{type(problem).__name__}: {str(problem).strip().splitlines()[0][:200]}"}
    return {"ms": 1e3 * median(times), "difference": error}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Times of alternative kernels.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 65, 81, 88], help="tokens of attention")
    parser.add_argument("--repeats", type=int, default=30)
    add_options(parser, "kernels")
    for name, value in (("width", 256), ("heads", 8), ("batch", 512), ("length", 88)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    size = {name: getattr(options, name) for name in ("width", "heads", "batch", "length")}
    if options.tiny:
        size, options.lengths, options.repeats = {"width": 16, "heads": 2, "batch": 2, "length": 8}, [8, 9], 1
    torch.manual_seed(0)
    groups: dict[str, Callable[[], tuple[list[Tensor], dict[str, Way]]]] = {
        f"attention {length}": partial(attention, size, length, device) for length in options.lengths
    }
    groups |= {"noise": lambda: noise(size, device), "block": lambda: block(size, device)}
    rows = Rows(options.result, device, size=size)
    table = Table("what", "way", "ms", "difference from float32")
    for group, make in groups.items():
        leaves, ways = make()
        first = products if group.startswith("attention") else next(iter(ways.values()))[0]
        with products_in("highest"):
            exact = passes(first, [leaf.float() for leaf in leaves], bf16=False)
        for name, way in ways.items():
            row = rows.row(f"{group}, {name}", partial(measure, way, leaves, exact, options.repeats))
            text = [f"{row['ms']:.3f}", f"{row['difference']:.1e}"] if "ms" in row else [row["error"], ""]
            table.add_row(group, name, *text)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
