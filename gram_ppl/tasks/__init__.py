"""Puzzles: each task owns its data, its encoding and its verifier."""

from .arc.task import ARC
from .base import Spec, Task
from .coloring.task import GraphColoring
from .maze.task import Maze
from .mnist.task import BinarizedMNIST
from .nqueens.task import NQueens
from .sudoku.task import Sudoku
from .unconditional import Unconditional

__all__ = ["ARC", "BinarizedMNIST", "GraphColoring", "Maze", "NQueens", "Spec", "Sudoku", "Task", "Unconditional"]
