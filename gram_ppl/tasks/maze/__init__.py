"""Maze: its data, its encoding, its verifier."""

from .task import Maze as Maze
