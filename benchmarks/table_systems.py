"""The systems that the paper compares, each made from the settings of one column of a table.

A column is a preset: task, backbone, rates and test. A system takes the backbone as it stands and adds what is its own,
so that all of them share blocks, batches, verifiers and budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import nn

import gram_ppl as gp
from gram_ppl import guides, models, presets
from gram_ppl.inference.halt import Never
from gram_ppl.models import NoNoise, NoVariance, UnboundedNoise, ZeroMeanNoise
from gram_ppl.nn import Attention
from gram_ppl.presets.preset import Preset
from gram_ppl.program.poutine import ExtraNoise, Temperature
from gram_ppl.tasks.base import Task


class Made(NamedTuple):
    """What ``gp.fit`` takes beside the task."""

    model: Any
    guide: nn.Module
    objective: Any


Make = Callable[[Preset, Task, int], Made]


@dataclass(frozen=True)
class System:
    """One row of a table.

    Args:
        make: from the column's preset, its task and a seed to model, guide and objective.
        test: further arguments of :func:`gram_ppl.metrics.evaluate`; the preset's steps, temperature and halting where
            it says nothing, and the model's own depth for ``steps`` None.
        fit: other arguments of :func:`gram_ppl.fit` than the column's.
        weights: the system whose trained weights this one uses.
        paper: its name in the paper's tables.
    """

    make: Make
    test: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    paper: str | None = None


def backbone(preset: Preset, task: Task, *names: str) -> dict[str, Any]:
    """The settings that all systems share, and others by name, as far as the preset has them."""
    shared = ("width", "hidden", "mixer", "registers", "positions", "encoder", *names)
    found = {name: preset.model[name] for name in shared if name in preset.model}
    return found if preset.encoder is None else found | {"encoder": preset.encoder(task)}


def gram(guide: Callable[..., nn.Module] = guides.AmortizedGuide, beta: Any = None, **changes: Any) -> Make:
    """GRAM with other arguments than the preset's: a function is given the value that stands there.

    ``balance``, ``window`` and ``steps`` are the objective's; ``beta`` is a function of preset and model.
    """

    def make(preset: Preset, task: Task, seed: int) -> Made:
        arguments = {**preset.model, **backbone(preset, task)}
        options: dict[str, Any] = {"beta": preset.beta, "balance": preset.balance}
        for name, change in changes.items():
            where = options if name in ("balance", "window", "steps") else arguments
            where[name] = change(arguments) if callable(change) else change
        model = models.GRAM(task.spec, **arguments, seed=seed)
        if beta is not None:
            options["beta"] = beta(preset, model)
        return Made(model, guide(model, seed=seed), gp.SegmentELBO(**options))

    return make


def plain(model: Callable[..., Any], *names: str, objective: Callable[[], Any] | None = None, **arguments: Any) -> Make:
    """A model whose only latent is deterministic: the empty guide, the likelihood alone."""

    def make(preset: Preset, task: Task, seed: int) -> Made:
        made = model(task.spec, **backbone(preset, task, *names), **arguments, seed=seed)
        return Made(made, guides.Empty(made), gp.SegmentELBO() if objective is None else objective())

    return make


def deciding(guide: Callable[..., nn.Module] = guides.Revealing, **changes: Any) -> Make:
    """GRAM that decides, on the backbone of the preset, with other arguments; those of the objective among them."""

    def make(preset: Preset, task: Task, seed: int) -> Made:
        arguments = {**backbone(preset, task, "layers", "low_steps"), **DECIDING}
        options: dict[str, Any] = {"beta": preset.beta, "balance": preset.balance, "steps": DECIDING["block"]}
        for name, change in changes.items():
            where = options if name in ("window", "every_step") else arguments
            where[name] = change({**preset.model}) if callable(change) and name == "noise" else change
        model = models.Deciding(task.spec, **arguments, seed=seed)
        return Made(model, guide(model, seed=seed), gp.DecidingELBO(**options))

    return make


def _as_set(preset: Preset, task: Task, seed: int) -> Made:
    """What the preset itself describes."""
    parts = presets.build(preset, seed=seed, task=task)
    return Made(parts.model, parts.guide, parts.objective)


def _looped(preset: Preset, task: Task, seed: int) -> Made:
    """As many passes through its blocks as a trajectory of the preset's model takes in training."""
    options = {"transitions": 2, "low_steps": 2, "supervision": 4} | preset.model
    loops = options["supervision"] * options["transitions"] * (options["low_steps"] + 1)
    return plain(models.LoopedTransformer, "layers", loops=loops)(preset, task, seed)


