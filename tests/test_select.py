"""Selectors against brute force, rollouts against the program run by hand, metrics against counted answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gram_ppl as gp
from gram_ppl.evaluation import metrics
from gram_ppl.inference.select import (
    SELECTORS,
    BestOfN,
    First,
    HaltFirst,
    LowestResidual,
    MajorityVote,
    MostConfident,
    SymmetryVote,
    Verified,
    WeightedVote,
    distinct,
    groups,
    oracle,
    verified_answers,
)
from gram_ppl.models import GRAM, NoNoise
from gram_ppl.tasks import Spec, Task

SOLUTIONS = {0: [(0, 0)], 1: [(1, 1), (1, 2)], 2: [(2, 0), (2, 1), (2, 2)], 3: [(3, 3)]}
# What each of the four trajectories answers. Valid: 3 of 4, 1 of 4, 3 of 4 (two different ones), none.
TABLE = {
    0: [(0, 0), (0, 0), (3, 3), (0, 0)],
    1: [(1, 1), (3, 3), (3, 3), (3, 3)],
    2: [(2, 0), (2, 1), (2, 0), (0, 0)],
    3: [(0, 1), (0, 2), (0, 2), (0, 3)],
}
INPUTS = torch.tensor([[0], [1], [2], [3]])


class Lists(Task):
    """A task whose solutions are listed."""

    def __init__(self) -> None:
        super().__init__(Spec(1, 4, 2, 4), {})

    def inputs(self, split: str) -> Tensor:
        assert split == "test"
        return INPUTS

    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Any:
        raise NotImplementedError

    def solutions(self, x: Tensor) -> Tensor:
        return torch.tensor(SOLUTIONS[int(x)])

    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        x = x.expand(*y.shape[:-1], 1)
        wrong = [tuple(b) not in SOLUTIONS[a] for (a,), b in zip(x.reshape(-1, 1).tolist(), y.reshape(-1, 2).tolist())]  # noqa: B905
        return torch.tensor(wrong).view(y.shape[:-1]).long()

    def render(self, x: Tensor, y: Tensor | None = None) -> str:
        raise NotImplementedError

    def parse(self, text: str) -> Tensor:
        raise NotImplementedError


class Parrot(gp.Program):
    """A program whose n-th trajectory of input x answers TABLE[x][n]; its state is the answer in one-hot code."""

    supervision = 3

    def __init__(self) -> None:
        super().__init__()
        self.spec = Spec(1, len(TABLE), 2, 4)
        self.weight = nn.Parameter(torch.ones(1))
        self.calls: list[tuple[int, int]] = []  # rows and supervision steps of each batch
        self.seen: Counter[int] = Counter()

    def initial(self, batch: int) -> gp.Latent:
        return gp.Latent(*torch.zeros(2, batch, 2, 4))

    def forward(self, x: Any = None, y: Any = None, *, latent: Any = None, steps: Any = None, start: int = 0) -> Any:
        if start:
            number, before = self.calls.pop()
            assert (number, before) == (len(x), start)
            self.calls.append((number, before + steps))
            return latent, latent.h.argmax(dim=-1)
        self.calls.append((len(x), steps))
        rows = []
        for (token,) in x.tolist():
            rows.append(TABLE[token][self.seen[token] % 4])
            self.seen[token] += 1
        y = torch.tensor(rows)
        h = nn.functional.one_hot(y, 4).float()
        return gp.Latent(h, h), y

    def answer(self, h: Tensor) -> Any:
        logits = torch.where(h > 0, 0.7, 0.1).log()
        return torch.distributions.Independent(torch.distributions.Categorical(logits=logits), 1)


def rollouts(tokens: Any, log_prob: Any = None, **fields: Any) -> gp.Rollouts:
    tokens = torch.as_tensor(tokens)
    like = torch.zeros(tokens.shape[:2])
    given = like if log_prob is None else torch.as_tensor(log_prob)
    fields = {name: torch.as_tensor(value) for name, value in fields.items()}
    return gp.Rollouts(tokens, given, **{"steps": torch.ones_like(like).long(), "residual": like, **fields})


def full(tokens: Any, seed: int = 0, **fields: Any) -> gp.Rollouts:
    """Rollouts of a model with heads, all fields drawn from few values, so that many are equal."""
    tokens, numbers = torch.as_tensor(tokens), torch.Generator().manual_seed(seed)

    def draw(*values: float) -> Tensor:
        return torch.tensor(values)[torch.randint(len(values), tokens.shape[:2], generator=numbers)]

    drawn = {
        "steps": draw(1, 2, 3).long(),
        "residual": draw(0.0, 0.5, 2.0),
        "halt": draw(-3.0, 0.0, 2.0),
        "value": draw(0.0, 0.25, 1.0),
    }
    return rollouts(tokens, draw(-900.0, -60.0, -0.5, -0.25), **{**drawn, **fields})


# Equal and different answers ------------------------------------------------------------------------------------------


@st.composite
def answers(draw: Any) -> Tensor:
    """``[B, N, L_out]`` with many equal answers."""
    batch, num, length = (draw(st.integers(1, most)) for most in (3, 7, 3))
    flat = draw(st.lists(st.integers(0, 1), min_size=batch * num * length, max_size=batch * num * length))
    return torch.tensor(flat).view(batch, num, length)


@given(answers())
def test_groups(tokens: Tensor) -> None:
    ids = groups(tokens)
    assert ids.shape == tokens.shape[:2]
    for row, answer in zip(ids.tolist(), tokens.tolist(), strict=True):
        for i, one in enumerate(answer):
            assert [row[i] == other for other in row] == [one == two for two in answer]
    assert sum(len(set(row)) for row in ids.tolist()) == len(ids.unique())


@given(answers(), st.randoms(use_true_random=False))
def test_distinct_marks_the_first_of_each_kept_answer(tokens: Tensor, random: Any) -> None:
    keep = torch.tensor([[random.random() < 0.6 for _ in row] for row in tokens])
    marks = distinct(tokens, keep)
    for row, kept, answer in zip(marks.tolist(), keep.tolist(), tokens.tolist(), strict=True):
        found: list[Any] = []
        for mark, ok, one in zip(row, kept, answer, strict=True):
            assert mark == (ok and one not in found)
            found += [one] if mark else []


class Unordered(Lists):
    """A task whose answers mean the same in any order of their tokens."""

    def canonical(self, y: Tensor) -> Tensor:
        return y.sort(dim=-1).values

    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        return super().violations(x, self.canonical(y))


def test_oracle_and_all_verified_answers() -> None:
    out = rollouts([TABLE[x] for x in range(4)])
    assert oracle(Lists(), INPUTS, out).tolist() == [True, True, True, False]
    found = verified_answers(Lists(), INPUTS, out)
    assert [each.tolist() for each in found] == [[[0, 0]], [[1, 1]], [[2, 0], [2, 1]], []]
    assert all(each.shape[1] == 2 for each in found)
    out = rollouts([[(2, 1), (3, 3), (1, 2), (1, 1), (2, 1)]])
    assert [each.tolist() for each in verified_answers(Unordered(), INPUTS[1:2], out)] == [[[1, 2], [1, 1]]]
    assert [each.tolist() for each in verified_answers(Lists(), INPUTS[1:2], out)] == [[[1, 2], [1, 1]]]


# Selectors ------------------------------------------------------------------------------------------------------------

Row = Callable[[int], tuple[float, ...]]


def expected(name: str, out: gp.Rollouts, b: int) -> tuple[int, float]:
    """The index and score that a selector's definition gives for one input, by brute force."""
    row = {field: value[b].tolist() for field, value in out._asdict().items() if value is not None}
    num, log_prob = len(row["tokens"]), row["log_prob"]

    def share(weight: list[float], n: int) -> float:
        behind = sum(w for w, other in zip(weight, row["tokens"], strict=True) if other == row["tokens"][n])
        return behind / (sum(weight) or 1)

    def sigmoid(n: int) -> float:
        return 1 / (1 + np.exp(-row["halt"][n]))

    ones = [1.0] * num
    merits: dict[str, tuple[Row, Callable[[int], float]]] = {
        "first": (lambda n: (), lambda n: 1.0),
        "vote": (lambda n: (share(ones, n), log_prob[n]), lambda n: share(ones, n)),
        "best": (lambda n: (row["value"][n], log_prob[n]), lambda n: row["value"][n]),
        "weighted": (lambda n: (share(row["value"], n), log_prob[n]), lambda n: share(row["value"], n)),
        "confident": (lambda n: (log_prob[n],), lambda n: np.exp(log_prob[n])),
        "halt": (lambda n: (-row["steps"][n], row["halt"][n], log_prob[n]), sigmoid),
        "residual": (lambda n: (-row["residual"][n], log_prob[n]), lambda n: -row["residual"][n]),
    }
    merits["symmetry"] = merits["vote"]
    merit, score = merits[name]
    best = max(range(num), key=merit)  # the first of equals
    return best, score(best)


