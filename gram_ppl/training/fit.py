"""The one training loop: stochastic variational inference by deep-supervision segments.

The batch holds rows at every stage of their trajectory. One update is one segment: each row runs one supervision
step from the latent that it carries; then the oldest N_sup-th of the rows gives way to fresh puzzles at z_0. Of a model
that learns when to halt, those rows give way that halted or have run N_sup supervision steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pyro import poutine
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..inference.rollout import rollout
from ..program.objective import LogLinear, Segment, SegmentELBO
from ..runtime import compilation
from ..runtime.clocks import Clock, NoClock
from ..runtime.precision import fast, send
from ..runtime.processes import Shares, restarted
from ..state import Batch, Latent, SegmentInfo
from ..storage import checkpoint
from ..storage.descriptions import difference
from ..storage.folder import STATE_FILE, locked
from ..tasks.base import Task
from ..training.fit_heads import HeadTrainer
from . import interrupt, tracking
from .errors import NonFiniteLoss, not_finite, out_of_memory
from .scheduled_sampling import Redraw

AGREE_EVERY = 20  # updates between two times that processes ask each other whether a signal came


class Record(NamedTuple):
    """Means since the record before; nats are per puzzle."""

    update: int
    seconds: float  # of training so far, earlier evaluations included
    beta: float
    loss: float  # nats a token
    nll: float
    kl: float  # charged KL, all rows
    kl_first: float  # charged KL of rows in their first supervision step: the alarm of a private channel
    posterior_error: float  # share of wrong tokens, all segments, under the posterior
    prior_accuracy: float | None = None  # full prior rollouts on validation puzzles; None where not measured


History = list[Record]


class Carry(NamedTuple):
    """The rows in flight; those done are replaced next, or group g = update mod N_sup where rows don't halt."""

    x: Tensor  # [B, L_in]
    y: Tensor  # [B, L_out]
    latent: Latent  # [B, L, D] each
    age: Tensor  # [B] int64, supervision steps run since the row was filled
    done: Tensor | None = None  # [B] bool, rows that halted or ran N_sup supervision steps; None where rows don't halt


