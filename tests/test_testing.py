"""Shipped contract tests: right classes pass, each broken one fails with a sentence that names its fault."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

import gram_ppl as gp
from gram_ppl import models
from gram_ppl.models.decisions import DROPPED, AllSure, Both, Drop, RandomCells, RuleOut, SurestCells, View
from gram_ppl.tasks.base import Spec

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "custom_task.py"
LatinSquare: Any = runpy.run_path(str(EXAMPLE))["LatinSquare"]
SMALL = {"n": 3, "givens": (1, 4), "num_test": 30}


def fault(check: Callable[..., None], *given: Any) -> str:
    """The one sentence with which a check fails."""
    with pytest.raises(AssertionError) as caught:
        check(*given)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


# Tasks: tests/tasks/test_contract.py has all of ours ------------------------------------------------------------------


class IgnoresGivens(LatinSquare):
    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        return super().violations(torch.zeros_like(x), y)


class LosesASolution(LatinSquare):
    def solutions(self, x: Tensor) -> Tensor:
        found = super().solutions(x)
        return found[1:] if len(found) > 1 else found


class Lopsided(LatinSquare):
    """Of the solutions of an input the first one comes up."""

    def rows(self, num: int, generator: torch.Generator) -> gp.Batch:
        x = super().rows(num, generator).x
        return gp.Batch(x, torch.stack([self.solutions(one)[0] for one in x]))


class LopsidedTest(LatinSquare):
    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[gp.Batch]:
        if split == "train":
            return super().batches(split, batch_size, generator)
        y = torch.stack([self.solutions(x)[len(self.solutions(x)) // 2] for x in self.inputs(split)])
        rows = (torch.randint(len(y), (batch_size,), generator=generator) for _ in count())
        return (gp.Batch(self.inputs(split)[some], y[some]) for some in rows)


class Leaks(LatinSquare):
    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[gp.Batch]:
        if split != "train":
            return super().batches(split, batch_size, generator)
        return (self.rows(batch_size, generator) for _ in count())


class DrawsElsewhere(LatinSquare):
    def rows(self, num: int, generator: torch.Generator) -> gp.Batch:
        torch.rand(1)
        return super().rows(num, generator)


class OtherEveryTime(LatinSquare):
    def inputs(self, split: str) -> Tensor:
        return super().inputs(split)[torch.randperm(len(super().inputs(split)))]


class RaisesOnGarbage(LatinSquare):
    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        torch.zeros(self.n + 1)[y.long()]
        return super().violations(x, y)


class TakesFloats(LatinSquare):
    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        return super().violations(x.long(), y.long())


class Transposes(LatinSquare):
    def parse(self, text: str) -> Tensor:
        return super().parse(text).view(self.n, self.n).T.flatten()


class ReadsAnything(LatinSquare):
    def parse(self, text: str) -> Tensor:
        return super().parse(text) if len(text.split()) == self.n**2 else torch.zeros(self.n**2, dtype=torch.long)


class NoUndo(LatinSquare):
    def symmetric(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return torch.where(x > 0, 1 + x % self.n, 0), lambda y: y


class WrongLeaves(LatinSquare):
    spec: Spec

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.spec = self.spec._replace(leaves=torch.eye(self.n + 1, dtype=torch.bool))


class Repeats(LatinSquare):
    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[gp.Batch]:
        first = next(super().batches(split, batch_size, generator))
        return (first for _ in count())


BROKEN = {
    IgnoresGivens: "IgnoresGivens.verify: the answer to another input is accepted, and solutions does not list it.",
    LosesASolution: "LosesASolution.solutions: an answer of batches is missing from the solutions.",
    Lopsided: "Lopsided.batches: y is not drawn uniformly among the solutions of x (training rows: ",
    LopsidedTest: "LopsidedTest.batches: y is not drawn uniformly among the solutions of x (test rows: ",
    Leaks: "Leaks.batches: a training row is a held-out input.",
    DrawsElsewhere: "DrawsElsewhere.batches: it draws from torch's global generator.",
    OtherEveryTime: "OtherEveryTime.__init__: a task with the same arguments has other validation inputs: ",
    RaisesOnGarbage: "RaisesOnGarbage.verify: an answer of the largest tokens of torch.int8 ends in IndexError (",
    TakesFloats: "TakesFloats.violations: an answer of floats is accepted; raise ValueError and say what was expected.",
    Transposes: "Transposes.parse: what line wrote, ",
    ReadsAnything: "ReadsAnything.parse: a text that is no puzzle is accepted; raise ValueError",
    NoUndo: "NoUndo.symmetric: undo gives an answer that does not solve the input of before.",
    WrongLeaves: "WrongLeaves.spec: leaves exclude a token of a right answer.",
    Repeats: "Repeats.batches: two training batches in a row are the same: go on with the generator.",
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_task_is_told_its_fault(kind: Any) -> None:
    assert fault(gp.testing.check_task, kind(**SMALL)).startswith(BROKEN[kind])


def test_the_task_of_the_example() -> None:
    gp.testing.check_task(LatinSquare())
    gp.testing.check_task(LatinSquare(**SMALL), seed=1)
    # Latin squares of side 3 and 4: OEIS A002860
    assert [len(LatinSquare(n, num_test=1).squares) for n in (3, 4)] == [12, 576]
    assert LatinSquare(2, (1, 1), num_test=1).solutions(torch.tensor([0, 1, 0, 0])).tolist() == [[2, 1, 1, 2]]
    assert len(EXAMPLE.read_text().splitlines()) < 80


# Models and guides ----------------------------------------------------------------------------------------------------

SPEC = Spec(6, 4, 6, 5)
TASK = LatinSquare(**SMALL)
SIZE: dict[str, Any] = {"width": 16}
SYSTEMS: dict[str, tuple[Any, Any, Any]] = {
    "GRAM": (lambda: models.GRAM(SPEC, transitions=2, **SIZE), gp.guides.AmortizedGuide, None),
    "every transition": (lambda: models.GRAM(TASK.spec, **SIZE), gp.guides.EveryTransition, None),
    "prior": (lambda: models.GRAM(SPEC, **SIZE), gp.guides.PriorGuide, None),
    "deciding": (lambda: models.Deciding(TASK.spec, block=1, **SIZE), gp.guides.Revealing, gp.DecidingELBO),
    "direct": (lambda: models.Direct(SPEC, **SIZE), gp.guides.Empty, None),
    "looped": (lambda: models.LoopedTransformer(SPEC, **SIZE), gp.guides.Empty, None),
    "hrm": (lambda: models.HRM(SPEC, **SIZE), gp.guides.Empty, None),
    "trm": (lambda: models.TRM(SPEC, **SIZE), gp.guides.Empty, None),
    "ar": (lambda: models.Autoregressive(SPEC, **SIZE), gp.guides.Empty, None),
    "mdlm": (lambda: models.MDLM(SPEC, denoising=3, **SIZE), gp.guides.Noising, gp.DenoisingELBO),
    "d3pm": (lambda: models.D3PM(SPEC, denoising=3, **SIZE), gp.guides.Noising, gp.DenoisingELBO),
    "vae": (lambda: models.VAE(SPEC, **SIZE), gp.guides.Recognition, lambda: gp.SegmentELBO(1.0, None)),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_our_models_and_guides(name: str) -> None:
    make, kind, objective = SYSTEMS[name]
    model = make()
    gp.testing.check_model(model)
    gp.testing.check_guide(kind(model), objective and objective())


class SharesRows(models.Direct):
    """Rows see the mean of the batch."""

    def answer(self, h: Tensor) -> TorchDistribution:
        return super().answer(h + h.mean(0, keepdim=True))


class ForgetsY(models.Direct):
    def forward(self, x: Tensor | None = None, y: Tensor | None = None, **options: Any) -> Any:
        return super().forward(x, None, **options)


class Loses(models.Direct):
    def forward(self, x: Tensor | None = None, y: Tensor | None = None, **options: Any) -> Any:
        return super().forward(x, y, **options)[0]


class Detached(models.Direct):
    def answer(self, h: Tensor) -> TorchDistribution:
        with torch.no_grad():
            return super().answer(h)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [(SharesRows, "SharesRows.forward: the rows of a batch depend on each other."),
     (ForgetsY, "ForgetsY.forward: the answer y that is given is not observed."),
     (Loses, "Loses.forward: expected to return (gp.Latent, y)."),
     (Detached, "Detached.forward: no weight has a gradient of log p(y, τ | x).")],
)  # fmt: skip
def test_a_broken_model_is_told_its_fault(kind: Any, sentence: str) -> None:
    assert fault(gp.testing.check_model, kind(SPEC, **SIZE)).startswith(sentence)


class Narrow(gp.Guide):
    def posterior(self, u: Tensor, y: Tensor, prior: TorchDistribution) -> TorchDistribution:
        return dist.Normal(torch.zeros_like(u[..., :3]), 1.0).to_event(2)


class NotFinite(gp.Guide):
    def posterior(self, u: Tensor, y: Tensor, prior: TorchDistribution) -> TorchDistribution:
        return dist.Normal(prior.base_dist.loc / 0, 1.0, validate_args=False).to_event(2)


class Idle(gp.Guide):
    def __init__(self, model: gp.Program) -> None:
        super().__init__(model)
        self.head = nn.Linear(3, 3)

    def posterior(self, u: Tensor, y: Tensor, prior: TorchDistribution) -> TorchDistribution:
        return prior


class MixesRows(gp.Guide):
    def posterior(self, u: Tensor, y: Tensor, prior: TorchDistribution) -> TorchDistribution:
        return dist.Normal(u.mean(0, keepdim=True).expand_as(u), 1.0).to_event(2)


class RandomItself(gp.Guide):
    def posterior(self, u: Tensor, y: Tensor, prior: TorchDistribution) -> TorchDistribution:
        return dist.Normal(u + torch.randn(1), 1.0).to_event(2)


class WithoutModel(gp.Guide):
    def __init__(self, model: gp.Program) -> None:
        pass


class NeedsNothing(gp.Guide):
    def forward(self, x: Tensor | None = None, y: Tensor | None = None, **options: Any) -> Any:
        assert x is not None
        return super().forward(x, torch.ones(len(x), 6, dtype=torch.long) if y is None else y, **options)

    def posterior(self, u: Tensor, y: Tensor, prior: TorchDistribution) -> TorchDistribution:
        return prior


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [(Narrow, "Narrow.posterior: a run ends in RuntimeError (The size of tensor a"),
     (NotFinite, "NotFinite.posterior: "),
     (MixesRows, "MixesRows.posterior: at eps_0_1 the rows of a batch depend on each other."),
     (RandomItself, "RandomItself.posterior: at eps_0_1 the same latent values have another density when asked again."),
     (WithoutModel, "WithoutModel.__init__: reading guide.model ends in AttributeError"),
     (Idle, "Idle.posterior: none of its parameters has a gradient of the objective."),
     (NeedsNothing, "NeedsNothing.forward: a missing y is accepted; raise ValueError and say what was expected.")],
)  # fmt: skip
def test_a_broken_guide_is_told_its_fault(kind: Any, sentence: str) -> None:
    assert fault(gp.testing.check_guide, kind(models.GRAM(SPEC, **SIZE))).startswith(sentence)


def test_checks_leave_the_parameter_store_alone() -> None:
    pyro.clear_param_store()
    pyro.param("mine", torch.ones(2))
    for seed in (0, 1):
        model = models.GRAM(SPEC, seed=seed, **SIZE)
        gp.testing.check_guide(gp.guides.AmortizedGuide(model))
        gp.testing.check_model(model)
    assert list(pyro.get_param_store()) == ["mine"]
    pyro.clear_param_store()


def test_a_class_in_place_of_an_object() -> None:
    assert fault(gp.testing.check_task, LatinSquare) == (
        "LatinSquare: expected an object of a subclass of gp.tasks.Task."
    )
    assert fault(gp.testing.check_model, models.GRAM).startswith("GRAM: expected an object")
    assert fault(gp.testing.check_guide, gp.guides.PriorGuide).startswith("PriorGuide: expected an object")


# Policies and selectors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AllSure, Drop, RandomCells, RuleOut, SurestCells])
def test_our_policies(kind: Any) -> None:
    gp.testing.check_policy(kind())
    gp.testing.check_policy(Both(AllSure(0.4), kind()), views=8)


@pytest.mark.parametrize("name", gp.select.SELECTORS)
def test_our_selectors(name: str) -> None:
    gp.testing.check_selector(gp.select.SELECTORS[name], TASK)


@dataclass(frozen=True)
class Never:
    def __call__(self, view: View) -> Tensor:
        return torch.zeros_like(view.candidates, dtype=torch.long)


@dataclass(frozen=True)
class Whimsical:
    def __call__(self, view: View) -> Tensor:
        return view.apart(torch.rand(view.open.shape) < 0.5)


@dataclass(frozen=True)
class AcrossRows:
    def __call__(self, view: View) -> Tensor:
        return view.apart(view.order > view.order.mean())


@dataclass(frozen=True)
class Below:
    def __call__(self, view: View) -> Tensor:
        return torch.full_like(view.candidates, DROPPED - 1, dtype=torch.long)


@dataclass(frozen=True)
class DropsAll:
    def __call__(self, view: View) -> Tensor:
        return torch.full_like(view.candidates, DROPPED, dtype=torch.long)


def silent(*given: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [(Never(), "Never.__call__: in none of 24 views does it separate candidates"),
     (Whimsical(), "Whimsical.__call__: it draws from torch's global generator: take view.order."),
     (AcrossRows(), "AcrossRows.__call__: the rows of a batch depend on each other."),
     (DropsAll(), "DropsAll.__call__: it drops every candidate"),
     (silent, "silent.__call__: expected labels, found NoneType."),
     (Below(), "Below.__call__: a label is below -1.")],
)  # fmt: skip
def test_a_broken_policy_is_told_its_fault(policy: Any, sentence: str) -> None:
    assert fault(gp.testing.check_policy, policy).startswith(sentence)


def beyond(task: gp.tasks.Task, x: Tensor, rollouts: gp.Rollouts) -> tuple[Tensor, Tensor]:
    return torch.full((len(x),), rollouts.tokens.shape[1]), torch.ones(len(x))


def comparing(task: gp.tasks.Task, x: Tensor, rollouts: gp.Rollouts) -> tuple[Tensor, Tensor]:
    score = rollouts.log_prob.amax(1)
    return rollouts.log_prob.argmax(1), score - score.mean()


@pytest.mark.parametrize(
    ("select", "sentence"),
    [(silent, "silent.__call__: expected (index, score), two tensors."),
     (beyond, "beyond.__call__: an index is outside 0 .. 0."),
     (comparing, "comparing.__call__: the choice for an input depends on the other inputs.")],
)  # fmt: skip
def test_a_broken_selector_is_told_its_fault(select: Any, sentence: str) -> None:
    assert fault(gp.testing.check_selector, select, TASK) == sentence
