"""Pictures of what a program does, PNG or SVG by the file's name: one function computes the numbers, one draws them."""

from .convergence import Convergence, animate, convergence, draw_convergence
from .divergence import divergence, draw_divergence
from .landscape import Landscape, draw_landscape, landscape
from .reliability import draw_reliability, reliability
from .scaling import Coverage, Scaling, coverage_by_solutions, draw_coverage, draw_scaling, scaling
from .training import draw_bounds, surrogate_of, training_curves
from .uniformity import draw_uniformity

__all__ = [
    "Convergence",
    "Coverage",
    "Landscape",
    "Scaling",
    "animate",
    "convergence",
    "coverage_by_solutions",
    "divergence",
    "draw_bounds",
    "draw_convergence",
    "draw_coverage",
    "draw_divergence",
    "draw_landscape",
    "draw_reliability",
    "draw_scaling",
    "draw_uniformity",
    "landscape",
    "reliability",
    "scaling",
    "surrogate_of",
    "training_curves",
]
