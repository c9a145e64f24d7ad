"""A device without float64, as Apple's MPS is: its tensors say they are there, and compute on the CPU.

    python tests/elsewhere.py FOLDER

trains, rolls out, measures and draws there, and ends with an error where a tensor is made float64 on the device, or
meets one of the CPU that is no number and no index. A process has such a device for good, so tests start one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

import gram_ppl as gp
from gram_ppl.inference.depths import rollouts_by_depth
from gram_ppl.reporting import pictures

NAME = "elsewhere"
aten = torch.ops.aten
# A copy goes from one device to another, and indices may lie on the CPU.
MIXED = {aten.copy_.default, aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
CPU_GENERATOR = torch.Generator


class Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend(NAME, Module())
DEVICE = torch.device(NAME, 0)


class Distant(Tensor):
    """A tensor on the device; ``held`` has its values."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> Distant:
        if held.dtype in (torch.float64, torch.complex128):
            raise TypeError("this device has no float64")
        layout: Any = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made: Any = torch.Tensor._make_wrapper_subclass(cls, held.size(), device=DEVICE, **layout)
        made.held = held
        return made

    def __init__(self, held: Tensor) -> None:
        super().__init__()

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert a tensor elsewhere to numpy. Use Tensor.cpu() first.")

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return computed(func, args, kwargs or {})


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, where it has to be."""
    given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    mine = {id(value.held): value for value in given if isinstance(value, Distant)}
    there, target = bool(mine), kwargs.get("device")
    if target is not None:
        there = torch.device(target).type == DEVICE.type
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif there and func not in MIXED and any(not isinstance(value, Distant) and value.dim() for value in given):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    if func is aten.copy_.default:
        there = isinstance(args[0], Distant)
    args, kwargs = tree_map_only(Distant, lambda value: value.held, (args, kwargs))
    result = func(*args, **kwargs)
    if not there:
        return result
    return tree_map_only(Tensor, lambda value: mine[id(value)] if id(value) in mine else Distant(value), result)


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})


class _Function(TorchFunctionMode):
    """Tensors of numbers are made on the CPU and moved: PyTorch makes them past :class:`_Dispatch`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == DEVICE:
            return func(*args, **{**kwargs, "device": None}).to(DEVICE)
        return func(*args, **kwargs)


class _Generators(type):
    def __instancecheck__(cls, some: Any) -> bool:
        return isinstance(some, CPU_GENERATOR)


class Generator(metaclass=_Generators):
    """In the place of ``torch.Generator``: noise of the device is drawn on the CPU."""

    def __new__(cls, device: Any = None) -> Any:
        return CPU_GENERATOR()


def trained(folder: Path) -> None:
    """Models of every kind, trained there, rolled out, judged and drawn."""
    task = gp.tasks.Sudoku((2, 2), clues=(4, 8), num_validation=4, num_test=6)
    some: dict[str, Any] = {"updates": 2, "batch_size": 8, "evaluations": 1, "device": DEVICE, "progress": False}
    some |= {"compile": False}
    x, y = next(task.batches("test", 6, CPU_GENERATOR().manual_seed(0)))

    model = gp.models.GRAM(task.spec, width=8, supervision=2)
    guide = gp.guides.AmortizedGuide(model)
    gp.fit(model, guide, task, heads_every=1, scheduled_sampling=0.5, out=folder, **some)
    gp.fit_heads(model, task, updates=2, batch_size=4)
    for select in gp.select.SELECTORS.values():
        gp.metrics.evaluate(model, task, x=x, num_samples=3, select=select)
    gp.metrics.evaluate(model, task, num_samples=3, mode="coverage", halt=gp.halt.Confident())
    gp.uniformity(model, task, num_samples=3, draws=9)
    gp.bounds.pareto_k(gp.bounds.log_weights(model, guide, x, y, num_particles=100))
    gp.bounds.kl(model, guide, x, y, num_particles=2)
    gp.bounds.surrogate(model, guide, x, y, num_particles=2)
    course = rollouts_by_depth(model, x, num_samples=4)
    pictures.scaling(task, x, course, select=gp.select.WeightedVote())
    pictures.coverage_by_solutions(task, x, course[-1].tokens)
    pictures.convergence(task, x, course)
    pictures.reliability(task, x, course)
    pictures.divergence(model, guide, x, y, num_particles=2)
    pictures.landscape(model, task, x[0], task.solutions(x[0]), num_samples=3, grid=4)
    gp.to_arviz(model, guide, task, x, y, num_samples=2)

    deciding = gp.models.Deciding(task.spec, width=8, block=2, transitions=1, supervision=8)
    revealing = gp.guides.Revealing(deciding)
    gp.fit(deciding, revealing, task, objective=gp.DecidingELBO(steps=2), own_states=gp.OwnStates(), **some)
    gp.metrics.evaluate(deciding, task, num_samples=3, steps=8, select=gp.select.WeightedVote())
    gp.uniformity(deciding, task, num_samples=3, draws=9)


def compared() -> None:
    """The models that GRAM is compared with."""
    task = gp.tasks.Sudoku((2, 2), clues=(4, 8), num_validation=4, num_test=6)
    some: dict[str, Any] = {
        "evaluations": 1,
        "evaluate_steps": 2,
        "device": DEVICE,
        "progress": False,
        "compile": False,
    }
    for other, own, goal in (
        (gp.models.TRM, gp.guides.Empty, gp.SegmentELBO()),
        (gp.models.Autoregressive, gp.guides.Empty, gp.SegmentELBO()),
        (gp.models.MDLM, gp.guides.Noising, gp.DenoisingELBO()),
    ):
        made: Any = other(task.spec, width=8)
        gp.fit(made, own(made), task, updates=1, batch_size=made.supervision, objective=goal, **some)
        gp.metrics.evaluate(made, task, num_samples=2, steps=2)


def judged() -> None:
    """Answers of every task, and its symmetries."""
    tasks = [
        gp.tasks.Sudoku((2, 2), (4, 8), num_test=4, num_validation=4),
        gp.tasks.NQueens(6, num_test=4, num_validation=4),
        gp.tasks.GraphColoring(5, num_train=20, num_test=4, num_validation=4),
        gp.tasks.Maze((3, 4), min_length=3, num_test=4, num_validation=4, pool=30),
        gp.tasks.BinarizedMNIST(size=8, num_test=4, num_validation=4),
    ]
    for task in tasks:
        x, y = (rows.to(DEVICE) for rows in next(task.batches("test", 4, CPU_GENERATOR().manual_seed(0))))
        assert task.verify(x, y).device == DEVICE
        task.violations(x[:, None], task.canonical(y[:, None]))
        images, back = task.symmetric(x, CPU_GENERATOR().manual_seed(0))
        assert back(y).device == images.device == DEVICE
    pictures, labels = torch.rand(8, 8, 8, device=DEVICE), torch.tensor([0, 1] * 4, device=DEVICE)
    net = gp.features.train_features(pictures, labels, epochs=1, batch_size=4)
    gp.features.picture_quality(net, pictures, pictures)
    gp.features.accuracy(net, pictures, labels)


if __name__ == "__main__":
    with _Function(), _Dispatch(), mock.patch.object(torch, "Generator", Generator):
        for refused in (torch.float64, torch.complex128):
            try:
                torch.zeros(1, device=DEVICE).to(refused)
            except TypeError:
                continue
            raise AssertionError(f"{refused} is there")
        judged()
        compared()
        trained(Path(sys.argv[1]))
