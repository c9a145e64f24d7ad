"""Settings of every experiment, by task and name."""

from .preset import FIXED, Parts, Preset, build
from .worlds import BACKBONE, PRESETS, RATES, ROPE, default, from_nothing, get

__all__ = [
    "BACKBONE",
    "FIXED",
    "PRESETS",
    "RATES",
    "ROPE",
    "Parts",
    "Preset",
    "build",
    "default",
    "from_nothing",
    "get",
]
