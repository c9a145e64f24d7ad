"""The contract of a task."""

from __future__ import annotations

import json
from typing import NamedTuple

import torch
from torch import Tensor

from ..storage.descriptions import describe
from ..tasks.base import Task
from .claims import Claims

SPLITS = ("train", "validation", "test")
MOST = 500  # solutions up to which draws of y are counted
DRAWS = 2000
FAR = 6.0  # standard errors that count as a fault
SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)
DTYPES = (*SIGNED, torch.uint8, torch.uint16, torch.uint32, torch.uint64)


class Rows(NamedTuple):
    """Rows of all splits, and every solution of each where the task lists them."""

    x: Tensor  # [R, L_in]
    y: Tensor  # [R, L_out]
    solutions: list[Tensor]  # [S_i, L_out] each


def check_task(task: Task, *, rows: int = 12, free: int = 0, seed: int = 0) -> None:
    """See that a task keeps what :class:`gram_ppl.tasks.base.Task` promises.

    Spec, arguments that build the task again, held-out inputs, batches and their generator, solutions, y drawn
    uniformly among them, verifier, refusal of wrong shapes and dtypes, symmetries, text and picture. What the task
    does not implement (``NotImplementedError``), or cannot list (``listable``), is left out.

    Args:
        task: with held-out inputs in both splits.
        rows: rows of each split that are looked at.
        free: how many tokens an input begins with that are outside the vocabulary, such as ARC's number of the puzzle.
        seed: of the draws.

    Raises:
        AssertionError: a promise is broken; a sentence names method and fault.
    """
    claim, generator = Claims(task), torch.Generator().manual_seed(seed)
    claim(isinstance(task, Task), "", "expected an object of a subclass of gp.tasks.Task")
    _spec(claim, task)
    _arguments(claim, task)
    _held_out(claim, task, free)
    found = [_batches(claim, task, split, rows, free, generator) for split in SPLITS]
    x, y = (torch.cat([getattr(part, name) for part in found]) for name in ("x", "y"))
    these = Rows(x, y, _solutions(claim, task, x, y) if task.listable else [])
    _verifier(claim, task, these, generator)
    _refusals(claim, task, x[0], y[0])
    if these.solutions:
        _uniform(claim, task, these, generator)
        _symmetries(claim, task, these, generator)
        _reading(claim, task, torch.cat([task.inputs("validation")[:rows], task.inputs("test")[:rows]]))
    _writing(claim, task, x[-1], y[-1])


# What a model is told


def _spec(claim: Claims, task: Task) -> None:
    spec = task.spec
    claim(min(spec[:4]) > 0, "spec", f"expected lengths and vocabularies of at least 1, found {tuple(spec[:4])}")
    if spec.relations is not None:
        shape, sizes = tuple(spec.relations.shape), (spec.len_in, spec.len_in + spec.len_out)
        good = len(shape) == 3 and shape[1] == shape[2] and shape[1] in sizes and spec.relations.dtype == torch.bool
        claim(good, "spec", f"expected relations [R, M, M] bool with M = {sizes[0]} or {sizes[1]}, found {list(shape)}")
        claim((spec.relations == spec.relations.mT).all(), "spec", "a relation is not symmetric")
        claim(spec.relations.any((1, 2)).all(), "spec", "a relation holds between no tokens")
    if spec.leaves is not None:
        shape = tuple(spec.leaves.shape)
        good = spec.leaves.dtype == torch.bool and shape in ((spec.vocab_in, spec.vocab_out), (1, spec.vocab_out))
        claim(good, "spec", f"expected leaves [vocab_in, vocab_out] or [1, vocab_out] bool, found {list(shape)}")


def _arguments(claim: Claims, task: Task) -> None:
    claim.runs(lambda: json.dumps(describe(task)), "__init__", "writing its arguments as JSON for a checkpoint")
    again = claim.runs(lambda: type(task)(**task.config), "__init__", "building the task again from task.config")
    for split in ("validation", "test"):
        same = torch.equal(again.inputs(split), task.inputs(split))
        claim(
            same, "__init__", f"a task with the same arguments has other {split} inputs: take all randomness from seed"
        )


