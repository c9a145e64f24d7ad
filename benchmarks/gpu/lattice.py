"""Sudoku-Extreme by committing decisions, in plain torch: the figure that the library's decisions have to reach.

A state is the set of digits that each cell may still hold, ``[B, 81, 9]`` bool. A tied network reads it again and
again, h <- f(h + h_0), with a loss after every loop (the recipe of arXiv 2605.08605, in blocks of :mod:`gram_ppl.nn`,
whose attention knows rows, columns and boxes): which digits to keep, a softmax for each cell, whether the truth is
lost. Between two network calls digits below a threshold die and one random open cell is decided. Training follows the
model's own states; at test a contradiction begins a chain again, the first chain that is decided everywhere answers,
no verifier. It has no program, no bound and no resume: a prototype.

    python benchmarks/gpu/lattice.py --data sudoku_extreme_1k_train.csv --out OUT --seconds 420
"""

from __future__ import annotations

import sys

sys.path.insert(0, sys.path.pop(0).removesuffix("/gpu"))  # Python has a `profile` and a `queue` of its own

import argparse
import csv
import gzip
import importlib.util
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
DIGITS = 9
REGISTERS = 7  # 88 tokens, a multiple of 8


def blocks() -> Any:
    """``gram_ppl.nn`` alone, which needs no Pyro."""
    spec = importlib.util.spec_from_file_location("blocks", ROOT / "gram_ppl" / "nn.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["blocks"] = module
    spec.loader.exec_module(module)
    return module


def relations() -> Tensor:
    """Same row, column, box, ``[3, 88, 88]`` bool; registers are related to nothing."""
    cell = torch.arange(81)
    row, column = cell // 9, cell % 9
    units = [row, column, row // 3 * 3 + column // 3]
    return F.pad(torch.stack([unit[:, None] == unit for unit in units]), (REGISTERS, 0, REGISTERS, 0))


class Solver(nn.Module):
    """One tied stack, run ``loops`` times; heads read h after every loop."""

    def __init__(self, width: int, layers: int, heads: int, loops: int) -> None:
        super().__init__()
        own = blocks()
        self.loops = loops
        self.embed = nn.Linear(DIGITS, width)
        self.registers = nn.Parameter(torch.randn(REGISTERS, width))
        mixer = own.Attention(heads)
        made = (mixer.build(width, 81 + REGISTERS, relations()) for _ in range(layers))
        self.stack = nn.ModuleList(own.Block(attention, width, 2 * width) for attention in made)
        self.heads = nn.Linear(width, 2 * DIGITS)
        self.lost = nn.Linear(width, 1)
        own.attend = explicit
        nn.init.zeros_(self.heads.weight)

    def loop(self, h: Tensor, h0: Tensor) -> Tensor:
        h = h + h0
        for block in self.stack:
            h = block(h)
        return h

    def read(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keep logits and digit logits ``[..., 81, 9]``, logit that the truth is lost ``[...]``."""
        keep, digit = self.heads(h[..., REGISTERS:, :]).float().chunk(2, dim=-1)
        return keep, digit, self.lost(h[..., 0, :]).float()[..., 0]

    def forward(self, state: Tensor, every: bool) -> list[Tensor]:
        """h after each loop, or after the last alone."""
        cells = self.embed(state.float() * 2 - 1)
        h0 = torch.cat([self.registers.to(cells.dtype).expand(len(state), -1, -1), cells], dim=1)
        h, found = torch.zeros_like(h0), []
        for _ in range(self.loops):
            h = self.loop(h, h0)
            found.append(h)
        return found if every else found[-1:]


def explicit(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attention as plain products, for the compiler to fuse: its bias needs a gradient."""
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + (0 if bias is None else bias.to(q.dtype))
    return logits.softmax(dim=-1).to(v.dtype) @ v


def losses(model: Solver, hs: list[Tensor], state: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over the loops of all three losses; whether each row has lost its truth, ``[B]``."""
    target = state & F.one_hot(truth, DIGITS).bool()
    held = target.any(dim=-1)
    lost = ~held.all(dim=-1)
    open_cells = (state.sum(dim=-1) > 1) & ~lost[:, None]
    keep, digit, flag = model.read(torch.stack(hs))
    weight = torch.where(target, 4.0, 0.5)
    kept = (F.binary_cross_entropy_with_logits(keep, target.float().expand_as(keep), reduction="none") * weight).mean()
    digit = digit.masked_fill(~state, -1e4).log_softmax(dim=-1)
    nll = -digit.gather(-1, truth.expand(len(hs), -1, -1)[..., None])[..., 0]
    chosen = (nll * open_cells).sum() / (open_cells.sum() * len(hs)).clamp(min=1)
    flagged = F.binary_cross_entropy_with_logits(flag, lost.float().expand_as(flag))
    return kept + chosen + 0.1 * flagged, lost


def moved(state: Tensor, keep: Tensor, digit: Tensor, flag: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """The next state, and which rows contradict themselves or are decided everywhere, ``[B]`` bool."""
    many = state.sum(dim=-1, keepdim=True) > 1
    state = state & ~((keep.sigmoid() < threshold) & many)
    count = state.sum(dim=-1)
    contradiction = (count == 0).any(dim=-1) | (flag > 0)
    solved = (count == 1).all(dim=-1)
    score = torch.rand(count.shape, device=count.device).masked_fill(count < 2, -1)
    cell = score.argmax(dim=-1)
    row = torch.arange(len(state), device=state.device)
    probs = (digit[row, cell] / 1.5).masked_fill(~state[row, cell], -1e4).softmax(dim=-1)
    drawn = F.one_hot(torch.multinomial(probs, 1)[:, 0], DIGITS).bool()
    goes_on = ~(contradiction | solved)
    state = state.clone()
    state[row, cell] = torch.where(goes_on[:, None], drawn, state[row, cell])
    return state, contradiction, solved


def symmetries(num: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each cell comes from ``[B, 81]`` and each digit's new name ``[B, 9]``."""

    def shuffled(*shape: int) -> Tensor:
        return torch.rand(num, *shape, device=device).argsort(dim=-1)

    def lines() -> Tensor:
        return (shuffled(3)[..., None] * 3 + shuffled(3, 3)).flatten(1)

    cells = lines()[:, :, None] * 9 + lines()[:, None, :]
    turned = torch.rand(num, 1, 1, device=device) < 0.5
    return torch.where(turned, cells.transpose(1, 2), cells).flatten(1), shuffled(9)


def image(state: Tensor, cells: Tensor, digits: Tensor) -> Tensor:
    """States ``[B, 81, 9]`` under symmetries: digit d becomes ``digits[d]``."""
    state = state.gather(1, cells[..., None].expand_as(state))
    return state.gather(2, digits.argsort(dim=-1)[:, None].expand_as(state))


def fresh(x: Tensor, y: Tensor) -> Tensor:
    """States of puzzles: a fifth bare, over a half partly filled, a quarter partly filled wrongly."""
    num = len(x)
    kind = torch.rand(num, 1, device=x.device)
    share = torch.rand(num, 1, device=x.device) * (kind > 0.2)
    filled = (x == 0) & (torch.rand(x.shape, device=x.device) < share)
    wrong = filled & (torch.rand(x.shape, device=x.device) < (0.01 + 0.29 * torch.rand_like(kind)) * (kind > 0.75))
    value = torch.where(wrong, (y + torch.randint(1, 9, y.shape, device=y.device)) % 9, y)
    one = F.one_hot(value, DIGITS).bool()
    return torch.where(((x > 0) | filled)[..., None], one, torch.ones_like(one))


def read(path: Path) -> tuple[Tensor, Tensor]:
    """Questions and answers of a CSV file; digits of answers from 0 on."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = list(csv.reader(file))[1:]
    random.Random(0).shuffle(rows)
    x = torch.tensor([[0 if char in ".0" else int(char) for char in row[1]] for row in rows])
    return x, torch.tensor([[int(char) - 1 for char in row[2]] for row in rows])


@torch.no_grad()
def tested(
    model: Solver,
    call: Any,
    x: Tensor,
    y: Tensor,
    chains: int,
    seconds: float,
    rounds: int,
    batch: int,
    threshold: float,
) -> dict[str, Any]:
    """How many puzzles are answered and answered rightly after so many network calls a chain."""
    device, start = x.device, time.perf_counter()
    bare = torch.where((x > 0)[..., None], F.one_hot((x - 1).clamp(min=0), DIGITS).bool(), True)
    owner = torch.arange(len(x), device=device).repeat(chains)
    state = bare[owner]
    answer = torch.full_like(y, -1)
    calls = torch.zeros(len(x), device=device)
    course = []
    for number in range(1, rounds + 1):
        open_rows = (answer[:, 0] < 0)[owner].nonzero()[:, 0]
        if not len(open_rows) or time.perf_counter() - start > seconds:
            break
        for rows in open_rows.split(batch):
            padded = F.pad(rows, (0, batch - len(rows)), value=int(rows[0]))
            cells, digits = symmetries(batch, device)
            seen = image(state[padded], cells, digits)
            keep, digit, flag = model.read(call(seen)[-1])
            new, bad, done = moved(seen, keep, digit, flag, threshold)
            new = image(new, cells.argsort(dim=-1), digits.argsort(dim=-1))[: len(rows)]
            bad, done = bad[: len(rows)], done[: len(rows)]
            state[rows] = torch.where(bad[:, None, None], bare[owner[rows]], new)
            for row in (done & ~bad).nonzero()[:, 0].tolist():
                puzzle = int(owner[rows[row]])
                if answer[puzzle, 0] < 0:
                    answer[puzzle] = new[row].int().argmax(dim=-1)
                    calls[puzzle] = number
        answered, right = answer[:, 0] >= 0, (answer == y).all(dim=-1)
        if number in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) or number == rounds:
            course.append([number, int(answered.sum()), int(right.sum())])
    answered, right = answer[:, 0] >= 0, (answer == y).all(dim=-1)
    return {
        "puzzles": len(x),
        "chains": chains,
        "rounds": number,
        "answered": int(answered.sum()),
        "right": int(right.sum()),
        "wrong": int((answered & ~right).sum()),
        "mean_rounds": calls[answered].mean().item() if answered.any() else None,
        "course": course,  # rounds, answered, right
        "seconds": time.perf_counter() - start,
    }


def main(arguments: list[str] | None = None) -> None:
    """Train for so many seconds, then answer held-out rows and puzzles of 17 clues."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--few", type=Path, help="puzzles of 17 clues")
    parser.add_argument("--out", type=Path, required=True)
    for name, value in {"seconds": 420.0, "test_seconds": 60.0, "lr": 3e-3, "threshold": 0.1}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value)
    numbers = {"width": 128, "layers": 2, "heads": 4, "loops": 16, "batch": 512, "seed": 0}
    numbers |= {"chains": 32, "rounds": 1000, "held": 200}
    for name, value in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--updates", type=int, help="in place of --seconds")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(given.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    x, y = (part.to(device) for part in read(given.data))
    test_x, test_y, x, y = x[: given.held], y[: given.held], x[given.held :], y[given.held :]
    model = Solver(given.width, given.layers, given.heads, given.loops).to(device)
    if device.type == "cuda":
        model.loop = torch.compile(model.loop, dynamic=False)  # type: ignore[method-assign]
    loss_of = torch.compile(losses, dynamic=False) if device.type == "cuda" else losses
    decayed = [weights for weights in model.parameters() if weights.dim() > 1]
    others = [weights for weights in model.parameters() if weights.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=given.lr, betas=(0.9, 0.95), fused=device.type == "cuda")
    batch = given.batch
    rows = torch.randint(len(x), (batch,), device=device)
    truth, age = y[rows], torch.zeros(batch, dtype=torch.long, device=device)
    state = fresh(x[rows], truth)
    start, updates, log = time.perf_counter(), 0, []
    sums = torch.zeros(5, device=device)
    progress = 0.0
    while progress < 1:
        fall = 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))
        rate = progress / 0.1 if progress < 0.1 else 0.01 + 0.99 * fall
        for group in optimizer.param_groups:
            group["lr"] = given.lr * max(rate, 1e-3)
        cells, digits = symmetries(batch, device)
        state = image(state, cells, digits)
        truth = digits.gather(1, truth.gather(1, cells))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            hs = model(state, True)
            loss, lost = loss_of(model, hs, state, truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            keep, digit, flag = model.read(hs[-1].detach())
            new, bad, done = moved(state, keep, digit, flag, given.threshold)
            age += 1
            empty = (new.sum(dim=-1) == 0).any(dim=-1)
            gone = done | (bad & lost) | empty | (age > 100)
            flags = (done & ~lost, done & lost & ~bad, bad == lost, lost)
            sums += torch.stack([loss.detach(), *(marks.float().mean() for marks in flags)])
            rows = torch.randint(len(x), (batch,), device=device)
            state = torch.where(gone[:, None, None], fresh(x[rows], y[rows]), new)
            truth = torch.where(gone[:, None], y[rows], truth)
            age = torch.where(gone, 0, age)
        updates += 1
        if given.updates:
            progress = updates / given.updates
        else:
            if updates == 20 and device.type == "cuda":
                torch.cuda.synchronize()
                print(f"20 updates with compilation: {time.perf_counter() - start:.0f} s", flush=True)
            if updates % 10 == 0 and device.type == "cuda":
                torch.cuda.synchronize()
            progress = min(1.0, (time.perf_counter() - start) / given.seconds)
        if updates % 250 == 0 or progress >= 1:
            figures = (sums / (updates % 250 or 250)).tolist()
            sums.zero_()
            log.append([updates, time.perf_counter() - start, *figures])
            text = "loss {:.4f} solved {:.3f} wrong {:.4f} flag right {:.3f} lost {:.3f}".format(*figures)
            print(f"{updates} {time.perf_counter() - start:.0f}s {text}", flush=True)
    trained = time.perf_counter() - start
    torch.save(model.state_dict(), given.out / "lattice.pt")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    result: dict[str, Any] = {"device": name, "updates": updates, "seconds": trained, "log": log}
    result["parameters"] = sum(weights.numel() for weights in model.parameters())
    result["settings"] = {key: value for key, value in vars(given).items() if not isinstance(value, Path)}
    sets = {"extreme": (test_x, test_y)}
    if given.few:
        few_x, few_y = (part[: given.held].to(device) for part in read(given.few))
        sets["17 clues"] = (few_x, few_y)

    def call(seen: Tensor) -> list[Tensor]:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return [h.float() for h in model(seen, False)]

    for title, (some_x, some_y) in sets.items():
        limits = (given.chains, given.test_seconds, given.rounds, 4 * batch, given.threshold)
        result[title] = tested(model, call, some_x, some_y, *limits)
        print(title, result[title], flush=True)
        (given.out / "lattice.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
