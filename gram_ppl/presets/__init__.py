"""Settings of every experiment, by task and name."""

from .preset import Parts, Preset
from .worlds import BACKBONE, FIXED, PRESETS, RATES, ROPE, build, default, from_nothing, get

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
