"""Labelled graphs as rows of edge tokens: random ones, relabelled ones, and their isomorphism classes.

A graph of n nodes is a row of n (n - 1) / 2 tokens, one for each pair of nodes in the order (0, 1), (0, 2), ...,
(n - 2, n - 1). Any token but ``EDGE`` counts as no edge.
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

NO_EDGE, EDGE = 1, 2  # 0 is padding


def num_nodes(length: int) -> int:
    """n, of a graph with ``length = n (n - 1) / 2`` pairs of nodes.

    Raises:
        ValueError: there is no such n.
    """
    n = (1 + isqrt(1 + 8 * max(0, length))) // 2
    if length < 1 or n * (n - 1) // 2 != length:
        raise ValueError(f"A graph of n nodes has n (n - 1) / 2 edge tokens, found {length}.")
    return n


def node_pairs(n: int) -> Tensor:
    """The two nodes of each edge token, ``[2, n (n - 1) / 2]`` int64."""
    return torch.triu_indices(n, n, 1)


def _token_of(a: Tensor, b: Tensor, n: int) -> Tensor:
    """Which edge token tells of each pair of nodes; of a node with itself, some number an index may have."""
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return low * (2 * n - low - 1) // 2 + high - low - 1


def adjacency(x: Tensor) -> Tensor:
    """The symmetric adjacency matrix: ``[..., n (n - 1) / 2] -> [..., n, n]`` bool.

    Raises:
        ValueError: the last dimension is not n (n - 1) / 2 for any n.
    """
    n = num_nodes(x.shape[-1])
    node = torch.arange(n, device=x.device)
    return (x == EDGE)[..., _token_of(node[:, None], node, n)] & (node[:, None] != node)


def random_graphs(n: int, p: tuple[float, float], num: int, generator: torch.Generator) -> Tensor:
    """Erdős-Rényi graphs G(n, p), with p uniform between two bounds for each: ``[num, n (n - 1) / 2]`` uint8."""
    share = p[0] + (p[1] - p[0]) * torch.rand(num, 1, generator=generator, dtype=torch.float64)
    joined = torch.rand(num, n * (n - 1) // 2, generator=generator, dtype=torch.float64) < share
    return torch.where(joined, EDGE, NO_EDGE).to(torch.uint8)


def relabel(x: Tensor, order: Tensor) -> Tensor:
    """The graphs whose node k is node ``order[k]`` of x: ``[B, n (n - 1) / 2], [B, n] -> [B, n (n - 1) / 2]``."""
    u, v = node_pairs(order.shape[1])
    return x.gather(1, _token_of(order[:, u], order[:, v], order.shape[1]))


def isomorphism_class(x: Tensor) -> Tensor:
    """A number that isomorphic graphs share: ``[B, n (n - 1) / 2] -> [B]`` int64.

    Colour refinement (Weisfeiler and Leman, 1968) from each node singled out in turn, hashed to 64 bits. Up to n = 9
    different classes get different numbers; beyond that two classes may share one and then count as the same.
    """
    parts = [_refined(adjacency(part).long()) for part in x.split(1 << 12)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.long)


def _refined(adjacent: Tensor) -> Tensor:
    n = adjacent.shape[-1]
    state = torch.eye(n, dtype=torch.long).expand_as(adjacent)  # [B, node singled out, node]
    for _ in range(n):
        state = _mix(3 * state + _mix(state) @ adjacent)
    return _mix(_mix(state).sum(2)).sum(1)


def _mix(value: Tensor) -> Tensor:
    """A bijection of 64-bit integers whose values look random; products wrap."""
    value = (value + 1) * -7046029254386353131
    value = value ^ (value >> 32 & 0xFFFFFFFF)
    value = value * -4658895280553007687
    return value ^ (value >> 29 & 0x7FFFFFFFF)
