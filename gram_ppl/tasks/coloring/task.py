"""Graph colouring: Erdős-Rényi graphs that have a proper colouring, and all canonical colourings of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING

import networkx as nx
import torch
from torch import Tensor

from ...state import Batch
from ..base import Spec, Task, check_pair, check_tokens
from ..edges import EDGE, NO_EDGE, adjacency, node_pairs, num_nodes, relabel
from ..holdout import AFRESH, Apart, split_of
from ..scene import Mark, Scene, circle
from ..written import Piece, Puzzle, parsed
from .data import canonical, list_colorings, split_graphs
from .formats import graph, kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["EDGE", "NO_EDGE", "GraphColoring", "adjacency", "num_nodes"]

PALETTE = ["#56b4e9", "#e69f00", "#009e73", "#f0e442", "#0072b2", "#cc79a7", "#999999"]  # Okabe and Ito, without red


class GraphColoring(Task):
    """Colour the nodes of a graph so that no edge joins two nodes of the same colour.

    Input: a token for each pair of nodes in the order (0, 1), (0, 2), ..., (n - 2, n - 1): 0 padding, 1 no edge,
    2 edge. Answer: a token for each node: 0 padding, 1 .. colors. (The paper has two more answer tokens, so that its
    colours start at 3; they are never a target.) Answers are canonical, numbered in the order of their first node, so
    that no two are the same but for the names of the colours; the verifier takes any proper colouring.

    ``spec.relations [2, M, M]`` with ``M = L_in + n``, edge tokens before node tokens: an edge token and the nodes that
    it joins; two edge tokens with a node in common. ``adjacency`` tells which nodes an example joins.

    Held-out graphs are all different, and none is ever a training graph: the check comes after relabelling, and a row
    that fails is drawn again. Among labelled graphs the splits follow G(n, p) given a colouring, but for repetitions;
    by isomorphism, validation and training lack the classes of the graphs drawn before them.

    Args:
        n: nodes, at least 2. All colourings of all graphs are kept in memory.
        colors: 2 to 7, and at most n.
        p: probability of each edge, or the bounds of a uniform one for each graph. The paper leaves it open; its
            coverage of .894 on 8 nodes excludes 0.45, where 20 draws of an ideal uniform sampler cover .857 of the
            colourings of the test graphs (at 0.5: .921). At 0.5 with 3 colours .51 of the graphs of 8 nodes are
            colourable and have 7.2 canonical colourings in the mean (10 nodes: .17 and 5.2).
        num_train, num_validation, num_test: different graphs in each split; the paper has 7,002 and 255 for 8 nodes,
            13,465 and 192 for 10.
        relabel: number the nodes of each training row at random.
        split_by: ``"labelled"``, or ``"isomorphism"``: no graph of one split is isomorphic to one of another.
        seed: of the graphs; training rows depend on the generator given to ``batches``.

    Raises:
        ValueError: arguments that make no sense, or too few graphs for the splits.
    """

    graphs = True

    def __init__(
        self,
        n: int = 8,
        colors: int = 3,
        p: float | Sequence[float] = 0.5,
        *,
        num_train: int = 7002,
        num_validation: int = 200,
        num_test: int = 255,
        relabel: bool = True,
        split_by: str = "labelled",
        seed: int = 0,
    ) -> None:
        if n < 2:
            raise ValueError(f"n: expected at least 2 nodes, found {n}.")
        if not 2 <= colors <= min(n, len(PALETTE)):
            raise ValueError(f"colors: expected 2 to {min(n, len(PALETTE))} of them, found {colors}.")
        bounds = (p, p) if isinstance(p, (int, float)) else tuple(p)
        if len(bounds) != 2 or not 0 <= bounds[0] <= bounds[1] <= 1:
            raise ValueError(f"p: expected a probability, or the least and the greatest, found {p}.")
        if split_by not in ("labelled", "isomorphism"):
            raise ValueError(f"split_by: expected 'labelled' or 'isomorphism', found {split_by!r}.")
        if num_train < 1 or min(num_validation, num_test) < 0:
            raise ValueError("num_train must be at least 1, num_validation and num_test at least 0.")
        length = n * (n - 1) // 2
        leaves = torch.arange(colors + 1)[None] > 0
        super().__init__(Spec(length, 3, n, colors + 1, _relations(n), leaves))
        self.title = f"{n} nodes in {colors} colours"

        self.n, self.colors = n, colors
        self._relabel = relabel
        # A bit for each colour, so that two nodes clash if they have a bit in common; all bits for what is no colour.
        self._bits = torch.tensor([-1, *(1 << k for k in range(colors)), -1], dtype=torch.int8)
        sizes = {"test": num_test, "validation": num_validation, "train": num_train}
        self._graphs = split_graphs(n, colors, bounds, split_by == "isomorphism", sizes, seed)
        self._apart = Apart(torch.cat([self._graphs["test"].x, self._graphs["validation"].x]))

    # Data

    def inputs(self, split: str) -> Tensor:
        """The graphs of a split: ``[num, L_in]`` int64, all different; ``"train"`` without ``relabel`` only."""
        if split == "train" and not self._relabel:
            return self._graphs["train"].x.long()
        held = {name: self._graphs[name] for name in ("validation", "test")}
        return split_of(held, split, train=AFRESH).x.long()

    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Endless batches of ``"train"``, or of random rows of a held-out split: ``[batch_size, L_in]``, ``[.., n]``.

        Canonical colourings, uniformly random for each row.
        """
        if not len(split_of(self._graphs, split).x):
            raise ValueError(f"The {split} split is empty.")
        return (self._rows(split, batch_size, generator) for _ in count())

    def _rows(self, split: str, num: int, generator: torch.Generator) -> Batch:
        if split != "train" or not self._relabel:
            return Batch(*self._graphs[split].draw(num, generator))

        def draw() -> Batch:
            x, y = self._graphs[split].draw(num, generator)
            order = torch.rand(num, self.n, generator=generator).argsort(1)
            return Batch(relabel(x, order), canonical(y.gather(1, order), self.colors))

        return self._apart.rows(num, draw, count())  # ends: under its own numbering a training graph is never held out

    # Rules

    def solutions(self, x: Tensor) -> Tensor:
        """Every canonical colouring of one graph, sorted: ``[L_in] -> [S, n]`` int64; none if x is malformed.

        Raises:
            ValueError: a wrong shape or dtype, or more than ten million colourings.
        """
        check_tokens("x", x, self.spec.len_in, board=True)
        tokens = x.detach().cpu().long()
        well = ((tokens == NO_EDGE) | (tokens == EDGE)).all()
        y = list_colorings(tokens[None], self.colors).y if well else torch.zeros(0, self.n)
        return y.long().to(x.device)

    def canonical(self, y: Tensor) -> Tensor:
        """The colouring with its colours numbered in the order of their first node: ``[..., n] -> [..., n]``.

        Equal for two proper colourings if and only if they differ in the names of the colours alone. Tokens that are
        no colour stay as they are.
        """
        check_tokens("y", y, self.spec.len_out)
        return canonical(y, self.colors)

    def conflicts(self, x: Tensor, y: Tensor) -> Tensor:
        """How many edges are violated: ``[..., L_in], [..., n] -> [...]`` int64; leading dimensions broadcast.

        An edge is violated unless its nodes have two different colours; a token that is no colour violates each edge
        of its node.
        """
        check_pair(x, self.spec.len_in, y, self.spec.len_out)
        return ((x.long() == EDGE) & self._clashes(y)).sum(-1, dtype=torch.int32).long()

    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        """Violated edges, plus tokens of y that are no colour, plus tokens of x other than edge and no edge.

        ``[..., L_in], [..., n] -> [...]`` int64, integers of any kind and value; leading dimensions broadcast. 0 only
        for proper colourings, canonical or not.

        Raises:
            ValueError: another last dimension, a dtype that is no integer, dimensions that don't broadcast.
        """
        check_pair(x, self.spec.len_in, y, self.spec.len_out)
        x, y = x.long(), y.long()
        broken = (x != NO_EDGE) & ((x != EDGE) | self._clashes(y))
        blank = (y < 1) | (y > self.colors)
        return broken.sum(-1, dtype=torch.int32).long() + blank.sum(-1)

    def _clashes(self, y: Tensor) -> Tensor:
        """Which pairs of nodes lack two different colours: ``[..., n] -> [..., L_in]`` bool."""
        bits = self._bits.to(y.device)[y.long().clamp(0, self.colors + 1)]
        return torch.cat([bits[..., k, None] & bits[..., k + 1 :] for k in range(self.n - 1)], -1) != 0

    def symmetric(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Nodes numbered at random; the way back gives canonical colourings."""
        order = torch.rand(len(x), self.n, generator=generator).argsort(1).to(x.device)
        return relabel(x, order), lambda y: canonical(y.gather(1, order.argsort(1)), self.colors)

    # Graphs

    def from_networkx(self, graph: nx.Graph) -> Tensor:
        """The input ``[L_in]`` int64 of an undirected graph; it need not have a colouring.

        Nodes 0 .. n - 1 keep their numbers; nodes of other names are numbered in the order of the graph.

        Raises:
            ValueError: a directed graph or a multigraph, another number of nodes, or a self-loop.
        """
        if graph.is_directed() or graph.is_multigraph():
            raise ValueError(f"Expected an undirected graph with simple edges, found a {type(graph).__name__}.")
        if len(graph) != self.n:
            raise ValueError(f"Expected a graph of {self.n} nodes, found {len(graph)}.")
        for loop in nx.nodes_with_selfloops(graph):
            raise ValueError(f"The graph joins node {loop!r} to itself.")
        nodes = range(self.n) if set(graph) == set(range(self.n)) else list(graph)
        joined = [graph.has_edge(nodes[a], nodes[b]) for a, b in node_pairs(self.n).T.tolist()]
        return torch.where(torch.tensor(joined), EDGE, NO_EDGE)

    def to_networkx(self, x: Tensor) -> nx.Graph:
        """The graph of one input ``[L_in]``, with nodes 0 .. n - 1."""
        check_tokens("x", x, self.spec.len_in, board=True)
        graph = nx.empty_graph(self.n)
        graph.add_edges_from(node_pairs(self.n).T[x.cpu() == EDGE].tolist())
        return graph

    def draw(self, axes: Axes, x: Tensor, y: Tensor | None = None) -> None:
        """The nodes of one graph on a circle, in their colours; violated edges in red, nodes without colour white."""
        joined, violated = self.to_networkx(x), self._violated(x, y)
        place = nx.circular_layout(joined)
        tokens = [0] * self.n if y is None else y.tolist()
        fill = [PALETTE[token - 1] if 1 <= token <= self.colors else "white" for token in tokens]
        for a, b in joined.edges:
            bad = (a, b) in violated
            (x0, y0), (x1, y1) = place[a], place[b]
            axes.plot([x0, x1], [y0, y1], color="red" if bad else "0.5", linewidth=2.5 if bad else 1.2, zorder=1)
        for (node, (across, up)), color in zip(place.items(), fill, strict=True):
            axes.scatter([across], [up], s=260, color=color, edgecolors="0.2", zorder=2)
            axes.text(across, up, str(node), ha="center", va="center", fontsize=8, zorder=3)
        axes.set_aspect("equal")
        axes.margins(0.15)
        axes.set_axis_off()

    def scene(self, x: Tensor) -> Scene:
        """See :meth:`Task.scene`: the nodes on a circle, colours with a letter each."""
        names = [Mark(f"colour {chr(64 + k)}", chr(64 + k), str(k)) for k in range(1, self.colors + 1)]
        return circle(self.n, [Mark("no colour"), *names], list(self.to_networkx(x).edges))

    def _violated(self, x: Tensor, y: Tensor | None) -> set[tuple[int, ...]]:
        """The violated edges of one board, whose shapes are checked."""
        check_tokens("x", x, self.spec.len_in, board=True)
        if y is None:
            return set()
        check_tokens("y", y, self.n, board=True)
        bad = (x.cpu() == EDGE) & self._clashes(y.cpu())
        return {tuple(pair) for pair in node_pairs(self.n).T[bad].tolist()}

    # Text

    def render(self, x: Tensor, y: Tensor | None = None) -> str:
        """The adjacency matrix, with the colour of each node as a letter behind its number.

        ``#`` edge, ``!`` violated edge, ``.`` no edge, ``?`` a token that is none.
        """
        violated = self._violated(x, y)
        cells = [["-"] * self.n for _ in range(self.n)]
        for (a, b), token in zip(node_pairs(self.n).T.tolist(), x.tolist(), strict=True):
            char = "!" if (a, b) in violated else {NO_EDGE: ".", EDGE: "#"}.get(token, "?")
            cells[a][b] = cells[b][a] = char
        names = [str(node).rjust(len(str(self.n - 1))) for node in range(self.n)]
        letters = [""] * self.n
        if y is not None:
            letters = [" " + (chr(64 + token) if 1 <= token <= self.colors else "?") for token in y.tolist()]
        width = len(names[0])
        lines = [" " * (width + len(letters[0])) + "  " + " ".join(names)]
        for name, letter, row in zip(names, letters, cells, strict=True):
            lines.append(f"{name}{letter}  " + " ".join(cell.rjust(width) for cell in row))
        return "\n".join(lines)

    def line(self, x: Tensor) -> str:
        """The edges of a graph ``[L_in]`` as one line such as ``0-1 0-4 2-3``, which ``parse`` reads."""
        return " ".join(f"{a}-{b}" for a, b in self.to_networkx(x).edges)

    def parse(self, text: str) -> Tensor:
        """The input ``[L_in]`` int64 of a list of edges such as ``0-1 0-4, 2-3``; an empty list is no edge at all.

        Of several lines, a whole file is taken as well: DIMACS ``.col``, a list of edges or of neighbours, GraphML,
        GML, node-link JSON. See :func:`gram_ppl.tasks.coloring.formats.graph` for the numbers that nodes get.

        Raises:
            ValueError: an item that is no edge, a node that there is not, a self-loop, a directed graph, another
                number of nodes, or a graph without colouring.
        """
        x = self.from_networkx(graph(text, self.n))
        if not len(self.solutions(x)):
            raise ValueError(f"The graph has no proper colouring with {self.colors} colours.")
        return x

    def read(self, text: str, name: str) -> list[Puzzle]:
        """See :meth:`Task.read`: one graph, or a graph a line in the form ``0-1 0-4``."""
        if kind(text) == "compact":
            return super().read(text, name)
        return parsed(name, [Piece(text, None)], self.parse)


def _relations(n: int) -> Tensor:
    ends, length = node_pairs(n), n * (n - 1) // 2
    touches = (ends[:, :, None] == torch.arange(n)).any(0)  # [L_in, n]
    relations = torch.zeros(2, length + n, length + n, dtype=torch.bool)
    relations[0, :length, length:] = touches
    relations[0, length:, :length] = touches.T
    relations[1, :length, :length] = (touches[:, None] & touches).any(-1)
    return relations
