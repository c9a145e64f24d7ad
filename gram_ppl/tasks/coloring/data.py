"""Canonical colourings, and graphs held out from training with all of theirs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..boards import fingerprint
from ..edges import adjacency, isomorphism_class, num_nodes, random_graphs
from ..holdout import Solved as Graphs

MOST = 10_000_000  # colourings that are listed at a time
BLOCK = 1 << 8  # graphs that are drawn or coloured at a time
PATIENCE = 300  # blocks in a row that bring nothing new before a request counts as impossible


def list_colorings(x: Tensor, colors: int) -> Graphs:
    """Every canonical proper colouring of each graph ``[P, n (n - 1) / 2]``, those of one graph sorted.

    Raises:
        ValueError: more than ten million colourings of 256 graphs, or of their first few nodes.
    """
    parts = [_colored(part, colors) for part in x.split(BLOCK)]
    num = torch.cat([num for num, _ in parts])
    return Graphs(x, torch.cat([y for _, y in parts]), num.cumsum(0) - num, num)


def _colored(x: Tensor, colors: int) -> tuple[Tensor, Tensor]:
    """How many canonical colourings each graph has, ``[P]``, and all of them: node after node, breadth first."""
    adjacent, colour = adjacency(x), torch.arange(1, colors + 1, dtype=torch.uint8)
    graph, y = torch.arange(len(x)), torch.ones(len(x), 1, dtype=torch.uint8)
    for node in range(1, num_nodes(x.shape[1])):
        joined = adjacent[graph, node, :node]
        taken = ((y[:, :, None] == colour) & joined[:, :, None]).any(1)
        row, new = (~taken & (colour <= y.amax(1, keepdim=True) + 1)).nonzero().unbind(1)
        if len(row) > MOST:
            raise ValueError(f"There are more than {MOST:,} colourings to list: take fewer nodes or more edges.")
        graph, y = graph[row], torch.cat([y[row], colour[new, None]], 1)
    return graph.bincount(minlength=len(x)), y


def canonical(y: Tensor, colors: int) -> Tensor:
    """Colours renumbered in the order of their first node: ``[..., n] -> [..., n]`` of the same dtype.

    Tokens that are no colour stay as they are.
    """
    n, tokens = y.shape[-1], y.long()
    bears = tokens[..., None] == torch.arange(1, colors + 1, device=y.device)
    node = torch.arange(n, device=y.device)[:, None]
    first = torch.where(bears, node, n).amin(-2)  # [..., colors]
    rank = 1 + (first[..., None, :] < first[..., :, None]).sum(-1)
    return torch.where(bears.any(-1), (bears * rank[..., None, :]).sum(-1), tokens).to(y.dtype)


def split_graphs(
    n: int, colors: int, p: tuple[float, float], by_class: bool, sizes: dict[str, int], seed: int
) -> dict[str, Graphs]:
    """Different colourable graphs for each split; none occurs in a split before it, by isomorphism class if so."""
    mark = isomorphism_class if by_class else fingerprint
    taken, split = torch.zeros(0, dtype=torch.long), {}
    for k, (name, num) in enumerate(sizes.items()):
        generator = torch.Generator().manual_seed(len(sizes) * seed + k)
        found, idle = torch.zeros(0, n * (n - 1) // 2, dtype=torch.uint8), 0
        while len(found) < num:
            if idle == PATIENCE:
                raise ValueError(
                    f"p and num_{name}: found only {len(found)} different graphs with a colouring in {colors} colours "
                    f"that are not held out, {num} are needed."
                )
            new = random_graphs(n, p, BLOCK, generator)
            new = new[list_colorings(new, colors).num > 0]
            new = torch.cat([found, new[~torch.isin(mark(new), taken)]])
            keep = np.sort(np.unique(fingerprint(new).numpy(), return_index=True)[1])
            idle = idle + 1 if len(keep) == len(found) else 0
            found = new[torch.from_numpy(keep)]
        split[name] = list_colorings(found[:num], colors)
        taken = torch.cat([taken, mark(found[:num])])
    return split
