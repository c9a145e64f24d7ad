"""One run of a table: a folder with config, checkpoint and metrics, which an interrupted run goes on with."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from table_systems import AS_SET, SYSTEMS, Made, System
from table_text import Key
from torch import Tensor

import gram_ppl as gp
from gram_ppl.cli.measuring import from_nothing
from gram_ppl.evaluation import features
from gram_ppl.inference.options import depth
from gram_ppl.inference.select import SELECTORS
from gram_ppl.presets.preset import Preset
from gram_ppl.runtime import precision
from gram_ppl.storage import checkpoint
from gram_ppl.storage.card import Card
from gram_ppl.storage.checkpoint import MODEL_FILE
from gram_ppl.storage.descriptions import with_texts
from gram_ppl.storage.folder import STATE_FILE
from gram_ppl.storage.measurement import Measurement
from gram_ppl.storage.places import WEIGHTS
from gram_ppl.tasks.base import Task
from gram_ppl.training import flops

CONFIG_FILE, METRICS_FILE = "config.json", "metrics.json"


@dataclass(frozen=True)
class Run:
    """What one folder holds.

    Args:
        root: folder of all runs of one scale.
        column: short name of the column.
        preset: its settings.
        system: name of the row.
        seed: of data, weights and noise.
        teraflop: budget of training, in 10¹² floating-point operations of matrix products as torch counts them; None
            for the preset's own number of updates.
        packaged: name of the package's weights that are measured in place of a training.
        whole: the preset describes model, objective and test too.
    """

    root: Path
    column: str
    preset: Preset
    system: str
    seed: int
    teraflop: float | None = None
    packaged: str | None = None
    whole: bool = False

    @property
    def how(self) -> System:
        """What makes and tests its model."""
        return AS_SET if self.whole else SYSTEMS[self.system]

    @property
    def key(self) -> Key:
        """What tells it from the other runs of a table."""
        return self.column, self.system, self.seed

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.root / self.column / slug(self.system) / f"seed-{self.seed}"

    @property
    def weights(self) -> Path:
        """Where its weights are: in the folder of the system that trained them."""
        name = self.how.weights
        return self.folder if name is None else self.folder.parents[1] / slug(name) / f"seed-{self.seed}"

    def task(self) -> Any:
        """The column's task, with the run's seed."""
        return self.preset.world(**{"seed": self.seed} | self.preset.task)

    def metrics(self) -> dict[str, Any] | None:
        """What was measured, with ``config.json`` beside it; None if the run isn't finished."""
        if not (self.folder / METRICS_FILE).exists():
            return None
        parts = (json.loads((self.folder / name).read_text(encoding="utf-8")) for name in (CONFIG_FILE, METRICS_FILE))
        return {key: value for part in parts for key, value in part.items()}


def slug(name: str) -> str:
    """A name as that of a folder."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


def perform(run: Run, threads: int = 1) -> Path:
    """Train, or go on training, and measure; what is there already is left as it is. Returns the folder."""
    torch.set_num_threads(threads)
    if run.metrics() is not None:
        return run.folder
    if run.packaged is not None:
        return _packaged(run, run.packaged)
    system, preset = run.how, run.preset
    task = run.task()
    made = system.make(preset, task, run.seed)
    config = _config(run, made, task)
    if not (run.weights / MODEL_FILE).exists():
        _train(run, made, task, config["updates"])
    trained, _, _ = gp.load(run.weights, task=task)
    made.model.load_state_dict(trained.state_dict())
    made.model.to(_where())
    seconds = checkpoint.read(run.weights / STATE_FILE)[1]["seconds"]
    start = time.perf_counter()
    metrics = judge(made.model, task, preset, system, run.seed, cache=run.root / "features")
    metrics |= {"train_seconds": seconds, "test_seconds": time.perf_counter() - start}
    _write(run.folder / METRICS_FILE, metrics)
    return run.folder


def _packaged(run: Run, name: str) -> Path:
    """Measure weights of the package as their card does, on the column's inputs."""
    model, guide, task, options = gp.pretrained(name)
    card = Card.read(WEIGHTS / name)
    assert card is not None
    start = time.perf_counter()
    x = task.inputs("test")[: run.preset.held_out]
    metrics = gp.metrics.evaluate(model.to(_where()), task, x=x, **options, seed=run.seed)
    metrics |= {"train_seconds": card.seconds, "test_seconds": time.perf_counter() - start}
    made = {"updates": card.updates, "operations": card.flops / 1e12, "commit": card.version}
    config = _described(run, model, guide, task) | made | {"weights": name}
    _write(run.folder / CONFIG_FILE, config)
    _write(run.folder / METRICS_FILE, metrics)
    return run.folder


