"""What it costs that a training segment is a probabilistic program.

The same segment three ways, on the same weights, with the same noise, loss and gradients (checked first):

- written by hand in plain torch, without Pyro;
- the program: ``gp.SegmentELBO(...)(model, guide)`` with a :class:`gp.Guide`, which runs the model once;
- the program with a plain Pyro callable as its guide, which runs the transitions a second time.

Every round times all three, in changing order; the figures are median, minimum and maximum over the rounds of time ÷
time by hand. A segment is forward and backward; a step adds gradient clipping and fused AdamW. Precision and validation
are those of training. On a busy machine ``--clock cpu`` counts processor time, which on one thread excludes waiting.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pyro
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import gram_ppl as gp
from gram_ppl.program.poutine import transition
from gram_ppl.runtime.precision import exactly, fast, use_bf16

BETA, BALANCE = 1.0, 0.8
CPU = torch.device("cpu")
Way = Callable[[], tuple[Tensor, gp.SegmentInfo]]


# A Sudoku board and the size of model and batch, by the letters of GRAM's docstring.
CASES: dict[str, dict[str, Any]] = {
    "sudoku4": {"box": (2, 2), "registers": 1, "heads": 4, "D": 64, "B": 64, "L": 17, "K": 2, "T": 2},
    "64": {"box": (2, 4), "registers": 0, "heads": 4, "D": 64, "B": 64, "L": 64, "K": 4, "T": 3},
    "128": {"box": (2, 4), "registers": 0, "heads": 4, "D": 128, "B": 32, "L": 64, "K": 4, "T": 3},
    "512": {"box": (2, 4), "registers": 0, "heads": 8, "D": 512, "B": 16, "L": 64, "K": 4, "T": 3},
}


def gaussian(raw: Tensor, noise: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation from what a noise head puts out."""
    mu, raw_sigma = raw.float().chunk(2, dim=-1)
    return mu, noise.floor + 2 * noise.scale * raw_sigma.sigmoid()


def gaussian_kl(mu_q: Tensor, sigma_q: Tensor, mu_p: Tensor, sigma_p: Tensor) -> Tensor:
    """KL(q ‖ p) of each row, in nats."""
    ratio = (sigma_q / sigma_p).square()
    return 0.5 * (ratio + ((mu_q - mu_p) / sigma_p).square() - 1 - ratio.log()).sum(dim=(1, 2))


def by_hand(model: Any, guide: Any, x: Tensor, y: Tensor, latent: gp.Latent) -> tuple[Tensor, gp.SegmentInfo]:
    """Loss and info of one supervision step, in plain torch."""
    e = model.encoder(x, len(x))
    h, low = latent.h, latent.l
    with torch.no_grad():
        for _ in range(model.transitions - 1):
            u, low = model.core(gp.Latent(h, low), e)
            mu, sigma = gaussian(exactly(model.guidance, u), model.noise)
            h = u + mu + sigma * torch.randn_like(mu)
    u, low = model.core(gp.Latent(h, low), e)
    mu_p, sigma_p = gaussian(exactly(model.guidance, u), model.noise)
    target = F.pad(guide.target(y), (0, 0, guide.first, guide.after))
    mu_q, sigma_q = gaussian(exactly(guide.guidance, u + target), model.noise)
    h = u + mu_q + sigma_q * torch.randn_like(mu_q)
    to_prior = gaussian_kl(mu_q.detach(), sigma_q.detach(), mu_p, sigma_p)
    to_posterior = gaussian_kl(mu_q, sigma_q, mu_p.detach(), sigma_p.detach())
    logits = model.decoder(h[:, guide.first : guide.first + y.shape[1]]).float()
    nll = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view_as(y).sum(dim=1)
    loss = (nll + BETA * (BALANCE * to_prior + (1 - BALANCE) * to_posterior)).mean() / y.shape[1]
    with torch.no_grad():
        kl, state = to_prior.detach(), gp.Latent(h.detach(), low.detach())
        return loss, gp.SegmentInfo(state, nll.detach().mean(), kl.mean(), kl, logits.argmax(dim=-1) == y)


def two_pass(model: Any, guide: Any) -> Callable[..., None]:
    """The textbook guide: walks through the transitions itself and names its sites as the model does."""

    def step(z: gp.Latent, *, e: Tensor, y: Tensor | None, name: str) -> gp.Latent:
        u, low = model.core(z, e)
        q = model.prior(u) if y is None else guide.posterior(u, y, None)
        return gp.Latent(u + pyro.sample(name, q), low)

    def walk(x: Tensor, y: Tensor, *, latent: gp.Latent, steps: int) -> None:
        e = model.encoder(x, len(x))
        with pyro.plate("batch", len(x), dim=-1):
            for n in range(steps):
                for t in range(model.transitions):
                    charged = t == model.transitions - 1
                    one = partial(step, e=e, y=y if charged else None, name=f"eps_{n}_{t}")
                    latent = transition(one, latent, charged=charged)

    return walk


