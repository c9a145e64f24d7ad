"""Graph colouring against brute force, NetworkX, chromatic polynomials and published counts.

Statistical tests have an error rate of 1e-6 each; seeds are fixed.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from functools import cache
from typing import Any

import matplotlib
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gram_ppl.tasks.coloring import data as coloring_data
from gram_ppl.tasks.coloring.data import list_colorings
from gram_ppl.tasks.coloring.task import GraphColoring, adjacency, num_nodes
from gram_ppl.tasks.edges import isomorphism_class, random_graphs, relabel

many = settings(max_examples=200)
SIZES = [(4, 2), (8, 3), (7, 5)]
TOKENS = st.integers(-(2**63), 2**63 - 1)
SEEDS = st.integers(0, 2**32)
Z = 4.9  # standard normal quantile of two tails of 1e-6 together


@cache
def task(n: int = 8, colors: int = 3, **options: object) -> GraphColoring:
    options = {"num_train": 20, "num_validation": 5, "num_test": 10} | options
    return GraphColoring(n, colors, **options)  # type: ignore[arg-type]


def large() -> GraphColoring:
    return task(12, p=0.25, num_train=20, num_validation=0, num_test=0)


def pairs(n: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(n), 2))


def every_graph(n: int) -> Tensor:
    """All labelled graphs of n nodes: [2 ** (n (n - 1) / 2), n (n - 1) / 2]."""
    return torch.tensor(list(itertools.product([1, 2], repeat=len(pairs(n)))))


def every_answer(n: int, colors: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(1, colors + 1), repeat=n)))


def slow_violations(n: int, colors: int, x: list[int], y: list[int]) -> tuple[int, int]:
    """Conflicts, and all violations."""
    good = [1 <= token <= colors for token in y]
    conflicts = sum(
        token == 2 and not (good[a] and good[b] and y[a] != y[b]) for (a, b), token in zip(pairs(n), x, strict=True)
    )
    return conflicts, conflicts + good.count(False) + sum(token not in (1, 2) for token in x)


def partition(y: list[int]) -> frozenset[frozenset[int]]:
    return frozenset(frozenset(k for k, other in enumerate(y) if other == token) for token in y)


def random_pair(n: int, colors: int, seed: int, num: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = random_graphs(n, (0.0, 1.0), num, generator).long()
    return x, torch.randint(1, colors + 1, (num, n), generator=generator)


def train(of: GraphColoring, num: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return next(of.batches("train", num, torch.Generator().manual_seed(seed)))


def rows(boards: Tensor) -> set[tuple[int, ...]]:
    return {tuple(board) for board in boards.tolist()}


def p_value(counts: Tensor, expected: Tensor) -> float:
    """p-value of Pearson's chi-square test."""
    counts, expected = counts.double(), expected.double()
    assert float(expected.min()) >= 10
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(counts) - 1) / 2).double(), statistic / 2))


# The verifier


@pytest.mark.parametrize(("n", "colors"), SIZES)
@many
@given(
    seed=SEEDS,
    x_changes=st.lists(st.tuples(st.integers(0, 255), TOKENS | st.integers(-1, 4)), max_size=3),
    y_changes=st.lists(st.tuples(st.integers(0, 255), TOKENS | st.integers(-1, 7)), max_size=3),
)
def test_violations_equal_brute_force_on_any_board(
    n: int, colors: int, seed: int, x_changes: list[tuple[int, int]], y_changes: list[tuple[int, int]]
) -> None:
    graphs, answers = random_pair(n, colors, seed)
    x, y = graphs[0].tolist(), answers[0].tolist()
    for k, token in x_changes:
        x[k % len(x)] = token
    for k, token in y_changes:
        y[k % n] = token
    conflicts, violations = slow_violations(n, colors, x, y)
    of = task(n, colors)
    assert of.conflicts(torch.tensor(x), torch.tensor(y)).item() == conflicts
    assert of.violations(torch.tensor(x), torch.tensor(y)).item() == violations
    assert of.verify(torch.tensor(x), torch.tensor(y)).item() == (violations == 0)


