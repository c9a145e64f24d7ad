"""Graphs in the files that other programs write: DIMACS ``.col``, lists of edges or neighbours, GraphML, GML, JSON."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree.ElementTree import ParseError

import networkx as nx

from ..written import Misread

COMPACT = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
NUMBER = re.compile(r"[0-9]{1,9}")
HEADINGS = {"source", "target", "from", "to", "weight", "node1", "node2", "source target"}
NODE_LINK = 'Expected node-link JSON: {"nodes": [{"id": ...}, ...], "links": [{"source": ..., "target": ...}, ...]}.'

Field = tuple[int, str]  # a word and where in the text it begins


def kind(text: str) -> str:
    """Which format a text has; ``"compact"`` are edges such as ``0-1 1-2``."""
    bare = [line for line in text.splitlines() if line.partition("#")[0].strip()]
    begin = text.lstrip()[:1]
    if begin in ("<", "{"):
        return {"<": "graphml", "{": "json"}[begin]
    if re.search(r"^\s*graph\s*\[", text, re.MULTILINE):
        return "gml"
    if re.search(r"^\s*(p\s+\w+|e)\s+[0-9]+\s+[0-9]+\s*$", text, re.MULTILINE):
        return "dimacs"
    return "compact" if len(bare) < 2 or any(COMPACT.fullmatch(word) for word in text.split()) else "list"


def graph(text: str, n: int) -> nx.Graph:
    """The graph that a text of any format describes, its nodes numbered from 0.

    Nodes whose names are all numbers stand in the order of these, others in the order of the file. Edges such as
    ``0-1`` and lists of numbers below n name the nodes themselves, and those that no edge names are there too.

    Args:
        text: the whole file.
        n: nodes that the graph should have; one of another size may come back with its own names.

    Raises:
        Misread: a fault, with its place where that is known.
    """
    read = {"compact": _compact, "dimacs": _dimacs, "list": _listed}.get(kind(text))
    if read is not None:
        return read(text, n)
    return _numbered({"graphml": _graphml, "gml": _gml, "json": _node_link}[kind(text)](text))


def _numbered(found: nx.Graph) -> nx.Graph:
    numbers = all(NUMBER.fullmatch(str(node)) for node in found)
    order = sorted(found, key=lambda node: int(str(node))) if numbers else list(found)
    return nx.relabel_nodes(found, {node: k for k, node in enumerate(order)})


def _words(line: str, start: int = 0) -> list[Field]:
    return [(start + match.start(), match[0]) for match in re.finditer(r"\S+", line)]


def _rows(text: str) -> list[list[Field]]:
    rows, start = [], 0
    for line in text.splitlines(keepends=True):
        rows.append(_words(line, start))
        start += len(line)
    return [row for row in rows if row]


def _join(found: nx.Graph, a: Any, b: Any, at: int) -> None:
    if a == b:
        raise Misread(f"The graph joins node {a} to itself.", at)
    found.add_edge(a, b)


def _compact(text: str, n: int) -> nx.Graph:
    found = nx.empty_graph(n)
    for k, (at, item) in enumerate(_words(text.replace(",", " ")), 1):
        match = COMPACT.fullmatch(item)
        if match is None:
            raise Misread(f"Edge {k} of the list is {item[:20]!r}: expected two node numbers such as 0-1.", at)
        a, b = int(match[1]), int(match[2])
        if max(a, b) >= n:
            raise Misread(f"Edge {k} of the list is {item!r}, and the nodes are 0 to {n - 1}.", at)
        if a == b:
            raise Misread(f"Edge {k} of the list is {item!r}: it joins a node to itself.", at)
        found.add_edge(a, b)
    return found


def _dimacs(text: str, n: int) -> nx.Graph:
    """Lines ``c …``, one ``p edge NODES EDGES``, ``e A B`` with nodes from 1; edges may stand there twice."""
    found = None
    for (at, head), *rest in _rows(text):
        values = [int(word) if NUMBER.fullmatch(word) else -1 for _, word in rest]
        if head == "p" and found is None and len(rest) == 3 and min(values[1:]) >= 0:
            if values[1] != n:
                raise Misread(f"Expected a graph of {n} nodes, found {values[1]}.", rest[1][0])
            found = nx.Graph()
            found.add_nodes_from(range(1, n + 1))
        elif head == "e" and found is not None and len(rest) == 2:
            for (place, word), value in zip(rest, values, strict=True):
                if not 1 <= value <= n:
                    raise Misread(f"Expected a node from 1 to {n}, found {word[:20]!r}.", place)
            _join(found, values[0], values[1], at)
        elif head not in ("c", "n", "d", "v", "x"):  # comments, and weights and the like, which don't count here
            expected = "p edge NODES EDGES, once and first" if found is None or head == "p" else "e NODE NODE"
            raise Misread(f"Expected a line {expected}, or a comment that starts with c.", at)
    if found is None:
        raise Misread("Expected a line p edge NODES EDGES, found none.")
    return _numbered(found)


def _listed(text: str, n: int) -> nx.Graph:
    """Lines with a node and its neighbours; where each has three fields, the third is a weight.

    Unless there is a colon, or all edges stand there from both sides.
    """
    text = re.sub(r"#.*|\{[^{}\n]*\}", lambda match: " " * len(match[0]), text)
    rows = _rows(re.sub(r"[,;:\[\]]", " ", text))
    if len(rows[0]) > 1 and all(word.lower() in HEADINGS for _, word in rows[0]):
        rows = rows[1:]
    if ":" not in text and all(len(row) == 3 for row in rows):
        pairs = {(row[0][1], word) for row in rows for _, word in row[1:]}
        if any((b, a) not in pairs for a, b in pairs):
            rows = [row[:2] for row in rows]
    words = [word for row in rows for _, word in row]
    found = nx.Graph()
    found.add_nodes_from(words)
    for (_, node), *others in rows:
        for at, other in others:
            _join(found, node, other, at)
    if not all(NUMBER.fullmatch(word) for word in words):
        return _numbered(found)
    least, most = min(map(int, words)), max(map(int, words))
    if most > n or (most == n and least == 0):
        return _numbered(found)
    whole = nx.empty_graph(n)
    whole.add_edges_from((int(a) - (most == n), int(b) - (most == n)) for a, b in found.edges)
    return whole


def _graphml(text: str) -> nx.Graph:
    try:
        return nx.parse_graphml(text)
    except ParseError as error:
        fault = error.msg.partition(":")[0]
        raise Misread(f"Expected GraphML, found a fault ({fault}).", _at(text, *error.position)) from None
    except Exception as error:  # of many kinds
        raise Misread(f"Expected GraphML ({_short(error)}).") from None


def _gml(text: str) -> nx.Graph:
    try:
        return nx.parse_gml(text, label="id")
    except Exception as error:  # of many kinds
        place = re.search(r"\(([0-9]+), ([0-9]+)\)", str(error))
        at = _at(text, int(place[1]), int(place[2]) - 1) if place else None
        raise Misread(f"Expected GML, found a fault ({_short(error)}).", at) from None


def _node_link(text: str) -> nx.Graph:
    try:
        content = json.loads(text)
        found = nx.DiGraph() if content.get("directed") else nx.Graph()
        found.add_nodes_from(node["id"] for node in content["nodes"])
        for edge in content["links"] if "links" in content else content["edges"]:
            found.add_edge(edge["source"], edge["target"])
    except json.JSONDecodeError as error:
        raise Misread(f"Expected JSON, found a fault ({error.msg}).", error.pos) from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise Misread(NODE_LINK) from None
    return found


def _at(text: str, line: int, column: int) -> int:
    """The index of a line from 1 and a column from 0."""
    return sum(len(one) for one in text.splitlines(keepends=True)[: line - 1]) + column


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
