"""Names of version 0.1 that live in another room now: they import as before, and are the same modules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_ROOMS = {
    "runtime": "numerics=precision distributed=processes compilation phases=clocks",
    "program": "poutine guide objective denoising",
    "inference": "infer=rollout halt select depths",
    "storage": "checkpoint descriptions run_folder=folder",
    "evaluation": "metrics bounds features",
    "training": "train=fit scheduled_sampling faults=errors interrupt tracking flops",
    "presets": "settings",
    "reporting": "arviz_adapter=arviz report=tables page pictures",
    "tasks.arc": "tasks.arc_canvas=canvas tasks.arc_data=data tasks.arc_pairs=pairs tasks.arc_picture=picture "
    "tasks.arc_score=score tasks.arc_symmetry=symmetry",
    "tasks.sudoku": "tasks.sudoku_csv=csv tasks.sudoku_data=data tasks.sudoku_exact=exact "
    "tasks.sudoku_symmetry=symmetry",
    "tasks.coloring": "tasks.coloring_data=data",
    "tasks.maze": "tasks.maze_data=data tasks.maze_paths=paths",
    "tasks.mnist": "tasks.idx=idx tasks.strokes=strokes",
    "tasks": "tasks.coloring_graph=edges",
    "models.baselines": "models.autoregressive=autoregressive models.d3pm=d3pm models.diffusion=diffusion "
    "models.direct=direct models.halting=halting models.hrm=hrm models.kernels=kernels models.looped=looped "
    "models.mdlm=mdlm models.stack=stack models.trm=trm models.vae=vae",
    "models.encoders": "models.patches=patches",
    "guides": "guides.every_transition=amortized guides.empty=prior",
}
MOVED = {
    f"gram_ppl.{old}": f"gram_ppl.{room}.{new or old}"
    for room, moves in _ROOMS.items()
    for old, _, new in (move.partition("=") for move in moves.split())
}

# Modules that became several: what one lacks is looked for in the others.
PARTS = {
    "gram_ppl.heads": "training.fit_heads evaluation.calibration",
    "gram_ppl.training.fit": "training.trainer training.record training.rows training.errors",
    "gram_ppl.program.poutine": "program.parameters",
    "gram_ppl.inference.rollout": "inference.solve inference.options",
    "gram_ppl.reporting.page": "reporting.render",
    "gram_ppl.models.encoders": "models.encoders.tokens",
    "gram_ppl.tasks.base": "tasks.boards",
    "gram_ppl.tasks.maze.data": "tasks.boards",
    **{f"gram_ppl.tasks.{n}": f"tasks.{n}.task" for n in ("arc", "coloring", "maze", "mnist")},
    "gram_ppl.tasks.nqueens": "tasks.nqueens.task tasks.nqueens.solutions",
    "gram_ppl.tasks.sudoku": "tasks.sudoku.task tasks.sudoku.text",
}


class _Moved(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(MOVED[spec.name])
        spec.loader_state = module.__spec__
        for name in [name for name in sys.modules if name.startswith(f"{module.__name__}.")]:  # those of a package
            sys.modules[spec.name + name.removeprefix(module.__name__)] = sys.modules[name]
        return module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def _missing(name: str) -> Callable[[str], Any]:
    def found(attribute: str) -> Any:
        if f"{name}.{attribute}" in MOVED:
            return import_module(MOVED[f"{name}.{attribute}"])
        parts = [] if attribute.startswith("_") else PARTS.get(name, "").split()
        for part in (import_module(f"gram_ppl.{part}") for part in parts):
            if hasattr(part, attribute):
                return getattr(part, attribute)
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

    return found


def install() -> None:
    """Let the import system know the old names, and modules the attributes that they had."""
    sys.meta_path.insert(0, _Moved())
    for name in {"gram_ppl", "gram_ppl.tasks", "gram_ppl.models", "gram_ppl.guides", *PARTS}:
        vars(import_module(name))["__getattr__"] = _missing(name)
