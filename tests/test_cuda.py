"""CUDA beside the CPU: the same weights, data and noise, and CUDA's own promises.

``make test-cuda`` runs them on CUDA. The suite runs them tiny, the CPU beside itself, which proves the tests alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributions.normal
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from gpu import depth

import gram_ppl as gp
from gram_ppl import presets
from gram_ppl.program.poutine import Temperature
from gram_ppl.runtime import precision
from gram_ppl.runtime.compilation import compiled
from gram_ppl.runtime.precision import fast
from gram_ppl.training import snapshot
from gram_ppl.training.trainer import Trainer

CPU = torch.device("cpu")
ON_CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here")]
pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler's own, and the card's
# Task, preset, settings of its task: what makes it small.
WORLDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "queens": ("queens", "paper", {"task.n": 6}),
    "coloring": ("coloring", "paper", {"task.n": 6, "task.num_train": 20}),
    "grids": ("unconditional", "paper", {"task.side": 4}),
    "deciding": ("queens", "quick", {"task.n": 6}),
}


@pytest.fixture(params=[pytest.param("cuda", marks=ON_CUDA), "cpu"])
def device(request: Any) -> torch.device:
    return torch.device(request.param)


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


def parts(name: str, tiny: bool) -> presets.Parts:
    """A small model of a world, its noise heads not at zero."""
    task, preset, changes = WORLDS[name]
    width, layers, low = (16, 1, 1) if tiny else (128, 2, 4)
    changes = changes | {"model.width": width, "model.hidden": width, "model.layers": layers, "model.low_steps": low}
    changes |= {"model.registers": 1} | ({} if name == "deciding" else {"model.supervision": 2})
    made = presets.build(presets.get(task, preset, changes), seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in () if name == "deciding" else (made.model, made.guide):
            torch.nn.init.normal_(module.get_parameter("guidance.down.weight"), std=0.5 * made.model.width**-0.5)
    return made


def segment(name: str, device: torch.device, tiny: bool, bf16: bool = False, compile: bool = False) -> list[Tensor]:
    """Loss, state and gradients of a segment on the device, brought to the CPU."""
    made, batch = parts(name, tiny), 4 if tiny else 32
    model, guide = made.model.to(device), made.guide.to(device)
    x, y = (t.to(device) for t in next(made.task.batches("train", batch, torch.Generator().manual_seed(0))))
    latent = model.begin(x, batch).map(torch.clone)
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


def test_a_difference_is_seen() -> None:
    one, other = ([torch.ones(3), torch.ones(3) * factor] for factor in (1.0, 1.01))
    assert difference(one, one) == 0
    assert difference(other, one) == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("name", WORLDS)
def test_segments_in_float32_are_those_of_the_cpu(name: str, device: torch.device) -> None:
    tiny = device.type == "cpu"
    assert difference(segment(name, device, tiny), segment(name, CPU, tiny)) < 1e-3


@pytest.mark.parametrize("name", WORLDS)
def test_segments_in_bf16_are_nearly_those_of_float32(name: str, device: torch.device, monkeypatch: Any) -> None:
    monkeypatch.setattr(precision, "use_bf16", lambda device: True)
    tiny = device.type == "cpu"
    found, exact = segment(name, device, tiny, bf16=True), segment(name, CPU, tiny)
    assert difference(found[:1], exact[:1]) < 0.02
    assert 0 < whole(found, exact) < 0.1


@pytest.mark.parametrize("device", [pytest.param(torch.device("cuda"), marks=ON_CUDA)])  # minutes on a CPU
def test_a_compiled_segment_is_nearly_the_same(device: torch.device) -> None:
    found, eager = (segment("queens", device, False, True, compile) for compile in (True, False))
    assert difference(found[:1], eager[:1]) < 0.02
    assert whole(found, eager) < 0.1


def test_rollouts_without_noise_give_the_tokens_of_the_cpu(device: torch.device) -> None:
    tiny = device.type == "cpu"
    made = parts("queens", tiny)
    x = made.task.inputs("test")[: 4 if tiny else 100]
    options: dict[str, Any] = {"num_samples": 2, "steps": 4, "noise": Temperature(0)}
    tokens = [gp.rollout(made.model.to(where), x, **options).tokens.cpu() for where in (CPU, device)]
    assert float((tokens[0] == tokens[1]).float().mean()) > 0.95


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


def stepped(run: Trainer, updates: int) -> list[Tensor]:
    """The weights after so many updates in all."""
    while run.update < updates:
        run.step()
    return [parameter.detach().clone().cpu() for parameter in run.segment.parameters()]


@pytest.mark.parametrize("device", [pytest.param(torch.device("cuda"), marks=ON_CUDA)])
def test_a_short_training_reaches_the_loss_of_the_cpu(device: torch.device) -> None:
    runs = [trainer(where, 400) for where in (CPU, device)]
    for run in runs:
        stepped(run, 400)
    losses = [sum(record.loss for record in run.history[-10:]) / 10 for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_the_same_seed_and_a_resumed_run_give_the_same_weights(device: torch.device, tmp_path: Path) -> None:
    updates = 4 if device.type == "cpu" else 60
    one, other = (stepped(trainer(device, updates), updates) for _ in range(2))
    run = trainer(device, updates)
    stepped(run, updates // 2)
    snapshot.store(run, tmp_path)
    run = trainer(device, updates)
    torch.manual_seed(99)
    snapshot.restore(run, tmp_path)
    for found in (other, stepped(run, updates)):
        assert all(torch.equal(a, b) for a, b in zip(found, one, strict=True))


@pytest.mark.parametrize("device", [pytest.param(torch.device("cuda"), marks=ON_CUDA)])
def test_an_update_never_waits_for_the_device(device: torch.device) -> None:
    run = trainer(device, 10_000)
    stepped(run, 3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        stepped(run, 23)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_deep_rollouts_in_bf16_give_the_answers_of_float32(device: torch.device) -> None:
    """A recurrent network could drift away in bf16. This one is trained, so that its answers mean something."""
    cpu = device.type == "cpu"
    task = gp.tasks.Sudoku((2, 2), (4, 8), num_validation=1, num_test=10 if cpu else 200)
    small: dict[str, Any] = {"width": 16, "low_steps": 1, "transitions": 1} if cpu else {}
    model = gp.models.GRAM(task.spec, **small)
    gp.fit(model, gp.guides.AmortizedGuide(model), task, updates=100 if cpu else 1000, batch_size=32, lr=3e-3,
           evaluations=0, progress=False, device=device, compile=False)  # fmt: skip
    found = depth.compared(model, task, steps=200 if cpu else 2000)
    assert found["finite"]
    assert found["residual"]["bf16"] != found["residual"]["float32"]  # they are two precisions
    assert found["same_tokens"] > 0.97
    assert found["bf16"] > found["float32"] - 0.05
