"""Puzzles: each task owns its data, its encoding and its verifier."""

from .arc import ARC
from .base import Spec, Task
from .coloring import GraphColoring
from .maze import Maze
from .mnist import BinarizedMNIST
from .nqueens import NQueens
from .sudoku import Sudoku
from .unconditional import Unconditional

__all__ = ["ARC", "BinarizedMNIST", "GraphColoring", "Maze", "NQueens", "Spec", "Sudoku", "Task", "Unconditional"]
