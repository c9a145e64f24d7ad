"""An update as one graph: the same run as launch by launch, resumed bit for bit, and refused with a reason."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import gram_ppl as gp
from gram_ppl.program.categorical import AsyncCategorical
from gram_ppl.runtime import precision
from gram_ppl.runtime.graphs import Repeats, Static, Unfit
from gram_ppl.storage import checkpoint
from gram_ppl.training.trainer import Trainer

TASK = gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=8, num_test=8)
MIXER = gp.nn.Attention(heads=2)


def plain(**options: Any) -> Any:
    model = gp.models.GRAM(TASK.spec, width=8, mixer=MIXER, **options)
    return model, gp.guides.AmortizedGuide(model), gp.SegmentELBO(gp.LogLinear(10.0, 0.5, 0.1, 0.9)), {}


def heads() -> Any:
    return *plain()[:3], {"heads_every": 5}


def wandering() -> Any:
    return *plain()[:3], {"scheduled_sampling": 0.5}


def halting() -> Any:
    model = gp.models.TRM(TASK.spec, width=8, mixer=MIXER)
    return model, gp.guides.Empty(model), gp.SegmentELBO(1.0), {}


def deciding() -> Any:
    model = gp.models.Deciding(TASK.spec, width=8, mixer=MIXER, block=2, transitions=1, supervision=8, keep=True)
    own = gp.OwnStates(rise=(0.4, 0.6))  # without the prior's decisions at first
    return model, gp.guides.Revealing(model), gp.DecidingELBO(steps=2), {"own_states": own}


def diffusion() -> Any:
    model = gp.models.MDLM(TASK.spec, width=8, mixer=MIXER)
    return model, gp.guides.Noising(model), gp.DenoisingELBO(), {}


def weights(*parts: Any) -> list[torch.Tensor]:
    """All parameters but those of a token that no answer holds, whose gradients are rounding errors."""
    found = [(name, value.detach().clone()) for part in parts for name, value in part.named_parameters()]
    return [value[1:] if name.endswith("decoder.weight") else value for name, value in found]


def train(parts: Any, **options: Any) -> tuple[list[torch.Tensor], Any]:
    """Best averaged weights and history."""
    model, guide, objective, own = parts
    settings = {"updates": 50, "batch_size": 8, "lr": 1e-2, "evaluations": 1, "evaluate_on": 4, "progress": False}
    history = gp.fit(model, guide, TASK, objective=objective, device="cpu", **(settings | own | options))
    return weights(model, guide), [record._replace(seconds=0) for record in history]


@pytest.mark.parametrize("parts", [plain, heads, wandering, halting, deciding, diffusion])
def test_a_graph_gives_the_parameters_of_the_plain_update(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "use_bf16", lambda device: False)  # whose rounding 50 updates make large
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda precision: None)  # nor its kernels for float32
    updates = 50 if parts is plain else 10
    (expected, before), (found, after) = (train(parts(), updates=updates, graph=how) for how in (False, Repeats()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close([r.loss for r in after], [r.loss for r in before], rtol=1e-3, atol=1e-5)
    assert [r.beta for r in after] == [r.beta for r in before]


@pytest.mark.parametrize("parts", [plain, deciding])
def test_a_graph_resumes_bit_for_bit(tmp_path: Path, parts: Any) -> None:
    def stop(run: Trainer) -> None:
        if run.update == 7:
            raise KeyError

    settings: dict[str, Any] = {"updates": 10, "checkpoint_every": 3, "graph": Repeats()}
    whole = train(parts(), **settings, out=tmp_path / "whole")
    with pytest.raises(KeyError):
        train(parts(), **settings, out=tmp_path / "cut", before_update=stop)
    torch.manual_seed(99)
    cut = train(parts(), **settings, out=tmp_path / "cut", resume=True)
    assert all(map(torch.equal, cut[0], whole[0]))
    assert cut[1] == whole[1]
    states = [checkpoint.read(tmp_path / name / gp.STATE_FILE)[0] for name in ("cut", "whole")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


def test_memory_stays_where_it_is_and_capturing_leaves_no_trace() -> None:
    places = []

    def look(run: Trainer) -> None:
        assert run.graph is not None
        if run.update:
            (work,) = run.graph.work.values()
            assert run.rows.carry is not None
            tensors = [*work.inputs, *run.rows.carry.latent.parts, *run.segment.parameters()]
            tensors += [value for state in run.optimizer.state.values() for value in state.values()]
            places.append([tensor.data_ptr() for tensor in tensors])
        steps = [int(state["step"]) for state in run.optimizer.state.values()]
        assert all(step == run.update for step in steps)
        assert run.average.n_averaged == run.update

    train(plain(), updates=6, graph=Repeats(), before_update=look)
    assert len(places) == 5
    assert all(some == places[0] for some in places)


class Asking(gp.models.GRAM):
    """Asks the device in the middle of a segment."""

    def answer(self, h: torch.Tensor) -> Any:
        assert float(h.detach().square().mean()) >= 0
        return super().answer(h)


class Moving(gp.SegmentELBO):
    """Moves a number that no graph knows of."""

    def set_progress(self, progress: float) -> None:
        super().set_progress(progress)
        self.balance = 0.5 + progress / 4


def asking() -> Any:
    model = Asking(TASK.spec, width=8, mixer=MIXER)
    return model, gp.guides.AmortizedGuide(model), gp.SegmentELBO(1.0), {}


@contextmanager
def said(words: str) -> Iterator[None]:
    """Within, there is one warning, and these words are in it."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield
    assert [words in str(warning.message) for warning in found] == [True]