@many
@given(seed=SEEDS)
def test_conflicts_are_the_edges_inside_the_colour_classes(seed: int) -> None:
    graphs, answers = random_pair(8, 3, seed)
    graph = task().to_networkx(graphs[0])
    classes = [[node for node in graph if answers[0, node] == color] for color in (1, 2, 3)]
    inside = sum(graph.subgraph(nodes).number_of_edges() for nodes in classes)
    assert task().conflicts(graphs[0], answers[0]).item() == inside
    assert task().violations(graphs[0], answers[0]).item() == inside


@pytest.mark.parametrize(("n", "colors"), [(2, 2), (3, 3), (4, 2), (4, 3)])
def test_every_graph_and_every_answer(n: int, colors: int) -> None:
    of = GraphColoring(n, colors, 0.5, num_train=1, num_validation=0, num_test=0)
    graphs, answers = every_graph(n), every_answer(n, colors)
    verified = of.verify(graphs[:, None], answers)
    for x, good in zip(graphs, verified, strict=True):
        proper = [y for y in answers.tolist() if all(y[a] != y[b] for a, b in of.to_networkx(x).edges)]
        assert answers[good].tolist() == proper
        solutions = of.solutions(x)
        assert {partition(y) for y in solutions.tolist()} == {partition(y) for y in proper}
        assert len(solutions) == len({partition(y) for y in proper})
        assert rows(of.canonical(answers[good])) == rows(solutions)
        assert solutions.tolist() == sorted(solutions.tolist())


@pytest.mark.parametrize(("n", "colors"), SIZES)
@many
@given(seed=SEEDS)
def test_new_node_numbers_and_colour_names_change_nothing(n: int, colors: int, seed: int) -> None:
    of, generator = task(n, colors), torch.Generator().manual_seed(seed)
    x, y = random_pair(n, colors, seed, 8)
    order = torch.rand(8, n, generator=generator).argsort(1)
    names = torch.cat([torch.zeros(1).long(), 1 + torch.randperm(colors, generator=generator)])
    expected = of.violations(x, y)
    assert torch.equal(of.violations(relabel(x, order), y.gather(1, order)), expected)
    assert torch.equal(of.violations(x, names[y]), expected)
    assert torch.equal(of.canonical(names[y]), of.canonical(y))


@many
@given(seed=SEEDS, edge=st.integers(0, 27), y=st.lists(st.integers(-1, 5), min_size=8, max_size=8))
def test_removing_an_edge_never_adds_violations(seed: int, edge: int, y: list[int]) -> None:
    x = random_pair(8, 3, seed)[0][0]
    fewer = x.clone()
    fewer[edge] = 1
    assert task().violations(fewer, torch.tensor(y)) <= task().violations(x, torch.tensor(y))


def test_further_methods_check_shapes_too() -> None:
    for call in (task().to_networkx, task().render, task().line):
        with pytest.raises(ValueError, match=r"x: expected integer tokens of shape \[28\]"):
            call(torch.ones(2, 28).long())
    with pytest.raises(ValueError, match=r"y: expected integer tokens of shape \[..., 8\]"):
        task().canonical(torch.ones(7).long())


# Canonical colourings


@pytest.mark.parametrize(("n", "colors"), SIZES)
@many
@given(seed=SEEDS)
def test_canonical_names_one_of_each_partition(n: int, colors: int, seed: int) -> None:
    of, y = task(n, colors), random_pair(n, colors, seed)[1][0]
    found = of.canonical(y)
    assert partition(found.tolist()) == partition(y.tolist())
    seen: list[int] = []
    for token in y.tolist():
        seen += [token] if token not in seen else []
    assert found.tolist() == [seen.index(token) + 1 for token in y.tolist()]


