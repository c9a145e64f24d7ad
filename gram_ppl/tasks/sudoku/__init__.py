"""Sudoku: its data, its encoding, its verifier."""

from .task import Sudoku as Sudoku