def _config(run: Run, made: Made, task: Task) -> dict[str, Any]:
    """What the run is, written once: a run that goes on has the number of updates that it began with."""
    path = run.folder / CONFIG_FILE
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    updates = run.preset.fit["updates"]
    trained = run.weights / CONFIG_FILE
    if run.weights != run.folder and trained.exists():
        updates = json.loads(trained.read_text(encoding="utf-8"))["updates"]
    each = _flops_an_update(run, task)
    if run.teraflop is not None and run.how.weights is None:
        updates = max(1, int(1e12 * run.teraflop / each))
    config = _described(run, made.model, made.guide, task) | {"updates": updates, "operations": updates * each / 1e12}
    _write(path, config)
    return config


def _described(run: Run, model: Any, guide: torch.nn.Module, task: Task) -> dict[str, Any]:
    """Which run it is, of what, and where."""
    return {
        "system": run.system,
        "column": run.column,
        "seed": run.seed,
        "teraflop": run.teraflop,
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "guide_parameters": sum(weights.numel() for weights in guide.parameters()),
        "model": checkpoint.describe(model),
        "task": _without_places(checkpoint.describe(task)),
        "commit": _commit(),
        "device": _device(),
        "precision": "bf16" if precision.use_bf16(_where()) else "float32",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def _without_places(description: Any) -> Any:
    """Of a folder the name: where it lies says nothing elsewhere."""
    return with_texts(description, lambda text: Path(text).name if Path(text).is_absolute() else text)


def _arguments(run: Run, **changes: Any) -> dict[str, Any]:
    options = {**run.preset.fit, **run.how.fit}
    return {"evaluate_steps": _test_steps(run.preset, run.how)} | options | changes | {"progress": False}


def _test_steps(preset: Preset, system: System) -> int | None:
    steps: int | None = system.test.get("steps", preset.steps)
    return steps


def _train(run: Run, made: Made, task: Task, updates: int) -> None:
    resume = (run.folder / STATE_FILE).exists()
    gp.fit(
        made.model, made.guide, task, objective=made.objective, **_arguments(run, updates=updates),
        out=run.folder, resume=resume, seed=run.seed,
    )  # fmt: skip


def _flops_an_update(run: Run, task: Task) -> int:
    made = run.how.make(run.preset, task, run.seed)
    x, y = next(task.batches("train", 1, torch.Generator().manual_seed(run.seed)))
    rows = _arguments(run)["batch_size"]
    latent = made.model.begin(x.expand(rows, -1), rows)
    return flops.count(made.objective(made.model, made.guide), x, y, latent, torch.zeros(1, dtype=torch.int64))


def judge(
    model: Any, task: Task, preset: Preset, system: System, seed: int, cache: Path | None = None
) -> dict[str, Any]:
    """What a trained model is worth, on the column's test; nets that judge pictures are kept in ``cache``."""
    x, select = task.inputs("test")[: preset.held_out], SELECTORS[system.test.get("select", "vote")]
    if x.shape[1]:
        options = rolled_out(preset, system, task)
        found = gp.metrics.evaluate(model, task, x=x, select=select, **options, seed=seed)
        return found | task.own_score(x, lambda x: gp.rollout(model, x, **options, seed=seed).tokens.cpu())
    steps = _test_steps(preset, system)
    steps = depth(model) if steps is None else steps
    found, made = from_nothing(model, task, x[0], replace(Measurement.of(preset), steps=steps), seed)
    if isinstance(task, gp.tasks.BinarizedMNIST):
        found |= of_pictures(task, cache)(made)
    return found


def rolled_out(preset: Preset, system: System, task: Task) -> dict[str, Any]:
    """How trajectories of a test run, options of :func:`gram_ppl.rollout`."""
    known = {field.name for field in fields(Measurement)}
    how = replace(Measurement.of(preset), **{name: value for name, value in system.test.items() if name in known})
    others = {name: value for name, value in system.test.items() if name not in known | {"select"}}
    return {"num_samples": how.samples} | how.options(task) | others


def of_pictures(task: gp.tasks.BinarizedMNIST, cache: Path | None) -> Callable[[Tensor], dict[str, float]]:
    """What judges made pictures, as tokens: one net for all runs on the same pictures."""
    net = features.train_features(task.pictures(task.answers("train")), task.labels("train"), cache=cache)
    real = task.pictures(task.answers("test"))
    return lambda made: features.picture_quality(net, task.pictures(made), real)


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def _commit() -> str | None:
    """The commit of the code, if it is in a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def _where() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _device() -> str:
    return torch.cuda.get_device_name() if _where().type == "cuda" else "CPU"