# Data


def _held_out(claim: Claims, task: Task, free: int) -> None:
    held = [task.inputs(split) for split in ("validation", "test")]
    for x, split in zip(held, ("validation", "test"), strict=True):
        claim(
            x.dtype == torch.int64 and x.dim() == 2, "inputs", f"expected [n, L_in] int64 for {split}, found {x.dtype}"
        )
        claim(
            x.shape[1] in (task.spec.len_in, 0), "inputs", f"{split} inputs have {x.shape[1]} tokens, not spec.len_in"
        )
        claim(len(x) > 0, "inputs", f"the {split} split is empty, so there is nothing to check")
        _in_range(claim, "inputs", x[:, free:], task.spec.vocab_in, f"{split} inputs")
        claim(not x.shape[1] or len(x.unique(dim=0)) == len(x), "inputs", f"{split} inputs repeat")
    shared = held[0].shape[1] and _among(held[0], held[1]).any()
    claim(not shared, "inputs", "a validation input is a test input too")
    claim.refuses(lambda: task.inputs("training"), "inputs", "the unknown split 'training'")


def _batches(claim: Claims, task: Task, split: str, rows: int, free: int, generator: torch.Generator) -> Rows:
    state, outside = generator.get_state(), torch.get_rng_state()
    made = task.batches(split, rows, generator)
    x, y = claim.runs(next, "batches", f"drawing {split} rows", made)
    again = next(task.batches(split, rows, torch.Generator().set_state(state)))
    other = next(made)
    claim(torch.equal(torch.get_rng_state(), outside), "batches", "it draws from torch's global generator")
    same = torch.equal(x, again.x) and torch.equal(y, again.y)
    claim(same, "batches", f"the same state of the generator gives other {split} rows")
    fresh = split != "train" or not (torch.equal(x, other.x) and torch.equal(y, other.y))
    claim(fresh, "batches", "two training batches in a row are the same: go on with the generator")
    claim(x.dtype == y.dtype == torch.int64, "batches", f"expected int64, found {x.dtype} and {y.dtype}")
    shapes = (rows, task.inputs("test").shape[1]), (rows, task.spec.len_out)
    claim((x.shape, y.shape) == shapes, "batches", f"expected {shapes}, found {tuple(x.shape)} and {tuple(y.shape)}")
    _in_range(claim, "batches", x[:, free:], task.spec.vocab_in, "inputs")
    _in_range(claim, "batches", y, task.spec.vocab_out, "answers")
    claim(task.verify(x, y).all(), "batches", f"an answer of a {split} row does not verify")
    claim(torch.equal(task.canonical(y), y), "batches", f"an answer of a {split} row is not in canonical form")
    leaves = task.spec.leaves
    if leaves is not None and x.shape[1]:
        allowed = leaves[x].gather(-1, y[..., None]) if len(leaves) > 1 else leaves[0][y]
        claim(allowed.all(), "spec", "leaves exclude a token of a right answer")
    if x.shape[1]:
        held = {name: _among(x, task.inputs(name)) for name in ("validation", "test")}
        if split == "train":
            claim(not (held["validation"] | held["test"]).any(), "batches", "a training row is a held-out input")
        else:
            claim(held[split].all(), "batches", f"a {split} row is none of inputs({split!r})")
    return Rows(x, y, [])


# Solutions