@many
@given(st.lists(TOKENS | st.integers(-1, 5), min_size=8, max_size=8))
def test_canonical_keeps_what_is_no_colour(tokens: list[int]) -> None:
    y = torch.tensor(tokens)
    found, color = task().canonical(y), (y >= 1) & (y <= 3)
    assert torch.equal(found[~color], y[~color])
    first = list(dict.fromkeys(y[color].tolist()))
    assert found[color].tolist() == [first.index(token) + 1 for token in y[color].tolist()]


def proper_colorings(of: GraphColoring, x: Tensor) -> int:
    """All proper colourings, from the canonical ones: each with j colours stands for c! / (c - j)!."""
    used = of.solutions(x).amax(1).tolist()
    return sum(math.perm(of.colors, j) for j in used)


@pytest.mark.parametrize("n", [4, 7, 8, 10])
@pytest.mark.parametrize("colors", [2, 3, 4])
def test_chromatic_polynomials(n: int, colors: int) -> None:
    of, c = task(n, colors, p=0.2, num_train=1, num_validation=0, num_test=0), colors
    known = {
        "empty": (nx.empty_graph(n), c**n),
        "path": (nx.path_graph(n), c * (c - 1) ** (n - 1)),
        "star": (nx.star_graph(n - 1), c * (c - 1) ** (n - 1)),
        "cycle": (nx.cycle_graph(n), (c - 1) ** n + (-1) ** n * (c - 1)),
        "complete": (nx.complete_graph(n), math.perm(c, n)),
        "wheel": (nx.wheel_graph(n), c * ((c - 2) ** (n - 1) + (-1) ** (n - 1) * (c - 2))),
        "two parts": (nx.complete_bipartite_graph(2, n - 2), c * (c - 1) ** (n - 2) + c * (c - 1) * (c - 2) ** (n - 2)),
    }
    for name, (graph, expected) in known.items():
        assert proper_colorings(of, of.from_networkx(graph)) == expected, name


def test_petersen_graph_and_the_colourings_of_no_edges() -> None:
    of = task(10, num_train=1, num_validation=0, num_test=0)
    assert proper_colorings(of, of.from_networkx(nx.petersen_graph())) == 120
    for n, expected in ((8, 1094), (10, 9842), (12, 88574)):  # (3 ** (n - 1) + 1) / 2
        edgeless = torch.ones(1, n * (n - 1) // 2).long()
        assert list_colorings(edgeless, 3).num.tolist() == [expected]


def test_how_many_labelled_graphs_have_a_colouring() -> None:
    # Two colours: the square root of the generating function of 2-coloured graphs (1, 2, 6, 26, 162, 1442). Three: all
    # graphs but those with a complete subgraph of 4 nodes, up to 5 nodes.
    for n, two, three in ((3, 7, 8), (4, 41, 64 - 1), (5, 376, 1024 - 66)):
        graphs = every_graph(n)
        assert (list_colorings(graphs, 2).num > 0).sum() == two
        assert (list_colorings(graphs, 3).num > 0).sum() == three


def test_a_malformed_graph_has_no_colouring() -> None:
    x = task().inputs("test")[0]
    for token in (0, 3, -1, 2**63 - 1):
        wrong = x.clone()
        wrong[5] = token
        assert task().solutions(wrong).shape == (0, 8)


def test_too_many_colourings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coloring_data, "MOST", 1000)
    with pytest.raises(ValueError, match="more than 1,000 colourings"):
        task().solutions(torch.ones(28).long())


# Random graphs


