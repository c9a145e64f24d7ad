"""Options that several commands and the examples have in common, as types for typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..inference import select
from ..presets import PRESETS
from ..storage.places import PRETRAINED, names


def preset_names() -> list[str]:
    """Of all tasks together."""
    return sorted({name for found in PRESETS.values() for name in found})


PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset", help=f"One of {', '.join(preset_names())}; quick if not given.", autocompletion=preset_names
    ),
]
Updates = Annotated[int | None, typer.Option(min=1, help="Training segments; the preset's number if not given.")]
Samples = Annotated[int, typer.Option(min=1, help="Trajectories for each input; answers in all without inputs.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Supervision steps of a test trajectory.")]
Plain = Annotated[bool, typer.Option(help="GRAM with Gaussian guidance, without decisions.")]
HeldOut = Annotated[int, typer.Option(min=1, help="Unseen inputs of the test, at most.")]
Relations = Annotated[
    bool | None, typer.Option("--relations/--no-relations", help="The task's relations in the attention.")
]
Out = Annotated[Path, typer.Option(help="Folder for checkpoint, metrics and pictures.")]
Resume = Annotated[bool, typer.Option(help="Go on with the run in the folder.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of weights, data and noise.")]
TestSteps = Annotated[
    int | None,
    typer.Option(min=1, help="Supervision steps of a trajectory; as --mode says, else those of the run."),
]
Folder = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="A run's folder, pretrained:NAME (gram-ppl list) or hub:OWNER/NAME.",
        autocompletion=lambda: [f"{PRETRAINED}{name}" for name in names()],
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, and nothing else.")]
Select = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"How the answer is chosen: {', '.join(select.SELECTORS)}; by default as --mode says.",
        autocompletion=lambda: list(select.SELECTORS),
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(
        metavar="accuracy|coverage",
        help="accuracy for one right answer, coverage for many different ones; coverage with --all.",
        autocompletion=lambda: ["accuracy", "coverage"],
    ),
]