@pytest.mark.parametrize("name", [name for name in SELECTORS if name != "verified"])
@given(tokens=answers(), seed=st.integers(0, 2**32))
def test_selectors_against_brute_force(name: str, tokens: Tensor, seed: int) -> None:
    out = full(tokens, seed)
    index, score = SELECTORS[name](Lists(), torch.zeros(len(tokens), 1), out)
    for b in range(len(tokens)):
        best, value = expected(name, out, b)
        assert index[b].item() == best
        assert score[b].item() == pytest.approx(value)


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("num", [1, 4])
def test_contract(name: str, num: int) -> None:
    out = full([TABLE[x][:num] for x in range(4)])
    index, score = SELECTORS[name](Lists(), INPUTS, out)
    assert index.shape == score.shape == (4,)
    assert index.dtype == torch.int64
    assert score.dtype == torch.float32
    assert ((index >= 0) & (index < num)).all()
    assert SELECTORS[name] == type(SELECTORS[name])()
    assert hash(SELECTORS[name]) == hash(type(SELECTORS[name])())
    # inputs are judged one by one
    for b in range(4):
        alone = gp.Rollouts(*(None if field is None else field[b : b + 1] for field in out))  # type: ignore[arg-type]
        one = SELECTORS[name](Lists(), INPUTS[b : b + 1], alone)
        assert (one[0].item(), one[1].item()) == (index[b].item(), score[b].item())


