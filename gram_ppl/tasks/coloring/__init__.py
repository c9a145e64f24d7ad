"""GraphColoring: its data, its encoding, its verifier."""

from .task import GraphColoring as GraphColoring
