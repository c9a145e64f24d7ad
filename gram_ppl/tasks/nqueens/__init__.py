"""NQueens: its data, its encoding, its verifier."""

from .task import NQueens as NQueens
