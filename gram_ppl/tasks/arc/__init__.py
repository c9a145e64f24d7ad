"""ARC: its data, its encoding, its verifier."""

from .task import ARC as ARC
