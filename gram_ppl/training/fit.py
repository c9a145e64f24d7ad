"""The one training loop: stochastic variational inference by deep-supervision segments.

The batch holds rows at every stage of their trajectory. One update is one segment: each row runs one supervision
step from the latent that it carries; then the oldest N_sup-th of the rows gives way to fresh puzzles at z_0. Of a model
that learns when to halt, those rows give way that halted or have run N_sup supervision steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from ..program.objective import LogLinear, SegmentELBO
from ..runtime import compilation
from ..runtime.graphs import Backend
from ..runtime.processes import restarted
from ..storage.folder import STATE_FILE, locked
from ..tasks.base import Task
from . import interrupt, snapshot, tracking
from .errors import NonFiniteLoss, out_of_memory
from .own_states import OwnStates
from .record import History
from .trainer import Trainer

SLOW = 3.0  # seconds of an update after which the state is always written, so that a stop needn't wait for the next
AGREE_EVERY = 20  # updates between two times that processes ask each other whether a signal came


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
    own_states: OwnStates | None = None,
    out: str | Path | None = None,
    checkpoint_every: int | None = None,
    resume: bool | None = False,
    device: str | torch.device | None = None,
    accumulate: int = 1,
    compile: bool | None = None,
    graph: bool | Backend = False,
    tracker: str | tracking.Tracker | tracking.Options | None = None,
    progress: bool = True,
    before_update: Callable[[Trainer], None] | None = None,
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
        own_states: of a model that decides: rows begin and go on in states of the prior's decisions, and give way when
            they are done (:class:`gram_ppl.OwnStates`).
        out: folder for ``model.safetensors`` (best weights) and ``state.safetensors`` (to resume).
        checkpoint_every: updates between two writings of the state; a fiftieth of the run if not given.
        resume: continue from the state in ``out``; the result is that of the uninterrupted run, bit for bit. None
            continues if there is a state, and begins otherwise. So do processes that torchrun's elastic agent starts
            in the place of dead ones, whatever is said here.
        device: CUDA when present, else the CPU.
        accumulate: parts into which each process cuts its rows, one after the other, to save memory.
        compile: run the model's deterministic core compiled (:mod:`gram_ppl.runtime.compilation`); by default on
            CUDA only.
        graph: replay every update as one CUDA graph (:mod:`gram_ppl.training.graph`); a warning says why where that
            can't be. Results differ by rounding only. Another backend than CUDA's may stand in.
        tracker: where records, step times, utilisation and memory go (:mod:`gram_ppl.tracking`): the name of a tracker
            that Accelerate knows, such as "tensorboard", or an object with ``log(values, step)``.
        progress: show a progress bar.
        before_update: called before each update with the :class:`gram_ppl.training.trainer.Trainer`, whose ``update``
            counts those that are done.

    Raises:
        ValueError: an argument out of range.
        CheckpointError: nothing to resume, or a state that belongs to other settings.
        NonFiniteLoss: the loss became NaN or infinite; nothing was overwritten after the last good checkpoint.
        FolderInUse: another process trains in ``out``.
        Stopped: Ctrl-C or SIGTERM; with ``out`` nothing is lost but, at most, the update in flight
            (:mod:`gram_ppl.training.interrupt`). It is a KeyboardInterrupt.
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
    if own_states is not None:
        settings["own_states"] = own_states
    trainer = Trainer(model, guide, task, objective or SegmentELBO(LogLinear()), settings, device, accumulate, graph)
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
            snapshot.restore(trainer, folder)
        stored = trainer.update
        line = bar.add_task("", total=updates, completed=trainer.update, note="")
        while trainer.update < updates:
            if folder is not None and stored < trainer.update and trainer.update + 1 in trainer.evaluate_at:
                snapshot.store(trainer, folder)  # an evaluation is long
                stored = trainer.update
            alone, began = shares.world == 1, time.perf_counter()
            try:
                with request.at_once(trainer.update, updates, safe=alone and stored == trainer.update):
                    if before_update is not None:
                        before_update(trainer)
                    record = trainer.step()
            except NonFiniteLoss as error:
                raise NonFiniteLoss(f"{error}; {snapshot.last_good(folder)}") from None
            except torch.OutOfMemoryError as error:
                kept = snapshot.last_good(folder)
                raise out_of_memory(trainer.update, batch_size, trainer.supervision, kept) from error
            bar.advance(line)
            if record is not None:
                track(record)
                bar.update(line, note=f"{trainer.update / trainer.seconds:.1f} updates/s  {record.described()}")
                if progress and shares.main and record.prior_accuracy is not None:
                    bar.console.print(f"update {record.update:>6}  {record.described()}", highlight=False)
            if not alone and trainer.update % AGREE_EVERY == 0:
                request.signum = shares.most(request.signum or 0) or None
            stop = request.signum is not None and (alone or trainer.update % AGREE_EVERY == 0)
            slow = alone and time.perf_counter() - began > SLOW
            due = trainer.update % checkpoint_every == 0 or trainer.update == updates or stop or slow
            if folder is not None and due:
                snapshot.store(trainer, folder)
                stored = trainer.update
                if stop:
                    request.check(trainer.update, updates)
        trainer.finish(folder)
    return trainer.history


def _bar(show: bool) -> Progress:
    console = Console()
    columns = (BarColumn(12), TextColumn("{task.completed}/{task.total}"), TimeRemainingColumn(compact=True))
    note = TextColumn("{task.fields[note]}")
    return Progress(*columns, note, console=console, disable=not (show and console.is_terminal))