def fit(
    model: nn.Module,
    guide: nn.Module,
    task: Task,
    *,
    updates: int = 3000,
    batch_size: int = 64,
    seed: int = 0,
    objective: SegmentELBO | None = None,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    clip: float = 1.0,
    warmup: int = 50,
    decay: float = 0.3,
    final: float = 0.05,
    ema: float = 0.999,
    evaluations: int = 10,
    evaluate_on: int = 200,
    evaluate_steps: int | None = None,
    heads_every: int | None = None,
    scheduled_sampling: float = 0.0,
    out: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool | None = False,
    device: str | torch.device | None = None,
    accumulate: int = 1,
    compile: bool | None = None,
    tracker: str | tracking.Tracker | tracking.Options | None = None,
    progress: bool = True,
) -> History:
    """Train model and guide by SVI; they end with the averaged weights that were best on prior rollouts.

    Started by ``torchrun`` or ``accelerate launch``, all processes call it alike and share every update
    (:mod:`gram_ppl.runtime.processes`): ``batch_size`` is that of all together, the main process writes and shows
    progress, all end with the same weights.

    Args:
        model: the program, with ``initial(batch)`` and ``supervision`` (N_sup).
        guide: its guide.
        task: gives batches, validation puzzles and the verifier.
        updates: segments, each with one optimiser step.
        batch_size: rows B in flight, a multiple of N_sup.
        seed: of the data and of the noise. The same seed gives the same run on the same machine.
        objective: ``SegmentELBO(LogLinear())`` if not given.
        lr, weight_decay, betas, clip: AdamW and the norm that gradients are clipped to; norms, biases, embeddings,
            registers and relation scalars are not decayed.
        warmup, decay, final: updates of linear warm-up; the share of training, at its end, in which the rate falls
            linearly to ``final`` times its height.
        ema: decay of the weight average, ramped up from zero.
        evaluations: how often, evenly spaced, prior accuracy is measured on validation puzzles.
        evaluate_on, evaluate_steps: with how many puzzles, and supervision steps (N_sup if not given).
        heads_every: updates between two steps that train halt and value head on prior rollouts of the batch's inputs;
            no heads if not given (:func:`gram_ppl.fit_heads` fits them afterwards).
        scheduled_sampling: probability that a row goes on from a sample of the prior, not of the posterior, after a
            supervision step (:mod:`gram_ppl.training.scheduled_sampling`); the task must be able to list solutions.
        out: folder for ``model.safetensors`` (best weights) and ``state.safetensors`` (to resume).
        checkpoint_every: updates between two writings of the state; a fiftieth of the run if not given.
        resume: continue from the state in ``out``; the result is that of the uninterrupted run, bit for bit. None
            continues if there is a state, and begins otherwise. So do processes that torchrun's elastic agent starts
            in the place of dead ones, whatever is said here.
        device: CUDA when present, else the CPU.
        accumulate: parts into which each process cuts its rows, one after the other, to save memory.
        compile: run the model's deterministic core compiled (:mod:`gram_ppl.runtime.compilation`); by default on
            CUDA only.
        tracker: where records, step times, utilisation and memory go (:mod:`gram_ppl.tracking`): the name of a tracker
            that Accelerate knows, such as "tensorboard", or an object with ``log(values, step)``.
        progress: show a progress bar.

    Raises:
        ValueError: an argument out of range.
        CheckpointError: nothing to resume, or a state that belongs to other settings.
        NonFiniteLoss: the loss became NaN or infinite; nothing was overwritten after the last good checkpoint.
        FolderInUse: another process trains in ``out``.
        Stopped: Ctrl-C or SIGTERM; with ``out`` the update in flight was finished and the state written first. It is
            a KeyboardInterrupt.
        torch.OutOfMemoryError: the accelerator's memory is too small; the message says which batch size to try.
        OSError: the state could not be written; the one before is whole.
    """
    settings = {
        "updates": updates, "batch_size": batch_size, "seed": seed, "lr": lr, "weight_decay": weight_decay,
        "betas": list(betas), "clip": clip, "warmup": warmup, "decay": decay, "final": final, "ema": ema,
        "evaluations": evaluations, "evaluate_on": evaluate_on, "evaluate_steps": evaluate_steps,
        "heads_every": heads_every,
    }  # fmt: skip
    if scheduled_sampling:
        settings["scheduled_sampling"] = scheduled_sampling
    trainer = Trainer(model, guide, task, objective or SegmentELBO(LogLinear()), settings, device, accumulate)
    shares = trainer.shares
    compile = compilation.pays(trainer.device) if compile is None else compile
    folder = None if out is None else Path(out)
    checkpoint_every = checkpoint_every or max(1, updates // 50)
    if resume and folder is None:
        raise ValueError("resume=True needs out=, the folder to resume from")
    tracked = tracking.options(tracker, folder)
    fast_core = compilation.compiled(model) if compile else nullcontext()
    if resume is None or restarted():
        resume = folder is not None and (folder / STATE_FILE).exists()
    with (
        locked(folder),
        interrupt.deferred(folder) as request,
        tracking.tracked(tracked if shares.main else None, trainer, folder) as track,
        fast_core,
        _bar(progress and shares.main) as bar,
    ):
        if resume and folder is not None:
            trainer.restore(folder)
        line = bar.add_task("", total=updates, completed=trainer.update, note="")
        while trainer.update < updates:
            try:
                record = trainer.step()
            except NonFiniteLoss as error:
                raise NonFiniteLoss(f"{error}; {trainer.last_good(folder)}") from None
            except torch.OutOfMemoryError as error:
                kept = trainer.last_good(folder)
                raise out_of_memory(trainer.update, batch_size, trainer.supervision, kept) from error
            bar.advance(line)
            if record is not None:
                track(record)
                bar.update(line, note=f"{trainer.update / trainer.seconds:.1f} updates/s  {_note(record)}")
                if progress and shares.main and record.prior_accuracy is not None:
                    bar.console.print(f"update {record.update:>6}  {_note(record)}", highlight=False)
            if shares.world > 1 and trainer.update % AGREE_EVERY == 0:
                request.signum = shares.most(request.signum or 0) or None
            stop = request.signum is not None and (shares.world == 1 or trainer.update % AGREE_EVERY == 0)
            due = trainer.update % checkpoint_every == 0 or trainer.update == updates or stop
            if folder is not None and due:
                trainer.store(folder)
                if stop:
                    request.check(folder, trainer.update, updates)
        trainer.finish(folder)
    return trainer.history


class Trainer:
    """The state of one run: everything that :func:`fit` needs to take one update, store it and go on.

    Args:
        model, guide, task, objective: as for :func:`fit`.
        settings: the numbers of :func:`fit`.
        device: CUDA when present, else the CPU.
        accumulate: as for :func:`fit`.
    """

    def __init__(
        self,
        model: nn.Module,
        guide: nn.Module,
        task: Task,
        objective: SegmentELBO,
        settings: dict[str, Any],
        device: str | torch.device | None = None,
        accumulate: int = 1,
    ) -> None:
        self.settings = settings
        self.task = task
        self.objective = objective
        self.shares = Shares(accumulate, torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
        self.device = self.shares.device
        self.supervision = int(model.supervision)  # type: ignore[arg-type]
        if settings["updates"] < 1:
            raise ValueError(f"updates must be at least 1, got {settings['updates']}")
        if settings["batch_size"] < 1 or settings["batch_size"] % self.supervision:
            raise ValueError(
                f"batch_size must be a multiple of the model's {self.supervision} supervision steps, "
                f"got {settings['batch_size']}"
            )
        every = settings.get("heads_every")
        if every is not None and every < 1:
            raise ValueError(f"heads_every must be at least 1, got {every}")
        wander = settings.get("scheduled_sampling", 0.0)
        if not 0 <= wander <= 1:
            raise ValueError(f"scheduled_sampling must be a probability, got {wander}")
        self.shares.check(settings["batch_size"])
        self.redraw = Redraw(task, remembered=2 * settings["batch_size"]) if wander else None
        self.heads = HeadTrainer(model, task, seed=settings["seed"]) if every else None
        self.clock: Clock = NoClock()
        self.segment: Segment = objective(model.to(self.device), guide.to(self.device))
        self.segment.scheduled_sampling = wander
        self.optimizer = _optimizer(self.segment, settings)
        self.average = AveragedModel(self.segment)
        self.generator = torch.Generator().manual_seed(settings["seed"])
        torch.manual_seed(settings["seed"])
        self.rows = settings["batch_size"] // self.supervision
        self.batches: Iterator[Batch] = task.batches("train", self.rows, self.generator)
        self.carry: Carry | None = None
        self.spare: Batch | None = None  # fresh puzzles that no row had room for
        self.update = 0
        self.seconds = 0.0
        self.history: History = []
        self.window: list[Tensor] = []
        self.best = -1.0
        self.best_weights: dict[str, Tensor] = {}
        interval = max(1, settings["updates"] // max(1, settings["evaluations"]))
        measured = settings["evaluations"] and len(task.inputs("validation"))
        self.evaluate_at = set(range(settings["updates"], interval - 1, -interval)) if measured else set()
        self.log_every = max(1, settings["updates"] // 100)

    def step(self) -> Record | None:
        """One segment and one optimiser step; a record where one is due."""
        start = time.perf_counter()
        self.clock.start()
        x, y, latent, age, _ = self._next()
        self.clock.end("data")
        self.objective.set_progress(self.update / self.settings["updates"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings["lr"] * _rate(self.update, self.settings)
        self.optimizer.zero_grad(set_to_none=True)
        if self.shares.several:
            seed = hash((self.settings["seed"], self.update))
            loss, info = self.shares.backward(self.segment, x, y, latent, age, self.clock, seed)
        else:
            with fast(self.device):
                loss, info = self.segment(x, y, latent=latent, age=age)
                self.clock.end("forward")
                loss.backward()
                self.clock.end("backward")
        norm = nn.utils.clip_grad_norm_(self.segment.parameters(), self.settings["clip"])
        if self.device.type == "cpu" and not (norm.isfinite() and (self.shares.several or loss.isfinite())):
            here = self.shares.here(len(x))
            raise self._not_finite(x[here], y[here], latent)
        self.optimizer.step()
        self.clock.end("optimiser")
        if self.heads is not None and self.update % self.settings["heads_every"] == 0:
            self.heads.step(x)
            self.clock.end("heads")
        self._average()
        self.clock.end("optimiser")
        age = age + self.objective.steps
        done = None if info.halted is None else self.shares.gathered(info.halted) | (age >= self.supervision)
        self.carry = Carry(x, self._redrawn(x, y, info), info.latent, age, done)
        fresh = slice((self.update % self.supervision) * self.rows, (self.update % self.supervision + 1) * self.rows)
        kl_first = info.kl_rows[self.shares.own(fresh, len(x))].sum() / (self.rows / self.shares.world)
        values = [loss.detach(), info.nll, info.kl, kl_first, 1 - info.correct.float().mean()]
        self.window.append(torch.stack(values))
        self.update += 1
        due = self.update % self.log_every == 0 or self.update in self.evaluate_at
        record = self._record() if due else None
        self.seconds += time.perf_counter() - start
        return record

    def _next(self) -> Carry:
        """The rows of this update: the carried ones, some replaced by fresh puzzles at z_0."""
        model: Any = self.segment.model
        if self.carry is None:
            parts = [next(self.batches) for _ in range(self.supervision)]
            x, y = (send(torch.cat(tensors), self.device) for tensors in zip(*parts, strict=True))
            latent = Latent(*(state.clone() for state in model.initial(len(x) // self.shares.world)))
            return Carry(x, y, latent, torch.zeros(len(x), dtype=torch.int64, device=self.device))
        x, y, latent, age, done = self.carry
        fresh: Any
        if done is None:
            first = (self.update % self.supervision) * self.rows
            fresh, new = slice(first, first + self.rows), next(self.batches)
        else:
            fresh = done.nonzero()[:, 0]
            new = self._draw(len(fresh))
        x[fresh], y[fresh] = send(new.x, self.device), send(new.y, self.device)
        here = self.shares.own(fresh, len(x))
        count = here.stop - here.start if isinstance(here, slice) else len(here)
        for state, start in zip(latent, model.initial(count), strict=True):
            state[here] = start
        age[fresh] = 0
        return Carry(x, y, latent, age)

    def _redrawn(self, x: Tensor, y: Tensor, info: SegmentInfo) -> Tensor:
        """The joint answers, drawn again for rows whose state is a sample of the prior."""
        if self.redraw is None:
            return y
        if info.from_prior is None:
            raise ValueError("scheduled_sampling needs a model with a charged noise site that says its proposal")
        here, chance = self.shares.here(len(x)), torch.rand(len(x), generator=self.generator)
        model = poutine.unwrap(self.segment.model)
        mine = self.redraw(model, x[here], y[here], info.latent.h, info.from_prior, chance[here])
        return self.shares.gathered(mine)

    def _draw(self, count: int) -> Batch:
        """The next puzzles in the order of the batches; what is left of a batch waits for the next call."""
        parts = [] if self.spare is None else [self.spare]
        while not parts or sum(len(part.x) for part in parts) < count:
            parts.append(next(self.batches))
        x, y = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        self.spare = Batch(x[count:], y[count:])
        return Batch(x[:count], y[:count])

    @torch.no_grad()
    def _average(self) -> None:
        """The first average is a copy. ``AveragedModel.update_parameters`` would wait for the device each time."""
        weight = 1 - min(self.settings["ema"], (1 + self.update) / (10 + self.update)) if self.update else 1.0
        torch._foreach_lerp_(list(self.average.parameters()), list(self.segment.parameters()), weight)
        for averaged, current in zip(self.average.module.buffers(), self.segment.buffers(), strict=True):
            averaged.copy_(current)
        self.average.n_averaged += 1

    def _record(self) -> Record:
        means = self.shares.mean(torch.stack(self.window).mean(dim=0)).tolist()
        if not all(value == value and abs(value) != float("inf") for value in means):
            if self.carry is None:
                raise NonFiniteLoss("the loss is not finite")
            here = self.shares.here(len(self.carry.x))
            raise self._not_finite(self.carry.x[here], self.carry.y[here], self.carry.latent)
        self.window = []
        accuracy = self._prior_accuracy() if self.update in self.evaluate_at else None
        loss, nll, kl, kl_first, error = means
        record = Record(self.update, self.seconds, self.objective.beta, loss, nll, kl, kl_first, error, accuracy)
        self.history.append(record)
        return record

    def _prior_accuracy(self) -> float:
        """Accuracy of one averaged-weights prior rollout a validation puzzle; remembers the best weights."""
        x = self.task.inputs("validation")[: self.settings["evaluate_on"]].to(self.device)
        devices = [self.device] if self.device.type == "cuda" else []
        averaged: Any = self.average.module
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.settings["seed"])
            steps = self.settings["evaluate_steps"]
            out = rollout(averaged.model, x, num_samples=1, steps=steps, shares=self.shares)
        accuracy = self.task.verify(x, out.tokens[:, 0]).double().mean().item()
        if accuracy >= self.best:
            self.best = accuracy
            self.best_weights = {key: value.detach().clone() for key, value in averaged.state_dict().items()}
        return accuracy

    def _not_finite(self, x: Tensor, y: Tensor, latent: Latent) -> NonFiniteLoss:
        return not_finite(self.segment, self.update, x, y, latent)

    def last_good(self, folder: Path | None) -> str:
        """Where the last good checkpoint is, in words."""
        if folder is None or not (folder / STATE_FILE).exists():
            return "there is no checkpoint"
        _, document = checkpoint.read(folder / STATE_FILE)
        return f"the last good checkpoint is {folder / STATE_FILE}, update {document['update']}"

    def finish(self, folder: Path | None) -> None:
        """Give model and guide their best averaged weights, and write them."""
        averaged: Any = self.average.module
        self.segment.load_state_dict(self.best_weights or averaged.state_dict())
        if folder is not None and self.shares.main:
            checkpoint.save(folder, self.segment.model, self.segment.guide, self.task)
        self.shares.wait()

    def _identity(self) -> dict[str, Any]:
        return checkpoint.describe(
            {"settings": self.settings, "model": self.segment.model, "guide": self.segment.guide, "task": self.task}
        )

    def store(self, folder: Path) -> None:
        """Write the whole state, atomically; one process does, with the rows of all."""
        assert self.carry is not None
        latent = Latent(*(self.shares.gathered(state) for state in self.carry.latent))
        window = self.shares.mean(torch.stack(self.window)) if self.window else None
        if not self.shares.main:
            return
        tensors = {f"weights.{key}": value for key, value in self.segment.state_dict().items()}
        tensors |= {f"average.{key}": value for key, value in self.average.state_dict().items()}
        tensors |= {f"best.{key}": value for key, value in self.best_weights.items()}
        tensors |= _flat("optimizer", self.optimizer)
        if self.heads is not None:
            tensors |= _flat("heads", self.heads.optimizer)
        tensors |= {"carry.x": self.carry.x, "carry.y": self.carry.y}
        tensors |= {"carry.h": latent.h, "carry.l": latent.l}
        tensors["carry.age"] = self.carry.age
        if self.carry.done is not None:
            tensors["carry.done"] = self.carry.done
        if self.spare is not None:
            tensors |= {"spare.x": self.spare.x, "spare.y": self.spare.y}
        tensors |= {"random.data": self.generator.get_state(), "random.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        if window is not None:
            tensors["window"] = window
        document = {
            "run": self._identity(),
            "update": self.update,
            "seconds": self.seconds,
            "best": self.best,
            "history": [list(record) for record in self.history],
        }
        checkpoint.write(folder / STATE_FILE, tensors, document)

    def restore(self, folder: Path) -> None:
        """Continue from what :meth:`store` wrote.

        Raises:
            CheckpointError: no state there, a damaged one, or one of other settings (the message names them).
        """
        path = folder / STATE_FILE
        tensors, document = checkpoint.read(path)
        if "run" not in document:
            raise checkpoint.CheckpointError(f"{path}: not the state of a training run")
        with checkpoint.blamed(path, "not the whole state of this run"):
            if other := difference(document["run"], self._identity()):
                raise checkpoint.CheckpointError(f"{path}: belongs to a run with other settings: {other}")
            self._take(tensors, document, path)

    def _take(self, tensors: dict[str, Tensor], document: dict[str, Any], path: Path) -> None:
        def part(prefix: str) -> dict[str, Tensor]:
            found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            return {key: value.to(self.device) for key, value in found.items()}

        averaged: Any = self.average.module
        rows = part("carry.")
        rows.setdefault("age", rows["x"].new_zeros(len(rows["x"])))  # absent from states of older versions
        checkpoint.fits(rows, self._rows_like(rows), path)
        checkpoint.fill(self.segment, part("weights."), path)
        checkpoint.fill(self.average, part("average."), path)
        self.best_weights = part("best.")
        if self.best_weights:
            checkpoint.fits(self.best_weights, averaged.state_dict(), path)
        _fill(self.optimizer, part("optimizer."), path)
        if self.heads is not None:
            _fill(self.heads.optimizer, part("heads."), path)
        here = self.shares.here(len(rows["x"]))
        latent = Latent(rows["h"][here], rows["l"][here])
        self.carry = Carry(rows["x"], rows["y"], latent, rows["age"], rows.get("done"))
        spare = part("spare.")
        like = {key: rows[key].new_empty(len(value), rows[key].shape[1]) for key, value in spare.items()}
        checkpoint.fits(spare, like, path)
        self.spare = Batch(tensors["spare.x"], tensors["spare.y"]) if spare else None
        self.generator.set_state(tensors["random.data"])
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        window = part("window")
        checkpoint.fits(window, {name: torch.empty(len(window[name]), 5) for name in window if not name}, path)
        self.window = list(window.get("", ()))
        self.update, self.seconds, self.best = (document[key] for key in ("update", "seconds", "best"))
        self.history = [Record(*values) for values in document["history"]]
        numbers = [self.update, self.seconds, self.best, *(value or 0 for record in self.history for value in record)]
        if not all(isinstance(number, int | float) for number in numbers):
            raise ValueError("update, seconds, best accuracy or history are no numbers")
        if self.update not in range(1, self.settings["updates"] + 1):
            raise ValueError(f"there is no update {self.update}")

    def _rows_like(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the names, shapes and dtypes that rows in flight have; under autocast states may be bfloat16."""
        model: Any = self.segment.model
        batch, spec = self.settings["batch_size"], self.task.spec
        age = torch.zeros(batch, dtype=torch.int64)
        x, y = (age[:, None].expand(-1, length) for length in (rows["x"].shape[-1] and spec.len_in, spec.len_out))
        z: Latent = model.initial(batch)
        like = {"x": x, "y": y, "h": z.h, "l": z.l, "age": age}
        like |= {key: like[key].to(rows[key].dtype) for key in ("h", "l") if rows[key].dtype == torch.bfloat16}
        return like | {"done": age.bool()} if "done" in rows else like


def _optimizer(segment: nn.Module, settings: dict[str, Any]) -> torch.optim.AdamW:
    """AdamW that decays the weights of linear layers and nothing else."""
    decayed = {module.weight for module in segment.modules() if isinstance(module, nn.Linear)}
    others = [parameter for parameter in segment.parameters() if parameter not in decayed]
    groups = [
        {"params": [p for p in segment.parameters() if p in decayed], "weight_decay": settings["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings["lr"], betas=tuple(settings["betas"]), fused=True)


def _flat(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of an optimiser's state, by ``name.parameter.key``."""
    states = optimizer.state_dict()["state"].items()
    return {f"{name}.{index}.{key}": value for index, state in states for key, value in state.items()}


def _fill(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], path: Path) -> None:
    """Give an optimiser the state that :func:`_flat` took; the names without their prefix."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".")
        states.setdefault(int(index), {})[name] = value
    for number, state in states.items():
        weights = parameters[number]
        like = {"step": torch.zeros((), dtype=torch.float32), "exp_avg": weights, "exp_avg_sq": weights}
        checkpoint.fits(state, like, path)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _rate(update: int, settings: dict[str, Any]) -> float:
    """Share of the full learning rate: linear warm-up, constant, linear decay."""
    left = (settings["updates"] - update) / max(1.0, settings["decay"] * settings["updates"])
    down = settings["final"] + (1 - settings["final"]) * min(1.0, left)
    return min(1.0, (update + 1) / max(1, settings["warmup"])) * down


def _note(record: Record) -> str:
    accuracy = "" if record.prior_accuracy is None else f"  prior accuracy {record.prior_accuracy:.3f}"
    kl = f"KL {record.kl:.2f} (first step {record.kl_first:.2f}) nats"
    return f"loss {record.loss:.3f}  NLL {record.nll:.2f}  {kl}{accuracy}"


def _bar(show: bool) -> Progress:
    console = Console()
    columns = (BarColumn(12), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn(compact=True))
    note = TextColumn("{task.fields[note]}")
    return Progress(*columns, note, console=console, disable=not (show and console.is_terminal))
