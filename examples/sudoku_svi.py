"""GRAM learns Sudoku by stochastic variational inference, then gives several answers to one puzzle.

Without options: 4×4 puzzles, one or many solutions each, in minutes on a CPU; the paper's 9×9 model on CUDA.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich import print

import gram_ppl as gp
from gram_ppl import report


@dataclass(frozen=True)
class Preset:
    """Settings for one size of board; ``fit`` and ``model`` are arguments of gp.fit and of GRAM."""

    clues: tuple[float, float]  # shares of the cells, training puzzles
    held_clues: tuple[float, float]  # the same, unseen puzzles
    held_out: int  # unseen puzzles of the test
    beta: gp.LogLinear
    fit: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)  # of made puzzles
    steps: int = 16
    balance: float = 0.8


SMALL = Preset(
    (0.25, 0.5), (0.25, 0.5), 500, gp.LogLinear(10, 0.6, 0.05, 0.4), {"updates": 1500, "batch_size": 64},
    {"noise": gp.models.LearnedNoise(scale=1.25)}, steps=8,
)  # fmt: skip
LARGE = Preset(
    (0.3, 0.56), (0.49, 0.49), 200, gp.LogLinear(10, 2, 0.25, 0.6), {"updates": 6000, "batch_size": 32, "decay": 0.5},
    {"positions": False, "supervision": 8}, {"unique": True, "reveal": (0, 20), "mix": 0.3}, balance=0.5,
)  # fmt: skip
PAPER = Preset(
    (0.21, 0.68), (0.31, 0.68), 500, gp.LogLinear(0.1, 0.1),
    {"updates": 50_000, "batch_size": 768, "lr": 1e-4, "weight_decay": 1.0, "ema": 0.9999},
    {"width": 512, "hidden": 512, "layers": 2, "low_steps": 6, "transitions": 3, "supervision": 16, "registers": 16,
     "mixer": gp.nn.TokenMixing(512)},
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What the command line asked for; kept in the folder, so that --resume needs nothing else."""

    box: tuple[int, int] | list[int]
    data: str | None
    held_out: int | None
    updates: int | None
    samples: int
    steps: int | None
    compare: bool
    seed: int
    cuda: bool

    def preset(self) -> Preset:
        return SMALL if self.box[0] * self.box[1] < 9 else PAPER if self.cuda else LARGE

    def task(self) -> gp.tasks.Sudoku:
        preset, cells = self.preset(), (self.box[0] * self.box[1]) ** 2
        clues, held = ((round(low * cells), round(high * cells)) for low, high in (preset.clues, preset.held_clues))
        num = self.held_out or preset.held_out
        options = {"clues": clues, "num_test": num, "num_validation": max(1, num // 2)}
        if self.data is None:
            return gp.tasks.Sudoku(tuple(self.box), held_clues=held, **options, **preset.task)
        return gp.tasks.Sudoku(tuple(self.box), data=self.data, reveal=(0, cells // 2), mix=0.3, **options)


def train(run: Run, task: gp.tasks.Sudoku, out: Path, resume: bool, deterministic: bool = False) -> tuple[Any, Any]:
    """Train one model, draw its curves, measure it on the test puzzles."""
    preset = run.preset()
    model = gp.models.GRAM(task.spec, seed=run.seed, **preset.model)
    guide: gp.Guide = gp.guides.AmortizedGuide(model, seed=run.seed)
    if deterministic:
        model, guide = (twin := model.deterministic()), gp.guides.Empty(twin)
    parameters = sum(weights.numel() for weights in model.parameters())
    print(f"\n[bold]{'Deterministic' if deterministic else 'GRAM'}[/], {parameters:,} parameters")
    history = gp.fit(
        model, guide, task, seed=run.seed, objective=gp.SegmentELBO(preset.beta, preset.balance), out=out,
        evaluate_steps=run.steps or preset.steps, resume=resume and (out / gp.STATE_FILE).exists(),
        **preset.fit | ({"updates": run.updates} if run.updates else {}),
    )  # fmt: skip
    report.training_curves(history, out / "training.png")
    samples = 1 if deterministic else run.samples  # all answers of a deterministic model are the same
    metrics = gp.metrics.evaluate(model, task, num_samples=samples, steps=run.steps or preset.steps, seed=run.seed)
    trained = {"train_seconds": history[-1].seconds, "updates": history[-1].update, "parameters": parameters}
    return model, {"coverage": metrics["coverage_all"]} | metrics | trained


def show(run: Run, task: gp.tasks.Sudoku, model: Any, x: torch.Tensor, title: str) -> None:
    """One puzzle and the different answers to it that the verifier accepts, side by side."""
    found = gp.rollout(model, x[None], num_samples=run.samples, steps=run.steps or run.preset().steps).tokens.cpu()
    answers = found[gp.select.distinct(found, task.verify(x, found))]
    title = f"\n{title}: {len(answers)} different verified answers in {run.samples} samples"
    print(title, report.boards(task, x, answers[:6]), sep="\n")


def execute(run: Run, out: Path, resume: bool, puzzle: str | None) -> None:
    """Everything the example does."""
    task = run.task()
    own = None if puzzle is None else task.parse(puzzle)
    out.mkdir(parents=True, exist_ok=True)
    (out / "run.json").write_text(json.dumps(asdict(run), indent=2))
    model, metrics = train(run, task, out, resume)
    columns = {"GRAM": metrics}
    if run.compare:
        _, columns["deterministic"] = train(run, task, out / "deterministic", resume, deterministic=True)
    print("\n", report.metrics_table(f"{metrics['num_test']} unseen puzzles", columns))
    (out / "metrics.json").write_text(json.dumps(columns.pop("GRAM") | columns, indent=2))
    several = [x for x in task.inputs("test")[:50] if 3 <= len(task.solutions(x, limit=7)) <= 6]
    show(run, task, model, several[0] if several else task.inputs("test")[0], "An unseen puzzle")
    if own is not None:
        show(run, task, model, own, "Your puzzle")
    print(f"\nCheckpoint, metrics.json and training.png are in {out}")


def main(
    box: Annotated[tuple[int, int] | None, typer.Option(help="Rows and columns of a box.")] = None,
    data: Annotated[str | None, typer.Option(help="CSV of the Sudoku-Extreme format.")] = None,
    held_out: Annotated[int | None, typer.Option(min=1, help="Unseen puzzles of the test.")] = None,
    updates: Annotated[int | None, typer.Option(min=1, help="Training segments.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Trajectories for each test puzzle.")] = 20,
    steps: Annotated[int | None, typer.Option(min=1, help="Supervision steps of a test trajectory.")] = None,
    puzzle: Annotated[str | None, typer.Option(help="A puzzle of your own, row by row, . for blank.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, metrics and picture.")] = Path("runs/sudoku"),
    resume: Annotated[Path | None, typer.Option(help="Folder of an interrupted run to go on with.")] = None,
    compare: Annotated[bool, typer.Option(help="Train a deterministic model of the same size as well.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, data and noise.")] = 0,
) -> None:
    """Train, solve held-out puzzles, show one with several answers, leave checkpoint, metrics.json and a picture."""
    cuda = torch.cuda.is_available()
    box = box or ((3, 3) if cuda or data else (2, 2))
    with report.plain_errors():
        run = Run(box, data, held_out, updates, samples, steps, compare, seed, cuda)
        if resume is not None:
            run = Run(**json.loads((resume / "run.json").read_text()))
        execute(run, resume or out, resume is not None, puzzle)


if __name__ == "__main__":
    typer.run(main)