def test_ties_go_to_the_most_confident_answer_and_then_to_the_first() -> None:
    tokens = [[[0], [1], [1], [0]]] * 4
    for scale in (1.0, 1e3):
        log_prob = -scale * torch.tensor([[4.0, 3, 3, 1], [1, 3, 3, 4], [3, 4, 1, 2], [2, 2, 2, 2]])
        for select in (MajorityVote(), WeightedVote()):
            same = torch.ones(4, 4)
            index, score = select(Lists(), torch.zeros(4, 1), rollouts(tokens, log_prob, value=same))
            assert index.tolist() == [3, 0, 2, 0]
            assert score.tolist() == [0.5] * 4
    # a confident answer does not outvote a more frequent one
    index, score = MajorityVote()(Lists(), torch.zeros(1, 1), rollouts([[[0], [1], [1]]], [[0.0, -99.0, -99.0]]))
    assert index.item() == 1
    assert score.item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("shift", [0.0, -900.0])
def test_weighted_vote_without_heads_adds_up_probabilities(shift: float) -> None:
    """0.2 + 0.2 loses to 0.5, 0.2 + 0.2 + 0.2 wins, also where every probability underflows."""
    tokens = [[[0], [1], [1], [2]], [[0], [1], [1], [1]]]
    log_prob = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.5, 0.2, 0.2, 0.2]]).log() + shift
    index, score = WeightedVote()(Lists(), torch.zeros(2, 1), rollouts(tokens, log_prob))
    assert index.tolist() == [0, 1]
    assert score.tolist() == pytest.approx([0.5, 0.6 / 1.1], rel=1e-4)


def test_weighted_vote_of_worthless_answers() -> None:
    out = rollouts([[[0], [1], [1]]], [[-1.0, -2.0, -3.0]], value=[[0.0, 0.0, 0.0]])
    index, score = WeightedVote()(Lists(), torch.zeros(1, 1), out)
    assert (index.item(), score.item()) == (0, 0.0)


def test_votes_count_answers_that_mean_the_same_together() -> None:
    out = rollouts([[(3, 3), (1, 2), (3, 3), (2, 1), (2, 1)]], [[0.0, -5.0, 0.0, -4.0, -6.0]])
    assert MajorityVote()(Lists(), INPUTS[1:2], out)[0].item() == 0
    index, score = MajorityVote()(Unordered(), INPUTS[1:2], out)
    assert index.item() == 3
    assert score.item() == pytest.approx(0.6)