def build(box: tuple[int, int], registers: int, heads: int, D: int, B: int, L: int, K: int, T: int) -> Any:
    """The three ways to run a segment of a case, and the parameters that they share."""
    task = gp.tasks.Sudoku(box, (L // 4, L // 2), num_validation=1, num_test=1, pool=20)
    x, y = next(task.batches("train", B, torch.Generator().manual_seed(0)))
    mixer = gp.nn.Attention(heads=heads)
    model = gp.models.GRAM(task.spec, width=D, low_steps=K, transitions=T, mixer=mixer, registers=registers)
    guide = gp.guides.AmortizedGuide(model)
    for head in (model.guidance, guide.guidance):  # they start at zero, where q = p and the check would be weak
        nn.init.normal_(head.down.weight, std=0.5 * D**-0.5)
    latent = model.initial(B).map(torch.clone)
    elbo = gp.SegmentELBO(beta=BETA, balance=BALANCE)
    ways = {"hand": partial(by_hand, model, guide, x, y, latent)}
    programs: dict[str, Any] = {"program": guide, "two_pass": two_pass(model, guide)}
    for name, way in programs.items():
        ways[name] = partial(elbo(model, way), x, y, latent=latent)
    return ways, [*model.parameters(), *guide.parameters()]


def check(ways: dict[str, Way], parameters: list[nn.Parameter], tolerance: float = 1e-5) -> None:
    """With the same seed every way gives the same loss, info and gradients, by relative norm."""
    results = {}
    for name, way in ways.items():
        torch.manual_seed(1)
        loss, info = way()
        gradients = torch.autograd.grad(loss, parameters)
        results[name] = [
            loss,
            info.latent.h,
            info.latent.l,
            info.nll,
            info.kl,
            info.kl_rows,
            info.correct.float(),
            *gradients,
        ]
    for name, values in results.items():
        for value, expected in zip(values, results["hand"], strict=True):
            if not (value - expected).norm() <= tolerance * expected.norm():
                raise AssertionError(f"{name} differs from the segment by hand in a tensor {tuple(value.shape)}")


def measure(ways: dict[str, Way], parameters: list[nn.Parameter], repeats: int, clock: str) -> dict[str, Any]:
    """Milliseconds and ratios of each way; two rounds of warm-up are not counted."""
    now = time.perf_counter if clock == "wall" else time.process_time
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(repeats + 2):
        order = ["hand", "program"] if turn % 2 else ["program", "hand"]
        order.insert(turn % 3, "two_pass")
        for name in order:
            optimizer.zero_grad(set_to_none=True)
            start = now()
            ways[name]()[0].backward()
            middle = now()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            times[name].append((middle - start, now() - start))
    result: dict[str, Any] = {name: {} for name in ways}
    for name in ways:
        for index, kind in enumerate(("segment", "step")):
            own, hand = ([pair[index] for pair in times[way][2:]] for way in (name, "hand"))
            ratios = [a / b for a, b in zip(own, hand, strict=True)]
            summary = {"ms": 1e3 * median(own), "min": min(ratios), "median": median(ratios), "max": max(ratios)}
            result[name][kind] = {key: round(value, 4) for key, value in summary.items()}
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Time of a training segment as a program ÷ by hand.")
    parser.add_argument("--repeats", type=int, default=30, help="rounds counted for each size")
    parser.add_argument("--sizes", nargs="+", choices=CASES, default=list(CASES), help="4x4 Sudoku, or D at 64 tokens")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "segment_step.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    processor = re.search(r"model name\s*: (.*)", info)
    cases: dict[str, Any] = {}
    document = {
        "processor": processor[1] if processor else platform.machine(), "threads": options.threads,
        "precision": "bf16" if use_bf16(CPU) else "float32", "torch": torch.__version__, "pyro": pyro.__version__,
        "repeats": options.repeats, "clock": options.clock, "cases": cases,
    }  # fmt: skip
    table = Table("D,B,L,K,T", "way", "ms", "segment ÷ hand", "step ÷ hand")
    for size in options.sizes:
        ways, parameters = build(**CASES[size])
        check(ways, parameters)
        with fast(CPU):
            result = measure(ways, parameters, options.repeats, options.clock)
        cases[size] = {**CASES[size], "parameters": sum(p.numel() for p in parameters), **result}
        for name, kinds in result.items():
            ratios = [f"{k['median']:.3f} ({k['min']:.2f}–{k['max']:.2f})" for k in kinds.values()]
            shown = ",".join(str(CASES[size][letter]) for letter in "DBLKT")
            table.add_row(shown, name, f"{kinds['segment']['ms']:.1f}", *ratios)
    Console().print(table)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