@pytest.mark.parametrize("p", [0.2, 0.5])
@pytest.mark.parametrize("source", ["random_graphs", "networkx"])
def test_graphs_follow_the_erdos_renyi_law(p: float, source: str) -> None:
    # All 64 labelled graphs of 4 nodes; NetworkX's own draws pass the same test.
    num = 200_000 if source == "random_graphs" else 4_000
    of, graphs = task(4, 2), every_graph(4)
    if source == "random_graphs":
        x = random_graphs(4, (p, p), num, torch.Generator().manual_seed(0)).long()
    else:
        x = torch.stack([of.from_networkx(nx.gnp_random_graph(4, p, seed=k)) for k in range(num)])
    edges = (graphs == 2).sum(1)
    code, other = (((board - 1) * 2 ** torch.arange(6)).sum(1) for board in (x, graphs))
    counts = code.bincount(minlength=64)[other]
    expected = num * p ** edges.double() * (1 - p) ** (6 - edges.double())
    cell = torch.where(expected < 10, 64, torch.arange(64)).unique(return_inverse=True)[1]  # rare graphs together
    assert p_value(cell.bincount(counts.double()), cell.bincount(expected)) > 1e-6


def test_the_probability_of_an_edge_may_be_a_range() -> None:
    x = random_graphs(8, (0.2, 0.6), 20_000, torch.Generator().manual_seed(0))
    share = (x == 2).double().mean(1)
    # Variance of a binomial share whose p is uniform: E[p (1 - p)] / 28 + Var p.
    variance = (0.4 - (0.16 + 0.16 / 12)) / 28 + 0.16 / 12
    assert abs(share.mean() - 0.4) < Z * (variance / 20_000) ** 0.5
    assert abs(share.var() - variance) < Z * float(((share - 0.4) ** 2).std()) / 20_000**0.5


@pytest.mark.parametrize(
    ("n", "p", "colourable", "mean", "num"),
    # Exact sums over all labelled graphs.
    [
        (8, 0.3, 0.955574, 53.417, 20_000),
        (8, 0.5, 0.510904, 7.151, 20_000),
        (10, 0.3, 0.870150, 79.094, 10_000),
        (10, 0.5, 0.171452, 5.170, 20_000),
    ],
)
def test_how_many_graphs_are_colourable_and_in_how_many_ways(
    n: int, p: float, colourable: float, mean: float, num: int
) -> None:
    found = list_colorings(random_graphs(n, (p, p), num, torch.Generator().manual_seed(1)), 3).num
    some = found[found > 0].double()
    assert abs(len(some) / num - colourable) < Z * (colourable * (1 - colourable) / num) ** 0.5
    assert abs(some.mean() - mean) < Z * float(some.std()) / len(some) ** 0.5