def test_verified_takes_the_first_valid_answer_else_the_majority() -> None:
    index, score = Verified()(
        Lists(), INPUTS, rollouts([[(3, 3), (3, 3), (0, 0), (0, 0)], *(TABLE[x] for x in (1, 2, 3))])
    )
    assert index.tolist()[:3] == [2, 0, 0]
    assert TABLE[3][index[3]] == (0, 2)
    assert score.tolist() == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(("select", "head"), [(BestOfN(), "value"), (HaltFirst(), "halt")])
def test_a_missing_head_is_named(select: Any, head: str) -> None:
    message = rf"{type(select).__name__} needs the {head} head, .*: fit them with gp.fit_heads"
    missing: dict[str, Any] = {head: None}
    with pytest.raises(ValueError, match=message):
        select(Lists(), INPUTS, full([TABLE[x] for x in range(4)], **{head: 0})._replace(**missing))


def test_symmetry_vote_chooses_as_its_base_does() -> None:
    out = full([TABLE[x] for x in range(4)], seed=3)
    for base in (MostConfident(), LowestResidual(), Verified()):
        for mine, its in zip(SymmetryVote(base)(Lists(), INPUTS, out), base(Lists(), INPUTS, out), strict=True):
            assert torch.equal(mine, its)
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        SymmetryVote().views(Lists(), INPUTS, 0, torch.Generator())


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor made within."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.elements = max([self.elements, *(leaf.numel() for leaf in tree_leaves(made) if isinstance(leaf, Tensor))])
        return made


class Anything(Lists):
    """Accepts answers of zeros."""

    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        return y.sum(dim=-1)


def test_memory_does_not_grow_with_the_square_of_the_number_of_samples() -> None:
    out = full(torch.randint(2, (2, 300, 3)))
    for use in (*SELECTORS.values(), oracle, verified_answers):
        with Largest() as largest:
            use(Anything(), torch.zeros(2, 1, dtype=torch.long), out)
        assert 0 < largest.elements <= 600 * 4
    with Largest() as largest:
        (out.log_prob[:, :, None] == out.log_prob[:, None]).sum()
    assert largest.elements == 2 * 300 * 300


# Rollouts -------------------------------------------------------------------------------------------------------------


def tiny(**options: Any) -> GRAM:
    model = GRAM(Spec(6, 4, 6, 5), width=8, transitions=1, supervision=2, **options)
    if hasattr(model, "guidance"):
        nn.init.normal_(model.guidance.down.weight, std=0.2)
    return model


