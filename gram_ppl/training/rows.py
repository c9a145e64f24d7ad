"""The rows in flight: which go on, which give way, and the fresh puzzles that take their place."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..runtime.precision import send
from ..runtime.processes import Shares
from ..state import Batch, Latent
from ..storage import checkpoint
from ..tasks.base import Task
from .own_states import OwnRows


class Carry(NamedTuple):
    """The rows in flight; those done are replaced next, or group g = update mod N_sup where rows don't halt."""

    x: Tensor  # [B, L_in]
    y: Tensor  # [B, L_out]
    latent: Latent  # [B, L, D] each
    age: Tensor  # [B] int64, supervision steps run since the row was filled
    done: Tensor | None = None  # [B] bool, rows that halted or ran N_sup supervision steps; None where rows don't halt


class Rows:
    """A batch whose rows are at every stage of their trajectory.

    Args:
        task: gives fresh puzzles.
        model: the program, which says where rows begin.
        batch_size: B, those of all processes, a multiple of ``segments``.
        generator: its state is the position in the data.
        shares: x, y and age are joint, the latent is this process's.
        segments: how many of them are a trajectory.
        own: begins rows in other states than those of their inputs.
    """

    def __init__(
        self,
        task: Task,
        model: Any,
        batch_size: int,
        generator: torch.Generator,
        shares: Shares,
        segments: int,
        own: OwnRows | None = None,
    ) -> None:
        self.model, self.shares, self.generator = model, shares, generator
        self.batch_size, self.spec = batch_size, task.spec
        self.own, self.segments = own, segments
        self.size = batch_size // segments  # of a group of rows of one age
        self.batches = task.batches("train", self.size, generator)
        self.carry: Carry | None = None
        self.spare: Batch | None = None  # fresh puzzles that no row had room for

    def oldest(self, update: int) -> slice:
        """The group that is replaced before an update where rows don't halt: in its last supervision step before."""
        first = (update % self.segments) * self.size
        return slice(first, first + self.size)

    def next(self, update: int) -> Carry:
        """The rows of an update: the carried ones, some replaced by fresh puzzles at z_0."""
        if self.carry is None:
            parts = [next(self.batches) for _ in range(self.segments)]
            x, y = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
            x, y, _ = self.model.given(x, y, read=True)  # of a task's batches the first is looked at
            here = self.shares.here(len(x))
            x, y, latent = self._begun(x, y, here)
            age = torch.zeros(len(x), dtype=torch.int64, device=x.device)
            return Carry(x, y, latent.map(torch.Tensor.clone), age)
        x, y, latent, age, done = self.carry
        fresh: Any = self.oldest(update) if done is None else done.nonzero()[:, 0]
        new = next(self.batches) if done is None else self._drawn(len(fresh))
        here, mine = self.shares.own(fresh, len(x)), self.shares.here(len(x))
        rows = torch.arange(len(x), device=x.device)[fresh]
        x[fresh], y[fresh], start = self._begun(new.x, new.y, (rows >= mine.start) & (rows < mine.stop))
        for state, begun in zip(latent.parts, start.parts, strict=True):
            state[here] = begun.to(state.dtype)
        age[fresh] = 0
        return Carry(x, y, latent, age)

    def _begun(self, x: Tensor, y: Tensor, here: Any) -> tuple[Tensor, Tensor, Latent]:
        """Fresh puzzles where they are needed, and the states that those of them that are ``here`` begin in."""
        device = self.shares.device
        if self.own is not None:
            latent, y = self.own.fresh(x, y, self.generator)
            return send(x, device), send(y, device), latent.rows(here)
        x = send(x, device)
        mine = x[here]
        return x, send(y, device), self.model.begin(mine, len(mine))

    def _drawn(self, count: int) -> Batch:
        """The next puzzles in the order of the batches; what is left of a batch waits for the next call."""
        parts = [] if self.spare is None else [self.spare]
        while not parts or sum(len(part.x) for part in parts) < count:
            parts.append(next(self.batches))
        x, y = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        self.spare = Batch(x[count:], y[count:])
        return Batch(x[:count], y[:count])

    def state(self) -> dict[str, Tensor]:
        """What is stored; all processes call."""
        assert self.carry is not None
        x, y, latent, age, done = self.carry
        found = {"carry.x": x, "carry.y": y, "carry.age": age}
        names = (f"carry.{name}" for name in latent._fields)
        found |= dict(zip(names, map(self.shares.gathered, latent.parts), strict=False))
        if done is not None:
            found["carry.done"] = done
        if self.spare is not None:
            found |= {"spare.x": self.spare.x, "spare.y": self.spare.y}
        return found | {"random.data": self.generator.get_state()}

    def load(self, tensors: dict[str, Tensor], path: Any) -> None:
        """Take what :meth:`state` gave, found in the file ``path``.

        Raises:
            CheckpointError: tensors of other names, shapes or dtypes.
        """
        device = self.shares.device
        rows, spare = (checkpoint.part(tensors, name, device) for name in ("carry.", "spare."))
        rows.setdefault("age", rows["x"].new_zeros(len(rows["x"])))  # absent from states of older versions
        checkpoint.fits(rows, self._like(rows), path)
        like = {key: rows[key].new_empty(len(value), rows[key].shape[1]) for key, value in spare.items()}
        checkpoint.fits(spare, like, path)
        here = self.shares.here(len(rows["x"]))
        latent = Latent(rows["h"], rows["l"], rows.get("candidates")).rows(here)
        self.carry = Carry(rows["x"], rows["y"], latent, rows["age"], rows.get("done"))
        self.spare = Batch(tensors["spare.x"], tensors["spare.y"]) if spare else None
        self.generator.set_state(tensors["random.data"])

    def _like(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the names, shapes and dtypes that rows in flight have; under autocast states may be bfloat16."""
        age = torch.zeros(self.batch_size, dtype=torch.int64)
        x, y = (age[:, None].expand(-1, n) for n in (rows["x"].shape[-1] and self.spec.len_in, self.spec.len_out))
        z: Latent = self.model.begin(None, self.batch_size)
        like = {"x": x, "y": y, "h": z.h, "l": z.l, "age": age}
        like |= {} if z.candidates is None else {"candidates": z.candidates}
        like |= {key: like[key].to(rows[key].dtype) for key in ("h", "l") if rows[key].dtype == torch.bfloat16}
        return like | {"done": age.bool()} if "done" in rows else like