@pytest.mark.parametrize(
    ("parts", "options", "reason"),
    [
        (asking, {"graph": Repeats()}, "reads from the device within a segment"),
        (plain, {"graph": True}, "there is no CUDA"),
        (plain, {"graph": Repeats(), "accumulate": 2}, "several processes or parts"),
        (lambda: (*plain()[:2], Moving(1.0), {}), {"graph": Repeats()}, "more than beta"),
    ],
)
def test_what_cannot_be_captured_says_so_once_and_runs_as_ever(parts: Any, options: Any, reason: str) -> None:
    settings: dict[str, Any] = {"updates": 6, **options}
    with said(reason):
        found = train(parts(), **settings)
    expected = train(parts(), **settings | {"graph": False})
    assert all(map(torch.equal, found[0], expected[0]))
    assert found[1] == expected[1]


def test_static_work_is_captured_again_for_other_shapes_and_restores_what_it_changed() -> None:
    total, calls = torch.zeros(()), []

    def add(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return total.add_(x.sum()).clone() + torch.rand(())

    work = Static(add, Repeats(), lambda: [total])
    torch.manual_seed(0)
    first = work(torch.ones(3))
    kept = first.clone()
    assert work(torch.full((3,), 2.0)) is first
    assert not torch.equal(first, kept)
    assert work(torch.ones(4)) is not first
    assert total == 3 + 6 + 4
    assert calls == [3, 3, 3, 3, 4, 4, 4]
    torch.manual_seed(0)
    assert kept == 3 + torch.rand(())
    with pytest.raises(Unfit, match="reads"):
        Static(lambda x: x * x.sum().item(), Repeats())(torch.ones(2))


def test_async_samples_are_those_of_torch() -> None:
    logits = torch.randn(7, 3, 5)
    torch.manual_seed(1)
    expected = torch.distributions.Categorical(logits=logits).sample()
    torch.manual_seed(1)
    assert torch.equal(AsyncCategorical(logits=logits).expand((7, 3)).sample(), expected)
    assert AsyncCategorical(logits=logits).sample(torch.Size([2])).shape == (2, 7, 3)


# On CUDA --------------------------------------------------------------------------------------------------------------


def cuda_run(parts: Any, graph: bool, updates: int = 50) -> Trainer:
    model, guide, objective, own = parts()
    settings = {
        "updates": 50, "batch_size": 64, "seed": 0, "lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.95], "clip": 1.0,
        "warmup": 5, "decay": 0.3, "final": 0.05, "ema": 0.99, "evaluations": 0, "evaluate_on": 0,
        "evaluate_steps": None, **own,
    }  # fmt: skip
    run = Trainer(model, guide, TASK, objective, settings, "cuda", graph=graph)
    while run.update < updates:
        run.step()
    return run


def ends(run: Trainer) -> list[torch.Tensor]:
    return weights(run.segment, run.average.module)


@pytest.mark.cuda
@pytest.mark.parametrize("parts", [plain, heads, wandering, halting, deciding, diffusion])
def test_cuda_graph_gives_the_parameters_of_the_plain_update(parts: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("gram_ppl.runtime.precision.use_bf16", lambda device: False)
    graphed = cuda_run(parts, True)
    assert graphed.graph is not None
    assert graphed.graph.reason == ""
    torch.testing.assert_close(ends(graphed), ends(cuda_run(parts, False)), rtol=0, atol=1e-5)


@pytest.mark.cuda
def test_cuda_graph_resumes_bit_for_bit(tmp_path: Path) -> None:
    from gram_ppl.training import snapshot

    half = cuda_run(plain, True, 25)
    snapshot.store(half, tmp_path)
    resumed = cuda_run(plain, True, 0)
    torch.cuda.manual_seed(99)
    snapshot.restore(resumed, tmp_path)
    while resumed.update < 50:
        resumed.step()
        half.step()
    assert all(map(torch.equal, ends(resumed), ends(half)))


@pytest.mark.cuda
def test_cuda_refuses_what_asks_the_device_and_goes_on() -> None:
    with said("reads from the device"):
        found = cuda_run(asking, True, 6)
    assert all(map(torch.equal, ends(found), ends(cuda_run(asking, False, 6))))