@many
@given(seed=SEEDS, n=st.integers(2, 12))
def test_adjacency_and_relabelling_agree_with_networkx(seed: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = random_graphs(n, (0.0, 1.0), 3, generator)
    order = torch.rand(3, n, generator=generator).argsort(1)
    graph = nx.empty_graph(n)
    graph.add_edges_from(pair for pair, token in zip(pairs(n), x[0].tolist(), strict=True) if token == 2)
    expected = torch.from_numpy(nx.to_numpy_array(graph, nodelist=range(n)) > 0)
    assert torch.equal(adjacency(x)[0], expected)
    assert torch.equal(adjacency(x[0]), expected)
    assert torch.equal(adjacency(x[None])[0], adjacency(x))
    assert torch.equal(adjacency(relabel(x, order))[0], expected[order[0]][:, order[0]])
    assert num_nodes(x.shape[1]) == n


def test_tokens_other_than_an_edge_are_no_edge() -> None:
    assert not adjacency(torch.tensor([0, 1, 3, -1, 7, 1])).any()
    for length in (-1, 0, 2, 4, 27):
        with pytest.raises(ValueError, match=f"found {length}"):
            num_nodes(length)


# Isomorphism


def test_isomorphism_classes_are_told_apart_up_to_eight_nodes() -> None:
    atlas: dict[int, list[list[int]]] = {}
    for graph in nx.graph_atlas_g():  # one graph of each class, up to 7 nodes
        n = len(graph)
        if n >= 2:
            atlas.setdefault(n, []).append([2 if graph.has_edge(*pair) else 1 for pair in pairs(n)])
    for n, graphs in atlas.items():
        assert len(isomorphism_class(torch.tensor(graphs)).unique()) == len(graphs), n
    # Every graph of 8 nodes is one of 7 nodes and a node of greatest degree, here number 0; there are 12,346 classes
    # (OEIS A000088).
    seven, first = torch.tensor(atlas[7]), torch.tensor(list(itertools.product([1, 2], repeat=7)))
    eight = torch.cat([first.repeat(len(seven), 1), seven.repeat_interleave(len(first), 0)], 1)
    degree = adjacency(eight).sum(2)
    eight = eight[degree[:, 0] == degree.amax(1)]
    assert len(isomorphism_class(eight).unique()) == 12346


@many
@given(seed=SEEDS, n=st.integers(2, 12))
def test_isomorphic_graphs_share_their_class(seed: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = random_graphs(n, (0.0, 1.0), 1, generator).expand(4, -1)
    other = relabel(x, torch.rand(4, n, generator=generator).argsort(1))
    assert len(isomorphism_class(other.long()).unique()) == 1
    assert isomorphism_class(x)[0] == isomorphism_class(other)[0]


# Data


def test_spec() -> None:
    of = task(5, 4)
    assert of.spec[:4] == (10, 3, 5, 5)
    relations = of.spec.relations
    assert relations is not None
    tokens: list[tuple[int, ...]] = [*pairs(5), *((node,) for node in range(5))]
    for i, j in itertools.product(range(15), repeat=2):
        a, b = tokens[i], tokens[j]
        common = bool(set(a) & set(b))
        assert relations[0, i, j] == (common and len(a) != len(b))
        assert relations[1, i, j] == (common and len(a) == len(b) == 2)
    assert relations.shape == (2, 15, 15)


@pytest.mark.parametrize("options", [{}, {"p": (0.1, 0.6)}, {"split_by": "isomorphism"}, {"n": 10, "num_train": 50}])
def test_inputs_are_different_colourable_graphs(options: dict[str, Any]) -> None:
    of = GraphColoring(**({"num_train": 300, "num_validation": 40, "num_test": 60} | options))
    for split, num in (("validation", 40), ("test", 60)):
        x = of.inputs(split)
        assert x.dtype == torch.int64
        assert len(rows(x)) == len(x) == num
        assert all(len(of.solutions(row)) for row in x)
    x, y = train(of, 500)
    assert x.dtype == y.dtype == torch.int64
    assert of.verify(x, y).all()
    assert torch.equal(of.canonical(y), y)


@pytest.mark.parametrize("relabelled", [False, True])
def test_the_splits_share_no_labelled_graph(relabelled: bool) -> None:
    # 200 of the 958 graphs of 5 nodes are held out, so that relabelling hits them all the time.
    of = GraphColoring(5, p=0.5, num_train=100, num_validation=50, num_test=150, relabel=relabelled)
    test, validation = rows(of.inputs("test")), rows(of.inputs("validation"))
    x, y = train(of, 20_000)
    assert of.verify(x, y).all()
    assert not test & validation
    assert not rows(x) & (test | validation)
    assert (len(rows(x)) > 100) == relabelled


def test_the_splits_share_no_graph_up_to_isomorphism() -> None:
    of = GraphColoring(6, p=0.5, num_train=100, num_validation=5, num_test=10, split_by="isomorphism")
    graphs = {
        split: [of.to_networkx(torch.tensor(row)) for row in rows(next(of.batches(split, 400, torch.Generator())).x)]
        for split in ("train", "validation", "test")
    }
    assert [len(graphs[split]) for split in ("validation", "test")] == [5, 10]
    for one, two in itertools.combinations(graphs.values(), 2):
        assert not any(
            nx.faster_could_be_isomorphic(a, b) and nx.is_isomorphic(a, b) for a, b in itertools.product(one, two)
        )


def test_a_training_row_is_uniform_over_numberings_and_colourings() -> None:
    # One graph: each of its numberings has as many canonical colourings, so all pairs are equally likely.
    of = GraphColoring(4, p=0.4, num_train=1, num_validation=0, num_test=0, seed=3)
    x, y = train(of, 30_000)
    pair, counts = torch.cat([x, y], 1).unique(dim=0, return_counts=True)
    start = of.to_networkx(x[0])
    copies = [row for row in every_graph(4) if nx.is_isomorphic(of.to_networkx(row), start)]
    assert 1 < len(copies) < 24
    assert rows(pair) == {(*row.tolist(), *other) for row in copies for other in of.solutions(row).tolist()}
    assert p_value(counts, torch.full_like(counts, len(x)) / len(counts)) > 1e-6


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_answers_are_uniform_among_the_canonical_colourings(split: str) -> None:
    of = task(8, 3, num_train=4, num_validation=4, num_test=4, relabel=False, seed=1)
    x, y = next(of.batches(split, 40_000, torch.Generator().manual_seed(0)))
    graphs, which, num = x.unique(dim=0, return_inverse=True, return_counts=True)
    assert len(graphs) == 4
    assert p_value(num, torch.full((4,), 10_000)) > 1e-6
    for k, graph in enumerate(graphs):
        found, counts = y[which == k].unique(dim=0, return_counts=True)
        assert torch.equal(found, of.solutions(graph))
        assert len(found) == 1 or p_value(counts, torch.full_like(counts, int(num[k])) / len(found)) > 1e-6


def test_the_seed_makes_the_graphs_and_sizes_only_cut_them() -> None:
    of = task()
    assert rows(task(seed=1).inputs("test")) != rows(of.inputs("test"))
    assert torch.equal(task(num_test=400, num_train=3).inputs("test")[:10], of.inputs("test"))


def test_an_empty_split() -> None:
    with pytest.raises(ValueError, match="empty"):
        task(4, 2, num_validation=0).batches("validation", 4, torch.Generator())
    assert task(4, 2, num_validation=0).inputs("validation").shape == (0, 6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"n": 1}, "n: .* found 1"),
        ({"colors": 1}, "colors: expected 2 to 7 .* found 1"),
        ({"n": 3, "colors": 4}, "colors: expected 2 to 3 .* found 4"),
        ({"p": 1.5}, "p: .* found 1.5"),
        ({"p": (0.5, 0.2)}, r"p: .* found \(0.5, 0.2\)"),
        ({"p": (0.1, 0.2, 0.3)}, "p: "),
        ({"p": float("nan")}, "p: .* found nan"),
        ({"split_by": "class"}, "split_by.*'class'"),
        ({"num_train": 0}, "num_train"),
        ({"num_test": -1}, "num_test"),
        ({"n": 4, "num_test": 64}, "num_test: found only 63 different graphs with a colouring in 3 colours"),
        ({"n": 4, "num_test": 50, "num_validation": 0, "num_train": 14}, "num_train: found only 13 .*, 14 are needed"),
        ({"n": 4, "p": 0.5, "num_test": 63, "num_validation": 0, "num_train": 1}, "num_train: found only 0"),
        ({"p": 1.0}, "num_test: found only 0"),
        ({"n": 4, "p": 0.5, "num_test": 40, "num_validation": 0, "num_train": 30, "split_by": "isomorphism"}, "train"),
    ],
)
def test_impossible_arguments(options: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coloring_data, "PATIENCE", 60)
    with pytest.raises(ValueError, match=expected):
        GraphColoring(**options)


