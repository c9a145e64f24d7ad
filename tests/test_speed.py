"""What keeps training fast: no scalar is read from the device, and compiled networks are the same networks."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import gram_ppl as gp
from gram_ppl.runtime import compilation
from gram_ppl.runtime.clocks import DeviceClock
from gram_ppl.runtime.compilation import compiled
from gram_ppl.runtime.precision import fast, send
from gram_ppl.training.trainer import Trainer

CPU = torch.device("cpu")


class Reads(TorchDispatchMode):
    """Counts how often a tensor becomes a Python number; on CUDA each of them waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


@pytest.fixture(scope="module")
def task() -> gp.tasks.Sudoku:
    return gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=8, num_test=8)


def tiny(task: gp.tasks.Sudoku, model: Callable[..., Any] = gp.models.GRAM, **options: Any) -> tuple[Any, Any]:
    program = model(task.spec, width=8, mixer=gp.nn.Attention(heads=2), **options)
    return program, gp.guides.AmortizedGuide(program) if model is gp.models.GRAM else gp.guides.Empty(program)


def trainer(task: gp.tasks.Sudoku, model: nn.Module, guide: nn.Module) -> Trainer:
    settings = {
        "updates": 1000, "batch_size": 8, "seed": 0, "lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.95], "clip": 1.0,
        "warmup": 5, "decay": 0.3, "final": 0.05, "ema": 0.99, "evaluations": 0, "evaluate_on": 4,
        "evaluate_steps": None,
    }  # fmt: skip
    return Trainer(model, guide, task, gp.SegmentELBO(1.0), settings, "cpu")


def test_the_count_sees_a_read() -> None:
    with Reads() as reads:
        assert torch.ones(()) > 0
        torch.ones(()).item()
    assert reads.count == 2


@pytest.mark.parametrize("model", [gp.models.GRAM, gp.models.HRM, gp.models.TRM])
def test_a_segment_reads_no_scalar(task: gp.tasks.Sudoku, model: Any) -> None:
    program, guide = tiny(task, model)
    segment = gp.SegmentELBO(1.0)(program, guide)
    x, y = next(task.batches("train", 4, torch.Generator().manual_seed(0)))
    with fast(CPU), Reads() as reads:
        segment(x, y, latent=program.initial(4), steps=1)[0].backward()
    assert reads.count == 0


@pytest.mark.parametrize("tracked", [False, True])
def test_an_update_on_cuda_reads_no_scalar_of_the_device(
    task: gp.tasks.Sudoku, monkeypatch: Any, tracked: bool
) -> None:
    run = trainer(task, *tiny(task))
    run.step()
    if tracked:
        run.clock = DeviceClock(object)  # of events that cannot be read
    monkeypatch.setattr("gram_ppl.training.trainer.fast", lambda _: fast(CPU))
    run.device = torch.device("cuda")  # every branch of an update is that of CUDA, on tensors of the CPU
    with Reads() as reads:
        for _ in range(3):
            run.step()
    assert reads.count == 0


def test_data_are_sent_as_they_are() -> None:
    x = torch.arange(6).view(2, 3)
    assert torch.equal(send(x, CPU), x)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch's own, in importing inductor
def test_compilation_ends_with_its_block_and_leaves_state_and_copies_alone(
    task: gp.tasks.Sudoku, monkeypatch: Any
) -> None:
    monkeypatch.setattr(compilation, "possible", lambda device: True)
    model, _ = tiny(task)
    names = list(model.state_dict())
    with compiled(model):
        assert model.core._compiled_call_impl is not None
        assert list(model.state_dict()) == names
        assert copy.deepcopy(model).core._compiled_call_impl is None
    assert model.core._compiled_call_impl is None
    with contextlib.suppress(KeyError), compiled(model):
        raise KeyError
    assert model.core._compiled_call_impl is None
    assert list(model.state_dict()) == names


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_fit_compiles_where_it_is_asked_to(task: gp.tasks.Sudoku, monkeypatch: Any) -> None:
    monkeypatch.setattr(compilation, "possible", lambda device: True)
    seen: list[bool] = []

    def watched(run: Trainer) -> None:
        core: Any = run.segment.model.core
        seen.append(core._compiled_call_impl is not None)
        core._compiled_call_impl = None  # the program itself is compiled in the slow test

    settings: dict[str, Any] = {"updates": 1, "batch_size": 8, "evaluations": 0, "progress": False, "device": "cpu"}
    for compile in (True, False, None):
        gp.fit(*tiny(task), task, **settings, compile=compile, before_update=watched)
    assert seen == [True, False, False]


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_without_a_compiler_the_run_is_uncompiled(task: gp.tasks.Sudoku, monkeypatch: Any) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def search() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", search)
    options: dict[str, Any] = {"updates": 2, "batch_size": 8, "evaluations": 0, "progress": False, "device": "cpu"}
    made = []
    for compile in (True, False):
        model, guide = tiny(task)
        with pytest.warns(UserWarning, match="no C\\+\\+ compiler") if compile else contextlib.nullcontext():
            gp.fit(model, guide, task, **options, compile=compile)
        made.append(model.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_a_compiled_run_is_the_run_up_to_rounding(task: gp.tasks.Sudoku, monkeypatch: Any) -> None:
    if not compilation.possible(torch.device("cpu")):
        pytest.skip("no C++ compiler")
    monkeypatch.setattr("gram_ppl.runtime.precision.use_bf16", lambda device: False)

    def run(**options: Any) -> tuple[list[torch.Tensor], Any]:
        model, guide = tiny(task)
        history = gp.fit(model, guide, task, updates=6, batch_size=8, evaluations=2, progress=False, **options)
        return [p.detach().clone() for module in (model, guide) for p in module.parameters()], history

    (eager, _), (once, history), (again, same) = run(), run(compile=True), run(compile=True)
    torch.testing.assert_close(once, eager, rtol=1e-3, atol=1e-5)
    assert all(map(torch.equal, once, again))
    assert [record._replace(seconds=0) for record in history] == [record._replace(seconds=0) for record in same]