X = torch.randint(4, (5, 6), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("chunk", [None, 1, 4, 7, 1000])
def test_rollout_shapes(chunk: int | None) -> None:
    out = gp.rollout(tiny(), X, num_samples=3, chunk=chunk)
    assert out.tokens.shape == (5, 3, 6)
    assert out.tokens.dtype == torch.int64
    assert ((out.tokens >= 0) & (out.tokens < 5)).all()
    assert out.log_prob.shape == (5, 3)
    assert (out.log_prob < 0).all()
    assert not out.log_prob.requires_grad


@pytest.mark.parametrize("chunk", [None, 1, 4, 7])
def test_rollout_of_a_deterministic_program(chunk: int | None) -> None:
    """Tokens and confidence are those of the program itself, row by row, whatever the chunks."""
    model = tiny(noise=NoNoise()).double()
    out = gp.rollout(model, X, num_samples=3, steps=4, chunk=chunk)
    z, _ = model(X, steps=4)
    log_prob, tokens = model.answer(z.h).base_dist.logits.max(-1)
    assert torch.equal(out.tokens, tokens[:, None].expand(-1, 3, -1))
    torch.testing.assert_close(out.log_prob, log_prob.sum(-1, keepdim=True).expand(-1, 3))
    assert len(out.tokens[:, 0].unique(dim=0)) > 1


@pytest.mark.parametrize("chunk", [3, 256])
def test_trajectories_are_independent(chunk: int) -> None:
    """One input: mean confidence as in the program run by hand, error under 5 standard errors, no row twice."""
    model = tiny(noise=gp.models.LearnedNoise(scale=1.0))
    num = 600 if chunk > 3 else 150
    out = gp.rollout(model, X[:1], num_samples=num, chunk=chunk).log_prob[0]
    with torch.no_grad():
        z, _ = model(X[:1].expand(2000, -1))
        hand = model.answer(z.h).base_dist.logits.log_softmax(-1).max(-1).values.sum(-1)
    error = (out.var() / num + hand.var() / 2000).sqrt()
    assert abs(out.mean() - hand.mean()) < 5 * error
    assert out.std().item() == pytest.approx(hand.std().item(), rel=0.3)
    assert len(out.unique()) > 0.9 * num


def test_rollout_passes_steps_and_splits_rows() -> None:
    parrot = Parrot()
    out = gp.rollout(parrot, INPUTS, num_samples=4, steps=9, chunk=6)
    assert parrot.calls == [(6, 9), (6, 9), (4, 9)]
    assert out.tokens.tolist() == [[list(answer) for answer in TABLE[x]] for x in range(4)]
    torch.testing.assert_close(out.log_prob, torch.full((4, 4), 0.49).log())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"chunk": -1}, "chunk must be at least 1, got -1"),
        ({"x": X[0]}, r"x: expected integer tokens of shape \[B, 6\], found torch.int64 of \[6\]"),
        ({"x": X[None]}, r"x: expected integer tokens of shape \[B, 6\]"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gp.rollout(tiny(), options.pop("x", X), **options)


# Solving and metrics --------------------------------------------------------------------------------------------------


def test_solve() -> None:
    out = gp.solve(Parrot(), Lists(), INPUTS, num_samples=4)
    assert out.tokens[:3].tolist() == [[0, 0], [3, 3], [2, 0]]
    assert out.tokens[3].tolist() == [0, 2]
    assert out.verified.tolist() == [True, False, True, False]
    assert out.score.tolist() == [0.75, 0.75, 0.5, 0.5]
    assert out.rollouts.tokens.shape == (4, 4, 2)
    assert all(out.rollouts.tokens[b, out.chosen[b]].equal(out.tokens[b]) for b in range(4))
    out = gp.solve(Parrot(), Lists(), INPUTS[1], num_samples=4, select=Verified())
    assert out.tokens.tolist() == [[1, 1]]
    assert out.verified.tolist() == [True]


def test_evaluate() -> None:
    found = metrics.evaluate(Parrot(), Lists(), num_samples=4)
    assert found.pop("seconds") > 0
    assert found == pytest.approx(
        {
            "steps": Parrot.supervision,
            "accuracy": 7 / 16,
            "selected_accuracy": 2 / 4,
            "pass_at_n": 3 / 4,
            "coverage": (1 / 2 + 2 / 3) / 2,
            "coverage_all": (1 + 1 / 2 + 2 / 3 + 0) / 4,
            "coverage_ceiling": ((1 - (1 / 2) ** 4) + (1 - (2 / 3) ** 4)) / 2,
            "conflicts": 9 / 4,
            "selected_conflicts": 2,
            "num_test": 4,
            "num_samples": 4,
        }
    )
    assert metrics.evaluate(Parrot(), Lists(), num_samples=4, select=Verified())["selected_accuracy"] == 3 / 4
    assert metrics.evaluate(Parrot(), Lists(), num_samples=4, select=First())["selected_accuracy"] == 3 / 4
    one = metrics.evaluate(Parrot(), Lists(), num_samples=1)
    assert one["accuracy"] == one["selected_accuracy"] == one["pass_at_n"] == 3 / 4
    assert one["coverage"] == pytest.approx(one["coverage_ceiling"])


def test_what_was_not_measured_is_absent() -> None:
    result = metrics.evaluate(Parrot(), Lists(), x=INPUTS[[0, 3]], num_samples=4)
    assert result.keys() & {"coverage", "coverage_ceiling"} == set()
    assert result["accuracy"] == 3 / 8
    assert result["coverage_all"] == 1 / 2
    assert result["num_test"] == 2
    others: list[Any] = [INPUTS[[0, 3]].numpy(), INPUTS[[0, 3]].tolist()]
    for x in others:
        again = metrics.evaluate(Parrot(), Lists(), x=x, num_samples=4)
        assert again | {"seconds": 0} == result | {"seconds": 0}


def test_coverage_counts_distinct_valid_answers() -> None:
    found, total = metrics.coverage(Lists(), INPUTS, torch.tensor([TABLE[x] for x in range(4)]))
    assert found.tolist() == [1, 1, 2, 0]
    assert total.tolist() == [1, 2, 3, 1]


def test_evaluate_has_its_own_seed() -> None:
    model = GRAM(Lists().spec, width=8, transitions=1)
    state = torch.get_rng_state()
    results = [metrics.evaluate(model, Lists(), num_samples=50, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    for result in results:
        del result["seconds"]
    assert results[0] == results[1] != results[2]
