"""Is CUDA right? The same weights, data and noise on the CPU and on CUDA, and CUDA's own promises.

    python benchmarks/gpu/correctness.py

Each check is written as soon as it is done; the same command goes on with those that are missing or failed. On a
machine without CUDA (``--tiny``) the device is the CPU too, which proves the command and nothing else.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributions.normal
from torch import Tensor
from worlds import WORLDS, world

import gram_ppl as gp
from gram_ppl import presets
from gram_ppl.program.poutine import Temperature
from gram_ppl.runtime.compilation import compiled
from gram_ppl.runtime.precision import fast
from gram_ppl.training import snapshot
from gram_ppl.training.trainer import Trainer

CPU = torch.device("cpu")
MADE = [name for name, (_, _, needs) in WORLDS.items() if not needs]  # worlds that need no data


@contextmanager
def noise_of_the_cpu() -> Iterator[None]:
    """Within: standard normal numbers are drawn on the CPU and sent, so that every device gets the same ones."""
    module: Any = torch.distributions.normal
    kept = module._standard_normal

    def drawn(shape: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.randn(shape, dtype=dtype).to(device)

    module._standard_normal = drawn
    try:
        yield
    finally:
        module._standard_normal = kept


def parts(name: str, tiny: bool, width: int = 128) -> presets.Parts:
    """A small model of a world, its noise heads not at zero."""
    preset = world(name, tiny=True)
    if not tiny:
        changes = {"model.width": width, "model.hidden": width, "model.layers": 2, "model.low_steps": 4}
        preset = presets.changed(preset, changes, {"model": preset.model})
    made = presets.build(preset, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for head in (made.model.guidance, made.guide.guidance):
            torch.nn.init.normal_(head.down.weight, std=0.5 * made.model.width**-0.5)
    return made


def segment(made: presets.Parts, device: torch.device, batch: int, bf16: bool, compile: bool = False) -> list[Tensor]:
    """Loss, state and gradients of a segment on the device, brought to the CPU."""
    model, guide = made.model.to(device), made.guide.to(device)
    x, y = (t.to(device) for t in next(made.task.batches("train", batch, torch.Generator().manual_seed(0))))
    latent = model.initial(batch).map(torch.clone)
    torch.manual_seed(1)
    speed = fast(device) if bf16 else nullcontext()
    with noise_of_the_cpu(), speed, compiled(model) if compile else nullcontext():
        loss, info = made.objective(model, guide)(x, y, latent=latent)
        gradients = torch.autograd.grad(loss, [*model.parameters(), *guide.parameters()], allow_unused=True)
    found = [loss, *info.latent.parts, *(g for g in gradients if g is not None)]
    return [tensor.detach().float().cpu() for tensor in found]


def difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Largest relative difference of two lists of tensors, by norm."""
    pairs = zip(one, other, strict=True)
    return max(float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in pairs if b.norm() > 0)


