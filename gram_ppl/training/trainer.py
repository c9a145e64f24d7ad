"""One update: a segment of every row, a step of the optimiser, and what is known after it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from pyro import poutine
from torch import Tensor, nn

from ..inference.rollout import rollout
from ..program.objective import Segment, SegmentELBO
from ..runtime.arguments import probability
from ..runtime.clocks import Clock, NoClock
from ..runtime.graphs import Backend
from ..runtime.precision import chosen, fast, mean
from ..runtime.processes import Shares
from ..state import Latent, SegmentInfo
from ..storage import checkpoint
from ..tasks.base import Task
from . import flops, optimizer
from .average import Average
from .errors import not_finite
from .fit_heads import HeadTrainer
from .graph import UpdateGraph
from .own_states import OwnRows, OwnStates
from .record import History, Record
from .rows import Carry, Rows
from .scheduled_sampling import Redraw


class Trainer:
    """The state of one run: everything that :func:`fit` needs to take one update, store it and go on.

    Args:
        model, guide, task, objective: as for :func:`fit`.
        settings: the numbers of :func:`fit`.
        device: CUDA when present, else the CPU.
        accumulate, graph: as for :func:`fit`.
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
        graph: bool | Backend = False,
    ) -> None:
        self.settings = settings
        self.task = task
        self.objective = objective
        self.shares = Shares(accumulate, chosen(device))
        self.device = self.shares.device
        self.supervision = int(model.supervision)  # type: ignore[arg-type]
        if settings["updates"] < 1:
            raise ValueError(f"updates must be at least 1, got {settings['updates']}")
        own: OwnStates | None = settings.get("own_states")
        segments = 1 if own else -(-self.supervision // objective.steps)
        if settings["batch_size"] < 1 or settings["batch_size"] % segments:
            raise ValueError(
                f"batch_size must be a multiple of the model's {segments} segments of {objective.steps} supervision "
                f"steps a trajectory, got {settings['batch_size']}"
            )
        every = settings.get("heads_every")
        if every is not None and every < 1:
            raise ValueError(f"heads_every must be at least 1, got {every}")
        wander = settings.get("scheduled_sampling", 0.0)
        probability(scheduled_sampling=wander)
        self.shares.check(settings["batch_size"])
        self.redraw = Redraw(task, remembered=2 * settings["batch_size"]) if wander else None
        self.heads = HeadTrainer(model, task, seed=settings["seed"]) if every else None
        self.clock: Clock = NoClock()
        self.segment: Segment = objective(model.to(self.device), guide.to(self.device))
        self.segment.scheduled_sampling = wander
        self.optimizer = optimizer.adamw(self.segment, settings)
        self.average = Average(self.segment, settings["ema"])
        # the heads, where they are trained, come between the optimiser and the average
        parts = (self.segment, self.optimizer, None if self.heads else self.average, settings["clip"], self.device)
        self.graph = UpdateGraph(*parts, graph, self.shares.several) if graph else None
        self.generator = torch.Generator().manual_seed(settings["seed"])
        torch.manual_seed(settings["seed"])
        program = poutine.unwrap(model)
        self.own = OwnRows(own, task, program, remembered=4 * settings["batch_size"]) if own else None
        if own is not None:
            self.segment.temperature = own.temperature
        self.rows = Rows(task, program, settings["batch_size"], self.generator, self.shares, segments, self.own)
        self.update = 0
        self.seconds = 0.0
        self.history: History = []
        self.window: list[Tensor] = []
        interval = max(1, settings["updates"] // max(1, settings["evaluations"]))
        measured = settings["evaluations"] and len(task.inputs("validation"))
        self.evaluate_at = set(range(settings["updates"], interval - 1, -interval)) if measured else set()
        self.log_every = max(1, settings["updates"] // 100)

    def step(self) -> Record | None:
        """One segment and one optimiser step; a record where one is due."""
        start = time.perf_counter()
        self.clock.start()
        x, y, latent, age, _ = self.rows.next(self.update)
        if self.own is not None:
            x, y, latent = self.own.turned(x, y, latent, self.generator, self.shares)
            self.segment.scheduled_sampling = self.own.options.at(self.update / self.settings["updates"])
        self.clock.end("data")
        self.objective.set_progress(self.update / self.settings["updates"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings["lr"] * optimizer.rate(self.update, self.settings)
        replayed = None if self.graph is None else self.graph(x, y, latent, age, self.update)
        loss, info = replayed or self._launched(x, y, latent, age)
        self.clock.end("graph" if replayed else "optimiser")
        if self.heads is not None and self.update % self.settings["heads_every"] == 0:
            self.heads.step(x)
            self.clock.end("heads")
        if replayed is None or self.heads is not None:
            self.average.update(self.segment, self.update)
        self.clock.end("optimiser")
        age = age + self.objective.steps
        done = None if info.halted is None else self.shares.gathered(info.halted) | (age >= self.supervision)
        if self.redraw is not None:
            y = self.redraw.after(self.rows.model, x, y, info, self.generator, self.shares)
        if self.own is not None:
            y, done = self.own.after(x, y, info, latent, self.generator, self.shares)
            done |= age >= self.supervision
        self.rows.carry = Carry(x, y, info.latent, age, done)
        fresh = self.shares.own(self.rows.oldest(self.update), len(x))
        kl_first = info.kl_rows[fresh].sum() / (self.rows.size / self.shares.world)
        values = [loss.detach(), info.nll, info.kl, kl_first, 1 - info.correct.float().mean()]
        self.window.append(torch.stack(values))
        self.update += 1
        due = self.update % self.log_every == 0 or self.update in self.evaluate_at
        record = self._record() if due else None
        self.seconds += time.perf_counter() - start
        return record

    def _launched(self, x: Tensor, y: Tensor, latent: Latent, age: Tensor) -> tuple[Tensor, SegmentInfo]:
        """Segment, backward, clipping and AdamW, kernel by kernel; :class:`UpdateGraph` does the same."""
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
            raise not_finite(self.segment, self.update, x[here], y[here], latent)
        self.optimizer.step()
        return loss, info

    def _record(self) -> Record:
        means = self.shares.mean(torch.stack(self.window).mean(dim=0)).tolist()
        if not all(value == value and abs(value) != float("inf") for value in means):
            assert self.rows.carry is not None
            x, y, latent, _, _ = self.rows.carry
            here = self.shares.here(len(x))
            raise not_finite(self.segment, self.update, x[here], y[here], latent)
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
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.settings["seed"])
            steps = self.settings["evaluate_steps"]
            out = rollout(self.average.module.model, x, num_samples=1, steps=steps, shares=self.shares)
        accuracy = mean(self.task.verify(x, out.tokens[:, 0]))
        self.average.measured(accuracy)
        return accuracy

    def flops(self) -> int:
        """Floating point operations of a segment of the rows in flight."""
        assert self.rows.carry is not None
        return flops.count(self.segment, *self.rows.carry[:4])

    def finish(self, folder: Path | None) -> None:
        """Give model and guide their best averaged weights, and write them."""
        self.segment.load_state_dict(self.average.final())
        if folder is not None and self.shares.main:
            checkpoint.save(folder, self.segment.model, self.segment.guide, self.task)
        self.shares.wait()