# NetworkX and text


@many
@given(seed=SEEDS)
def test_networkx_and_back(seed: int) -> None:
    x = random_pair(8, 3, seed)[0][0]
    graph = task().to_networkx(x)
    assert set(graph) == set(range(8))
    assert torch.equal(task().from_networkx(graph), x)
    shuffled = nx.Graph()
    shuffled.add_nodes_from(reversed(range(8)))
    shuffled.add_edges_from(graph.edges)
    assert torch.equal(task().from_networkx(shuffled), x)
    named = nx.relabel_nodes(graph, dict(enumerate("hgfedcba")))
    assert torch.equal(task().from_networkx(named), x)


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        (nx.cycle_graph(7), "Expected a graph of 8 nodes, found 7."),
        (nx.cycle_graph(8, nx.DiGraph), "Expected an undirected graph with simple edges, found a DiGraph."),
        (nx.cycle_graph(8, nx.MultiGraph), "Expected an undirected graph with simple edges, found a MultiGraph."),
        (nx.Graph([(k, k + 1) for k in range(7)] + [(3, 3)]), "The graph joins node 3 to itself."),
    ],
)
def test_a_graph_that_is_none_is_one_sentence(graph: nx.DiGraph | nx.Graph | nx.MultiGraph, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        task().from_networkx(graph)


def test_node_numbers_of_two_digits() -> None:
    of = large()
    assert "10-11" in of.line(torch.full((66,), 2))
    for x in train(of, 20)[0]:
        assert torch.equal(of.parse(of.line(x)), x)


def test_parse_takes_commas_white_space_either_order_and_repetitions() -> None:
    of = task(4, 2)
    assert of.line(of.parse("0-1 0-2")) == "0-1 0-2"
    assert of.parse(" ,1-0,\t0-2 ,, 0-1\n").tolist() == [2, 2, 1, 1, 1, 1]
    assert of.parse(" \n").tolist() == [1] * 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-1 1_2", "Edge 2 of the list is '1_2': expected two node numbers such as 0-1."),
        ("0-1, 1-", "Edge 2 of the list is '1-': expected two node numbers such as 0-1."),
        ("9" * 5000 + "-1", f"Edge 1 of the list is '{'9' * 20}': expected two node numbers such as 0-1."),
        ("0-1 2-8", "Edge 2 of the list is '2-8', and the nodes are 0 to 7."),
        ("2-2", "Edge 1 of the list is '2-2': it joins a node to itself."),
        ("0-1 0-2 0-3 1-2 1-3 2-3", "The graph has no proper colouring with 3 colours."),
    ],
)
def test_a_bad_list_of_edges_is_one_sentence(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        task().parse(text)


def test_render() -> None:
    of = task(4, 2)
    x = of.parse("0-1 1-2")
    assert of.render(x) == "   0 1 2 3\n0  - # . .\n1  # - # .\n2  . # - .\n3  . . . -"
    assert of.render(x, torch.tensor([1, 1, 2, -5])).splitlines() == [
        "     0 1 2 3",
        "0 A  - ! . .",
        "1 A  ! - # .",
        "2 B  . # - .",
        "3 ?  . . . -",
    ]
    assert of.render(torch.tensor([2, 0, 9, 1, 1, 1])).splitlines()[1] == "0  - # ? ?"
    wide = large().render(torch.ones(66).long()).splitlines()
    assert {len(line) for line in wide} == {2 + 2 + 12 * 3 - 1}


@pytest.mark.parametrize(
    ("y", "red", "fills"), [(None, 0, 1), ([1, 1, 2, 1], 1, 2), ([1, 2, 1, 2], 0, 2), ([0, 1, 2, 9], 1, 3)]
)
def test_draw(y: list[int] | None, red: int, fills: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 2))
    axes = figure.add_subplot()
    of = task(4, 2)
    of.draw(axes, of.parse("0-1 1-2"), None if y is None else torch.tensor(y))
    assert len(axes.lines) == 2
    assert sum(matplotlib.colors.same_color(line.get_color(), "red") for line in axes.lines) == red
    assert len({tuple(np.asarray(dots.get_facecolor())[0]) for dots in axes.collections}) == fills
    assert [text.get_text() for text in axes.texts] == ["0", "1", "2", "3"]
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    assert png.getvalue().startswith(b"\x89PNG")
