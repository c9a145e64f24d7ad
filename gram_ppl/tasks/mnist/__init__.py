"""BinarizedMNIST: its data, its encoding, its verifier."""

from .task import BinarizedMNIST as BinarizedMNIST
