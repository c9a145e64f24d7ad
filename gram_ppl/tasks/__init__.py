"""Puzzles: each task owns its data, its encoding and its verifier."""

from .base import Spec, Task
from .sudoku import Sudoku

__all__ = ["Spec", "Sudoku", "Task"]