def matched(
    kind: Callable[..., Any],
    guide: Callable[..., nn.Module],
    objective: Callable[[], Any],
    *,
    layers: int = 2,
    times: float = 1.0,
    **arguments: Any,
) -> Make:
    """A model of other make with as many parameters as the column's GRAM, ``times`` them: by its hidden units."""

    def make(preset: Preset, task: Task, seed: int) -> Made:
        wanted = times * _size(gram()(preset, task, seed).model)
        options = {**backbone(preset, task), "layers": layers, "seed": seed, **arguments}
        few, more = (_size(kind(task.spec, **options | {"hidden": hidden})) for hidden in (8, 16))
        hidden = max(8, 8 + round((wanted - few) / (more - few) * 8))
        model = kind(task.spec, **options | {"hidden": hidden})
        return Made(model, guide(model), objective())

    return make


def _size(model: nn.Module) -> int:
    return sum(weights.numel() for weights in model.parameters())


def _bound() -> Any:
    return gp.SegmentELBO(beta=1.0, balance=None)


def _hybrid() -> Any:
    return gp.DenoisingELBO(auxiliary=0.01)


def _no_posterior(model: Any, *, seed: int) -> nn.Module:
    return guides.Empty(model)


def _noise(kind: Callable[..., Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda arguments: kind(floor=arguments["noise"].floor, scale=arguments["noise"].scale)


def _preset_noise(arguments: dict[str, Any]) -> Any:
    return arguments["noise"]


def _without_relations(arguments: dict[str, Any]) -> Attention:
    return Attention(arguments.get("mixer", Attention()).heads, relations=False)


def _averaged_kl(preset: Preset, model: Any) -> float:
    """β = 0.1 on the KL's mean over elements beside the mean cross-entropy of a token, as weight of the sum."""
    return 0.1 * model.spec.len_out / (model.encoder.length * model.width)


# Without deep supervision the trainer sees one supervision step, and the segment has all of them.
END_ONLY: dict[str, Any] = {
    "steps": lambda arguments: arguments.get("supervision", 4),
    "supervision": 1,
    "window": False,
}
# A chain runs to its end, without the noise and the halting of the column's GRAM.
WHOLE: dict[str, Any] = {"steps": None, "noise": None, "halt": Never(), "retry": None}
LAST_WEIGHTS: dict[str, Any] = {"evaluations": 0}
RECURSION = ("layers", "low_steps", "transitions", "supervision")
DECIDING: dict[str, Any] = {"block": 4, "transitions": 1, "supervision": 64, "anew": True}
DECIDED: dict[str, Any] = {**WHOLE, "steps": 256}  # the budget of a trajectory; it ends with its answer
# chosen on validation boards of 8 queens, three seeds
TURNED: dict[str, Any] = DECIDED | {"symmetric": True, "views": 4, "noise": Temperature(1.15)}
LATER = gp.OwnStates(rise=(0.3, 0.8), temperature=1.3)
OWN: dict[str, Any] = {"lr": 2e-3, "evaluations": 0, "own_states": LATER}
BRIEF: dict[str, Any] = OWN | {"own_states": replace(LATER, linger=False)}
GIVEN: dict[str, Any] = {"lr": 2e-3, "evaluations": 0}

AS_SET = System(_as_set)
SYSTEMS: dict[str, System] = {
    "Direct, 8 layers": System(plain(models.Direct, layers=8), test={"steps": 1}),
    "Direct, 32 layers": System(plain(models.Direct, layers=32), test={"steps": 1}, fit={"lr": 5e-4}),
    "Looped Transformer": System(_looped, test={"steps": 1}),
    "HRM": System(plain(models.HRM, *RECURSION)),
    "TRM": System(plain(models.TRM, *RECURSION)),
    "TRM, random z_0": System(plain(models.TRM, *RECURSION), test={"restart": True}, weights="TRM"),
    "TRM, sampled decoding": System(plain(models.TRM, *RECURSION), test={"sample": True}, weights="TRM"),
    "PTRM": System(plain(models.TRM, *RECURSION), test={"noise": ExtraNoise(0.3), "select": "best"}, weights="TRM"),
    "Autoregressive": System(matched(models.Autoregressive, guides.Empty, gp.SegmentELBO), test=WHOLE),
    "MDLM": System(matched(models.MDLM, guides.Noising, gp.DenoisingELBO), test=WHOLE, fit=LAST_WEIGHTS),
    "D3PM, uniform": System(matched(models.D3PM, guides.Noising, _hybrid), test=WHOLE, fit=LAST_WEIGHTS),
    "D3PM, uniform, 5 times the size": System(
        matched(models.D3PM, guides.Noising, _hybrid, layers=6, times=5), test=WHOLE, fit=LAST_WEIGHTS
    ),
    "D3PM, absorbing": System(
        matched(models.D3PM, guides.Noising, _hybrid, kernel=models.Absorbing()), test=WHOLE, fit=LAST_WEIGHTS
    ),
    "VAE": System(matched(models.VAE, guides.Recognition, _bound), test=WHOLE),
    "GRAM": System(gram()),
    "GRAM, trained long": AS_SET,
    "GRAM, deciding": System(deciding(certain=0.1), test=TURNED, fit=BRIEF),
    "answers read once": System(deciding(), test=DECIDED, weights="GRAM, deciding"),
    # Ablations of decisions: one change from the first of them.
    "lost rows linger": System(deciding(), test=DECIDED, fit=OWN),
    "with Gaussian guidance": System(deciding(guides.AmortizedGuide, noise=_preset_noise), test=DECIDED, fit=OWN),
    "random order": System(deciding(policy=models.RandomCells()), test=DECIDED, fit=OWN),
    "surest first": System(deciding(policy=models.SurestCells()), test=DECIDED, fit=OWN),
    "keep head": System(
        deciding(keep=True, policy=models.Both(models.Drop(), models.RandomCells())), test=DECIDED, fit=OWN
    ),
    "without contradiction head": System(deciding(contradiction=False), test=DECIDED, fit=OWN),
    "without own states": System(deciding(), test=DECIDED, fit=GIVEN),
    "loss at every step": System(deciding(every_step=True), test=DECIDED, fit=OWN),
    "gradient through all steps": System(deciding(window=DECIDING["block"]), test=DECIDED, fit=OWN),
    "latent carried": System(deciding(anew=False), test=DECIDED, fit=OWN),
    # Ablations of GRAM, table 3 of the paper and ours.
    "without hierarchy": System(gram(hierarchy=False)),
    "without deep supervision": System(gram(**END_ONLY)),
    "without both": System(gram(hierarchy=False, **END_ONLY)),
    "no guidance": System(gram(_no_posterior, noise=NoNoise())),
    "noise with mean 0": System(gram(noise=_noise(ZeroMeanNoise))),
    "mean without noise": System(gram(noise=_noise(NoVariance))),
    "posterior in every transition": System(gram(guides.EveryTransition)),
    "without relations": System(gram(mixer=_without_relations)),
    "KL without balance": System(gram(balance=None)),
    "KL averaged over elements": System(gram(beta=_averaged_kl)),
    "constant beta": System(gram(beta=lambda preset, model: preset.beta.last)),
    "sigma without bound": System(gram(noise=_noise(UnboundedNoise))),
    "scheduled sampling": System(gram(), fit={"scheduled_sampling": 0.5}),
}