def _solutions(claim: Claims, task: Task, x: Tensor, y: Tensor) -> list[Tensor]:
    listed = []
    for one, answer in zip(x, y, strict=True):
        found = claim.runs(task.solutions, "solutions", "a listing", one)
        good = found.dtype == torch.int64 and found.dim() == 2 and found.shape[1] == task.spec.len_out
        claim(good, "solutions", f"expected [S, {task.spec.len_out}] int64, found {found.dtype} of {list(found.shape)}")
        claim(len(found.unique(dim=0)) == len(found), "solutions", "a solution is listed twice")
        claim(task.verify(one, found).all(), "solutions", "a listed solution does not verify")
        claim(torch.equal(task.canonical(found), found), "solutions", "a listed solution is not in canonical form")
        claim(_among(answer[None], found).all(), "solutions", "an answer of batches is missing from the solutions")
        number = task.num_solutions(one)
        claim(number == len(found), "num_solutions", f"it says {number}, and solutions lists {len(found)}")
        listed.append(found)
    return listed


def _uniform(claim: Claims, task: Task, rows: Rows, generator: torch.Generator) -> None:
    """Of training rows the rank of y among the solutions, of test rows how often each solution is drawn."""
    x, y = next(task.batches("train", 8 * len(rows.x), generator))
    listed = [task.solutions(one) for one in x]
    rank = torch.tensor([int((found == one).all(1).int().argmax()) for found, one in zip(listed, y, strict=True)])
    number = torch.tensor([len(found) for found in listed]).double()
    off = ((rank - (number - 1) / 2).sum() / ((number**2 - 1) / 12).sum().sqrt().clamp(min=1e-9)).item()
    sentence = "y is not drawn uniformly among the solutions of x ({} rows: {:.0f} standard errors off)"
    claim(abs(off) < FAR, "batches", sentence.format("training", off))
    x, y = next(task.batches("test", DRAWS, generator))
    inputs, row = x.unique(dim=0, return_inverse=True) if x.shape[1] else (x[:1], torch.zeros(len(x)))
    chi2, freedom = 0.0, 0
    for k in range(min(len(inputs), 200)):
        found, drawn = task.solutions(inputs[k]), y[row == k]
        if 1 < len(found) <= MOST and len(drawn) > 1:
            times = (drawn[:, None] == found).all(-1).sum(0).double()
            expected = len(drawn) / len(found)
            chi2 += ((times - expected) ** 2 / expected).sum().item()
            freedom += len(found) - 1
    if freedom:  # a normal number, by Wilson and Hilferty (1931)
        spread = 2 / (9 * freedom)
        off = ((chi2 / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5
        claim(off < FAR, "batches", sentence.format("test", off))


# The verifier


def _verifier(claim: Claims, task: Task, rows: Rows, generator: torch.Generator) -> None:
    x, y = rows.x, rows.y
    table = claim.runs(lambda: task.violations(x[:, None], y), "violations", "broadcasting [R, 1, L_in] and [R, L_out]")
    claim(table.dtype == torch.int64, "violations", f"expected int64, found {table.dtype}")
    claim(tuple(table.shape) == (len(x), len(x)), "violations", f"leading dimensions give {list(table.shape)}")
    claim((table >= 0).all(), "violations", "a number is negative")
    for a, b in ((0, -1), (-1, 0), (1, 1)):
        one = task.violations(x[a], y[b])
        claim(one.shape == () and one == table[a, b], "violations", "a row alone is judged otherwise than in a batch")
    claim(torch.equal(task.verify(x[:, None], y), table == 0), "verify", "it is not violations == 0")
    claim((task.conflicts(x, y) == 0).all(), "conflicts", "a right answer has conflicts")
    for dtype in DTYPES:
        if x.numel() == 0 or x.max() <= torch.iinfo(dtype).max:
            given = claim.runs(task.verify, "verify", f"tokens of {dtype}", x.to(dtype), y.to(dtype))
            claim(given.all(), "verify", f"a right answer of {dtype} is not accepted")
        wrong = torch.full_like(y, torch.iinfo(dtype).max, dtype=dtype)
        found = claim.runs(task.verify, "verify", f"an answer of the largest tokens of {dtype}", x, wrong)
        claim(not found.any(), "verify", f"an answer of the largest tokens of {dtype} is accepted")
    for token in (-1, task.spec.vocab_out, 2**62, -(2**63)):
        spoilt = y.clone()
        spoilt[:, -1] = token
        found = claim.runs(task.verify, "verify", f"a token {token}", x, spoilt)
        claim(not found.any(), "verify", f"an answer with the token {token} is accepted")
        claim.runs(task.violations, "violations", f"inputs of tokens {token}", torch.full_like(x, token), y)
    changed = y.clone()
    place = torch.randint(y.shape[1], (len(y),), generator=generator)
    changed[torch.arange(len(y)), place] = torch.randint(task.spec.vocab_out, (len(y),), generator=generator)
    if not rows.solutions:
        return
    for k, found in enumerate(rows.solutions):
        for answer, what in ((changed[k], "a changed answer"), (y[k - 1], "the answer to another input")):
            accepted, right = bool(task.verify(x[k], answer)), bool(_among(task.canonical(answer)[None], found).all())
            claim(accepted <= right, "verify", f"{what} is accepted, and solutions does not list it")
            claim(accepted >= right, "verify", f"{what} is a solution, and it is not accepted")


def _refusals(claim: Claims, task: Task, x: Tensor, y: Tensor) -> None:
    for method in ("violations", "verify", "conflicts"):
        judge = {"violations": task.violations, "verify": task.verify, "conflicts": task.conflicts}[method]
        for wrong, what in ((y[1:], "an answer that lacks a token"), (y.float(), "an answer of floats")):
            claim.refuses(judge, method, what, x, wrong)
        for wrong, what in ((torch.cat([x, y[:1]]), "an input with a token more"), (x.float(), "an input of floats")):
            claim.refuses(judge, method, what, wrong, y)
        apart = x.expand(2, -1), y.expand(3, -1)
        claim.refuses(judge, method, "2 inputs with 3 answers", *apart)
    if task.listable:
        claim.refuses(lambda: task.solutions(x[None]), "solutions", "a batch in place of one input")


def _symmetries(claim: Claims, task: Task, rows: Rows, generator: torch.Generator) -> None:
    x, undo = task.symmetric(rows.x, generator)
    claim(x.shape == rows.x.shape, "symmetric", f"{list(rows.x.shape)} becomes {list(x.shape)}")
    answers = [task.solutions(one) for one in x]
    for found, before in zip(answers, rows.solutions, strict=True):
        claim(len(found) == len(before), "symmetric", "an input has another number of solutions than before")
    back = undo(torch.stack([found[0] for found in answers]))
    claim(task.verify(rows.x, back).all(), "symmetric", "undo gives an answer that does not solve the input of before")


# Text and pictures


def _reading(claim: Claims, task: Task, x: Tensor) -> None:
    for one in x:
        text = claim.runs(task.line, "line", "writing an input", one)
        back = claim.runs(task.parse, "parse", f"reading what line wrote, {text[:40]!r},", text)
        claim(back.dtype == torch.int64, "parse", f"expected int64, found {back.dtype}")
        claim(torch.equal(back, one), "parse", f"what line wrote, {text[:40]!r}, is read as another input")
    claim.refuses(lambda: task.parse("\0 no such puzzle"), "parse", "a text that is no puzzle")


def _writing(claim: Claims, task: Task, x: Tensor, y: Tensor) -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    for answer in (None, y, torch.full_like(y, -(2**63)), torch.full_like(y, 2**62)):
        what = "the input" if answer is None else f"an answer of tokens such as {answer[0]}"
        text = claim.runs(task.render, "render", what, x, answer)
        claim(isinstance(text, str), "render", f"expected a string, found {type(text).__name__}")
        claim.runs(task.draw, "draw", what, axes, x, answer)


def _in_range(claim: Claims, method: str, tokens: Tensor, vocab: int, what: str) -> None:
    good = not tokens.numel() or (tokens.min() >= 0 and tokens.max() < vocab)
    claim(good, method, f"{what} have tokens outside 0 .. {vocab - 1}")


def _among(x: Tensor, others: Tensor) -> Tensor:
    return (x[:, None] == others).all(-1).any(1)