def whole(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The same of all gradients as one vector."""
    a, b = (torch.cat([tensor.flatten() for tensor in tensors[3:]]) for tensors in (one, other))
    return float((a - b).norm() / b.norm())


def float32(name: str, device: torch.device, tiny: bool) -> dict[str, Any]:
    """Segment of a world in float32: loss, state and every gradient as on the CPU."""
    on_cpu, found = (segment(parts(name, tiny), where, 4 if tiny else 32, False) for where in (CPU, device))
    gap = difference(found, on_cpu)
    return {"ok": gap < 1e-3, "difference": gap}


def bf16(name: str, device: torch.device, tiny: bool) -> dict[str, Any]:
    """Segment of a world as training computes it, beside float32 on the CPU."""
    batch = 4 if tiny else 32
    on_cpu, found = segment(parts(name, tiny), CPU, batch, False), segment(parts(name, tiny), device, batch, True)
    loss, gradient = difference(found[:1], on_cpu[:1]), whole(found, on_cpu)
    return {"ok": loss < 0.02 and gradient < 0.1, "loss": loss, "gradient": gradient}


def compiling(name: str, device: torch.device, tiny: bool) -> dict[str, Any]:
    """Segment of a world with the compiled core, beside the eager one on the same device."""
    eager, found = (segment(parts(name, tiny), device, 4 if tiny else 32, True, compile) for compile in (False, True))
    loss, gradient = difference(found[:1], eager[:1]), whole(found, eager)
    return {"ok": loss < 0.02 and gradient < 0.1, "loss": loss, "gradient": gradient}


def rollouts(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Rollouts without noise give the CPU's tokens, but for rounding."""
    made = parts("queens8", tiny)
    x = made.task.inputs("test")[: 4 if tiny else 100]
    options: dict[str, Any] = {"num_samples": 2, "steps": 4, "noise": Temperature(0)}
    tokens = [gp.rollout(made.model.to(where), x, **options).tokens.cpu() for where in (CPU, device)]
    share = float((tokens[0] == tokens[1]).float().mean())
    return {"ok": share > 0.95, "same_tokens": share}


def trainer(device: torch.device, updates: int) -> Trainer:
    """A run of 4×4 Sudoku."""
    task = gp.tasks.Sudoku((2, 2), (4, 8), num_validation=1, num_test=1)
    model = gp.models.GRAM(task.spec)
    settings = {
        "updates": updates, "batch_size": 64, "seed": 0, "lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.95],
        "clip": 1.0, "warmup": 50, "decay": 0.3, "final": 0.05, "ema": 0.999, "evaluations": 0, "evaluate_on": 0,
        "evaluate_steps": None,
    }  # fmt: skip
    return Trainer(model, gp.guides.AmortizedGuide(model), task, gp.SegmentELBO(1.0), settings, device)


def weights(run: Trainer) -> list[Tensor]:
    return [parameter.detach().clone().cpu() for parameter in run.segment.parameters()]


def learning(device: torch.device, tiny: bool) -> dict[str, Any]:
    """A short training reaches the CPU's loss."""
    updates, losses = 20 if tiny else 600, []
    for where in (CPU, device):
        run = trainer(where, updates)
        for _ in range(updates):
            run.step()
        losses.append(sum(record.loss for record in run.history[-10:]) / 10)
    return {"ok": abs(losses[1] / losses[0] - 1) < 0.1, "cpu": losses[0], "device": losses[1]}


def same_seed(device: torch.device, tiny: bool) -> dict[str, Any]:
    """The same seed gives the same weights, and so does a run that was stored and resumed half-way: bit for bit."""
    updates, ends = 6 if tiny else 100, []
    for _ in range(2):
        run = trainer(device, updates)
        for _ in range(updates):
            run.step()
        ends.append(weights(run))
    with tempfile.TemporaryDirectory() as folder:
        run = trainer(device, updates)
        for _ in range(updates // 2):
            run.step()
        snapshot.store(run, Path(folder))
        run = trainer(device, updates)
        torch.manual_seed(99)
        snapshot.restore(run, Path(folder))
        while run.update < updates:
            run.step()
    gaps = [difference(end, ends[0]) for end in (ends[1], weights(run))]
    return {"ok": not any(gaps), "repeated": gaps[0], "resumed": gaps[1]}


def never_waiting(device: torch.device, tiny: bool) -> dict[str, Any]:
    """An update doesn't wait for CUDA: torch raises an error where one does."""
    run = trainer(device, 10_000)
    for _ in range(3):
        run.step()
    if device.type != "cuda":
        return {"ok": True, "looked_at": False}
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            run.step()
    except RuntimeError as error:
        return {"ok": False, "error": str(error)}
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"ok": True, "looked_at": True}


Check = Callable[[torch.device, bool], dict[str, Any]]


def checks() -> dict[str, Check]:
    """All checks by name."""
    found: dict[str, Check] = {}
    for kind in (float32, bf16, compiling):
        for name in MADE if kind is not compiling else MADE[:1]:
            found[f"{kind.__name__} {name}"] = lambda device, tiny, kind=kind, name=name: kind(name, device, tiny)
    return found | {check.__name__: check for check in (rollouts, learning, same_seed, never_waiting)}


def main(arguments: Sequence[str] | None = None) -> int:
    every = checks()
    parser = argparse.ArgumentParser(description="CUDA beside the CPU, check by check.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", nargs="+", choices=every, default=list(every))
    parser.add_argument("--tiny", action="store_true", help="small enough for seconds on a CPU")
    parser.add_argument("--results", type=Path, default=Path(__file__).resolve().parents[1] / "results" / "gpu")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cpu" and not options.tiny:
        parser.error("there is no CUDA here; --tiny runs the same checks on the CPU")
    path = options.results / f"correctness{'-tiny' if options.tiny else ''}.json"
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"checks": {}}
    document |= {"torch": torch.__version__, "python": platform.python_version()}
    document["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    for name in options.only:
        if not document["checks"].get(name, {}).get("ok"):
            document["checks"][name] = every[name](device, options.tiny)
            options.results.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document, indent=1) + "\n")
        print(name, document["checks"][name], flush=True)
    return 0 if all(document["checks"][name]["ok"] for name in options.only) else 1


if __name__ == "__main__":
    sys.exit(main())
