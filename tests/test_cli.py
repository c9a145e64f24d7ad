"""The command line: golden outputs, JSON, every solution of a puzzle, files and standard input, bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from typer.testing import CliRunner, Result

import gram_ppl as gp
from gram_ppl.cli import app, folders, puzzles, solving

ROOT = Path(__file__).resolve().parents[1]
ONE = "12.. 34.. 2143 4321"  # one solution
SIX = "12.. .... ...2 ...."
EIGHTEEN = "1... .... ...2 ...."


@pytest.fixture(scope="session")
def task() -> gp.tasks.Sudoku:
    return gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=2, num_test=8)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "dumb")


def call(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def answered(*arguments: object, stdin: str | None = None) -> Any:
    """The one JSON document that a command prints."""
    done = call(*arguments, "--json", stdin=stdin)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(*arguments: object, stdin: str | None = None) -> str:
    """The one sentence with which a command stops."""
    done = call(*arguments, stdin=stdin)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr.removeprefix("error: ").strip()


def timeless(metrics: dict[str, Any]) -> dict[str, Any]:
    """Without the figures that a clock gives."""
    return {key: value for key, value in metrics.items() if "seconds" not in key}


# A tiny run that `gram-ppl train` made --------------------------------------------------------------------------------

SETTINGS = ["task.num_test=8", "task.num_validation=2", "model.width=16", "samples=3", "steps=2"]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    asked = [part for setting in SETTINGS for part in ("--set", setting)]
    done = call("train", "sudoku", "--preset", "gram", "--updates", 4, "--out", folder, *asked)
    assert done.exit_code == 0, done.output
    assert "sudoku, preset gram" in done.stdout
    return folder


def test_train_leaves_everything_in_the_folder(run: Path) -> None:
    for name in ("training.png", "examples.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    settings = {"task.num_test": 8, "task.num_validation": 2, "model.width": 16, "samples": 3, "steps": 2}
    asked = {"task": "sudoku", "preset": "gram", "updates": 4, "seed": None, "set": settings}
    assert json.loads((run / "run.json").read_text()) == asked | {
        "samples": 3, "steps": 2, "held_out": 500, "temperature": 1.0, "retry": None,
        "first_answer": False, "symmetric": False, "views": 1,
        "halt": {"class": "gram_ppl.halt.Never", "arguments": {}},
    }  # fmt: skip
    model, _, task = gp.load(run)
    assert (model.width, len(task.inputs("test"))) == (16, 8)
    metrics = json.loads((run / "metrics.json").read_text())
    again = gp.metrics.evaluate(model, task, num_samples=3, steps=2, seed=0)
    assert timeless({key: metrics[key] for key in again}) == timeless(again)
    assert metrics["updates"] == 4


def test_resume_goes_on_with_the_settings_of_the_run(run: Path, tmp_path: Path) -> None:
    straight = [part for setting in SETTINGS for part in ("--set", setting)]
    folder = tmp_path / "run"
    whole = answered("train", "sudoku", "--preset", "gram", "--updates", 4, "--out", folder, *straight)
    assert whole["folder"] == str(folder)
    (folder / "model.safetensors").unlink()
    again = answered("train", "sudoku", "--out", folder, "--resume")
    ours, theirs = gp.load(folder)[0].state_dict(), gp.load(run)[0].state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert timeless(again) == timeless(whole)
    assert "updates was 4 and is 5" in refused("train", "sudoku", "--out", folder, "--resume", "--updates", 5)
    assert json.loads((folder / "run.json").read_text())["updates"] == 4
    assert "holds a run of sudoku, not of maze" in refused("train", "maze", "--out", folder, "--resume")
    assert "lr was 0.001" in refused("train", "sudoku", "--out", folder, "--resume", "--set", "fit.lr=0.5")
    more = answered("train", "sudoku", "--out", folder, "--resume", "--set", "samples=5")
    kept = json.loads((folder / "run.json").read_text())
    assert (more["num_samples"], more["num_test"], kept["samples"]) == (5, 8, 5)
    assert kept["set"] == json.loads((run / "run.json").read_text())["set"] | {"samples": 5}
    assert answered("train", "sudoku", "--out", folder, "--resume", "--set", "samples=3")["num_samples"] == 3
    (folder / "state.safetensors").unlink()  # as if interrupted before the first state
    assert answered("train", "sudoku", "--out", folder, "--resume")["accuracy"] == whole["accuracy"]


def test_train_begins_with_the_weights_of_another_run(run: Path, tmp_path: Path) -> None:
    same = [*[part for setting in SETTINGS for part in ("--set", setting)], "--set", "fit.lr=0.0"]
    folder = tmp_path / "run"
    answered("train", "sudoku", "--preset", "gram", "--updates", 1, "--start", run, "--out", folder, *same)
    ours, theirs = gp.load(folder), gp.load(run)
    for mine, begun in zip(ours[:2], theirs[:2], strict=True):
        for name, weights in begun.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], weights)
    assert json.loads((folder / "run.json").read_text())["start"] == str(run)


def test_train_never_overwrites_a_run(run: Path) -> None:
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "--resume goes on with it" in refused("train", "sudoku", "--out", run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["chess"], "there is no task 'chess'"),
        (["sudoku", "--preset", "huge"], "sudoku has no preset 'huge'"),
        (["sudoku", "--set", "model.widht=3"], "there is no setting 'model.widht'"),
        (["sudoku", "--set", "model.width=wide"], "model.width: expected a value like 64, found 'wide'"),
        (["sudoku", "--set", "width"], "--set: expected NAME=VALUE, found 'width'"),
        (["sudoku", "--set", "model.width=0"], "width must be at least 1, got 0"),
        (["sudoku", "--set", "model.supervision=0"], "supervision must be at least 1, got 0"),
        (["sudoku", "--set", "objective.steps=0"], "steps must be at least 1, got 0"),
        (["sudoku", "--set", "objective.window=0"], "window must be at least 1, got 0"),
        (["sudoku", "--set", "model.keep=3"], "model.keep: expected a value like False, found 3"),
        (["sudoku", "--set", "task.box=[2]"], "box: expected rows and columns, found [2]."),
        (["sudoku", "--set", "task.box=[1, 4]"], "box: expected at least 2 rows"),
        (["arc", "--preset", "cpu"], "task.root is not set"),
        (["sudoku", "--resume"], "there is no run of gram-ppl train to go on with"),
        (["sudoku", "--start", "pretrained:chess"], "chess"),
        (["sudoku", "--start", "nowhere"], "nowhere/model.safetensors"),
        (["sudoku", "--start", "pretrained:queens8"], "the weights do not fit"),
    ],
)
def test_train_refuses_before_it_writes(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refused("train", *arguments)
    assert not list(tmp_path.iterdir())


def test_evaluate_is_metrics_evaluate(run: Path) -> None:
    found = answered("evaluate", run)
    model, _, task = gp.load(run)
    expected = gp.metrics.evaluate(model, task, num_samples=3, steps=2, seed=0)  # the run's own samples and steps
    assert timeless(found) == {"folder": str(run), "task": "Sudoku"} | timeless(expected)
    found = answered("evaluate", run, "--samples", 2, "--steps", 1, "--select", "first", "--held-out", 5, "--seed", 3)
    some = task.inputs("test")[:5]
    select = gp.select.SELECTORS["first"]
    expected = gp.metrics.evaluate(model, task, x=some, num_samples=2, steps=1, select=select, seed=3)
    assert timeless(found) == {"folder": str(run), "task": "Sudoku"} | timeless(expected)
    found = answered("evaluate", run, "--mode", "coverage")
    expected = gp.metrics.evaluate(model, task, num_samples=3, mode="coverage", seed=0)
    assert timeless(found) == {"folder": str(run), "task": "Sudoku"} | timeless(expected)
    table = call("evaluate", run).stdout
    assert "selected accuracy" in table
    assert "num test" in table


SMALL = {
    "queens": ["task.n=6", "steps=12", "retry=4"],  # with halt=Confident(0.8, at_least=4)
    "coloring": ["task.n=6", "task.num_train=100", "task.num_validation=4", "task.num_test=12", "steps=3"],  # at 1.2
}


@pytest.mark.parametrize("world", SMALL)
def test_evaluate_measures_as_train_did(world: str, tmp_path: Path) -> None:
    settings = [*SMALL[world], "model.width=16", "samples=3", "held_out=8"]
    settings += ["halt.threshold=0.02"] if world == "queens" else []
    changes = [part for setting in settings for part in ("--set", setting)]
    updates = 40 if world == "queens" else 4
    trained = answered("train", world, "--preset", "gram", "--updates", updates, "--out", tmp_path, *changes)
    again = answered("evaluate", tmp_path)
    assert timeless(again).items() - {("task", again["task"])} <= timeless(trained).items()
    run = json.loads((tmp_path / "run.json").read_text())
    for key in ("halt", "temperature", "retry"):
        del run[key]
    (tmp_path / "run.json").write_text(json.dumps(run))  # as earlier versions left it
    assert timeless(answered("evaluate", tmp_path)) != timeless(again)


@pytest.mark.parametrize(
    ("key", "value"),
    [("halt", {"class": "os.system", "arguments": {}}), ("halt", "never"), ("temperature", -1.0), ("temperature", "x"),
     ("retry", 0), ("samples", "many"), ("halt", {"class": "gram_ppl.halt.Confident", "arguments": {"at_least": 0}})],
)  # fmt: skip
def test_a_run_file_that_does_not_say_how_to_measure(
    key: str, value: dict[str, Any] | float | int | str, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    (tmp_path / "run.json").write_text(json.dumps(json.loads((run / "run.json").read_text()) | {key: value}))
    sentence = "the file is damaged: it does not say how to measure"
    assert refused("evaluate", tmp_path) == f"{tmp_path / 'run.json'}: {sentence}"


def test_report_names_what_it_wrote(run: Path) -> None:
    small = ["--samples", 2, "--steps", 2, "--held-out", 3]
    files = [run / "report.md", run / "report.html"]
    assert answered("report", run, *small) == {"folder": str(run), "files": [str(path) for path in files]}
    assert "3 test inputs, 2 samples each" in files[0].read_text()
    for path in files:
        path.unlink()
    assert call("report", run, *small).stdout == f"{files[0]}\n{files[1]}\n"
    assert all(path.stat().st_size > 0 for path in files)


def test_what_the_process_prints(run: Path) -> None:
    """The whole chain, warnings as errors: JSON alone on standard output, nothing on standard error."""
    command = [sys.executable, "-W", "error", "-m", "gram_ppl.cli", "solve", str(run), "--json", "--samples", "2"]
    done = subprocess.run(command, input=f"# mine\n{ONE}\n", capture_output=True, text=True, cwd=run)
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = json.loads(done.stdout)["puzzles"]
    assert (found["puzzle"], found["samples"]) == (ONE, 2)


# Solving, with programs whose answers are known -----------------------------------------------------------------------


class Sampler(gp.Program):
    """Exact sampling as a program: eps ~ Normal(0, 1), the answer is solution number ⌊S · Φ(eps)⌋.

    Args:
        task: lists the solutions S of an input.
        keep: which of the solutions it knows.
        spoil: gives a wrong answer for each.
    """

    supervision = 1

    def __init__(self, task: gp.tasks.Task, keep: slice = slice(None), spoil: bool = False) -> None:
        super().__init__()
        self.spec, self.task, self.keep, self.spoil = task.spec, task, keep, spoil
        self.heads = None
        self.weight = nn.Parameter(torch.zeros(1))

    def initial(self, batch: int) -> gp.Latent:
        return gp.Latent(*torch.zeros(2, batch, self.spec.len_out, self.spec.vocab_out).unbind())

    def forward(
        self,
        x: Tensor | None = None,
        y: Tensor | None = None,
        *,
        latent: gp.Latent | None = None,
        steps: int | None = None,
        start: int = 0,
    ) -> tuple[gp.Latent, Tensor]:
        assert x is not None
        with pyro.plate("batch", len(x), dim=-1):
            eps = pyro.sample(f"eps_{start}", dist.Normal(torch.zeros(len(x), 1, 1), 1.0).to_event(2)).flatten()
            share = dist.Normal(0.0, 1.0).cdf(eps).clamp(0, 1 - 1e-6)
            found = [self.task.solutions(row)[self.keep] for row in x]
            rows = [every[int(u * len(every))] for every, u in zip(found, share, strict=True)]
            tokens = torch.stack(rows)
            if self.spoil:
                tokens = tokens.roll(1, dims=-1)
            h = 50.0 * nn.functional.one_hot(tokens, self.spec.vocab_out)
            y = pyro.sample("y", self.answer(h), obs=y)
        return gp.Latent(h, h), y

    def answer(self, h: Tensor) -> TorchDistribution:
        return dist.Categorical(logits=h).to_event(1)


@pytest.fixture
def program(task: gp.tasks.Sudoku, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sampler], str]:
    """Puts a program where the commands look for a trained one."""

    def use(model: Sampler) -> str:
        monkeypatch.setattr(folders, "load", lambda folder: (model, None, model.task))
        return "folder"

    return use


def test_solve_golden(task: gp.tasks.Sudoku, program: Callable[[Sampler], str]) -> None:
    done = call("solve", program(Sampler(task)), "-", stdin=f"{ONE}\n{ONE.replace(' ', '')}\n")
    assert done.exit_code == 0, done.output
    board = """\
1 2 | . .    1 2 | 3 4
3 4 | . .    3 4 | 1 2
----+----    ----+----
2 1 | 4 3    2 1 | 4 3
4 3 | 2 1    4 3 | 2 1
verified, score 1.00; 1 different verified answer in 20 samples

"""
    assert done.stdout == f"{ONE}\n{board}{ONE.replace(' ', '')}\n{board}"


def test_solve_all_golden(task: gp.tasks.Sudoku, program: Callable[[Sampler], str]) -> None:
    done = call("solve", program(Sampler(task)), ONE, "--all")
    assert (
        done.stdout
        == """\
1 2 | . .    1 2 | 3 4
3 4 | . .    3 4 | 1 2
----+----    ----+----
2 1 | 4 3    2 1 | 4 3
4 3 | 2 1    4 3 | 2 1
1 of 1 solutions, each verified, in 20 samples

"""
    )


def brute_force(puzzle: str) -> set[tuple[int, ...]]:
    """All solutions of a 4×4 puzzle, by trying every digit: no code of the task."""
    cells = [int(char.replace(".", "0")) for char in puzzle.replace(" ", "")]

    def fill(grid: list[int]) -> set[tuple[int, ...]]:
        if 0 not in grid:
            return {tuple(grid)}
        k = grid.index(0)
        row, column = divmod(k, 4)
        near = {
            grid[j]
            for j in range(16)
            if j // 4 == row or j % 4 == column or (j // 8, j % 4 // 2) == (k // 8, k % 4 // 2)
        }
        return set().union(*(fill([*grid[:k], digit, *grid[k + 1 :]]) for digit in {1, 2, 3, 4} - near))

    return fill(cells)


@pytest.mark.parametrize(("puzzle", "number"), [(SIX, 6), (EIGHTEEN, 18), ("1" + "." * 15, 72)])
def test_solve_all_finds_every_solution(
    puzzle: str, number: int, task: gp.tasks.Sudoku, program: Callable[[Sampler], str]
) -> None:
    (found,) = answered("solve", program(Sampler(task)), puzzle, "--all", "--samples", 50)["puzzles"]
    assert found["solutions"] == number
    assert found["solutions_exact"]
    assert found["complete"]
    assert {tuple(answer["tokens"]) for answer in found["answers"]} == brute_force(puzzle)
    assert len(found["answers"]) == number
    assert all(answer["verified"] for answer in found["answers"])
    assert found["samples"] % 50 == 0
    assert found["samples"] >= number


def test_solve_all_stops_at_the_limit_and_says_so(task: gp.tasks.Sudoku, program: Callable[[Sampler], str]) -> None:
    folder = program(Sampler(task, keep=slice(4)))  # two solutions that it never gives
    done = call("solve", folder, SIX, "--all", "--samples", 30, "--max-samples", 100)
    last = "4 of 6 solutions, each verified, in 100 samples, as many as --max-samples allows"
    assert done.stdout.rstrip().splitlines()[-1] == last
    (found,) = answered("solve", folder, SIX, "--all", "--samples", 30, "--max-samples", 100)["puzzles"]
    assert (len(found["answers"]), found["samples"], found["complete"]) == (4, 100, False)


def test_a_wrong_answer_is_called_wrong(task: gp.tasks.Sudoku, program: Callable[[Sampler], str]) -> None:
    folder = program(Sampler(task, spoil=True))
    assert "NOT verified, score 1.00; 0 different verified answers in 20 samples" in call("solve", folder, ONE).stdout
    assert not answered("solve", folder, ONE)["puzzles"][0]["answers"][0]["verified"]
    (found,) = answered("solve", folder, ONE, "--all", "--max-samples", 40)["puzzles"]
    assert (found["answers"], found["solutions"], found["complete"]) == ([], 1, False)


def test_solve_all_counts_colourings_by_their_canonical_form(program: Callable[[Sampler], str]) -> None:
    graphs = gp.tasks.GraphColoring(4, p=0.3, num_train=20, num_validation=1, num_test=1)
    (found,) = answered("solve", program(Sampler(graphs)), "0-1 1-2 2-3", "--all")["puzzles"]
    assert (found["solutions"], len(found["answers"]), found["complete"]) == (
        4,
        4,
        True,
    )  # 24 colourings of a path / 3!


def test_a_puzzle_without_known_solution(
    task: gp.tasks.Sudoku, program: Callable[[Sampler], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solving, "count", lambda task, x: (0, True))  # as ARC's, where the answer is kept back
    done = call("solve", program(Sampler(task)), ONE, "--all")
    assert done.stdout.splitlines()[-2] == "no solution of it is known: no answer can be verified"
    done = call("solve", program(Sampler(task, spoil=True)), ONE)
    assert "not to be verified, as no solution of it is known, score 1.00;" in done.stdout


def test_many_solutions_are_counted_up_to_a_limit(task: gp.tasks.Sudoku, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(puzzles, "COUNTED", 72)
    assert puzzles.count(task, task.parse("1" + "." * 15)) == (72, True)
    assert puzzles.count(task, task.blank) == (72, False)


def test_same_seed_same_answers(task: gp.tasks.Sudoku, program: Callable[[Sampler], str]) -> None:
    folder = program(Sampler(task))
    once, again, other = (answered("solve", folder, EIGHTEEN, "--all", "--seed", seed) for seed in (1, 1, 2))
    assert once == again
    assert once["puzzles"] != other["puzzles"]


@pytest.mark.parametrize("name", sorted(gp.select.SELECTORS))
def test_every_selector_answers_or_says_what_it_needs(
    name: str, task: gp.tasks.Sudoku, program: Callable[[Sampler], str]
) -> None:
    done = call("solve", program(Sampler(task)), ONE, "--select", name)
    if done.exit_code:
        assert "heads" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    else:
        assert "\nverified, score" in done.stdout


# Puzzles from files and standard input --------------------------------------------------------------------------------


def test_puzzles_from_file_and_standard_input(
    task: gp.tasks.Sudoku, program: Callable[[Sampler], str], tmp_path: Path
) -> None:
    text = f"# two puzzles\n\n{ONE}\n   \n  #another\n{SIX}\n"
    path = tmp_path / "puzzles.txt"
    path.write_text(text)
    folder = program(Sampler(task))
    from_file = answered("solve", folder, path)["puzzles"]
    assert [found["puzzle"] for found in from_file] == [ONE, SIX]
    assert answered("solve", folder, "-", stdin=text)["puzzles"] == from_file
    assert answered("solve", folder, stdin=text)["puzzles"] == from_file


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{ONE}\n# fine so far\n12\n", "{}, line 3: A 4 x 4 puzzle has 16 characters, found 2."),
        (f"{ONE}\n12\n3\n4", "{}, line 2: A 4 x 4 puzzle has 16 characters, found 2. (and 2 more)"),
        ("\n# nothing\n", "{}: there is no puzzle in it"),
        ("", "{}: there is no puzzle in it"),
    ],
)
def test_a_bad_line_is_named_before_any_answer(
    text: str, sentence: str, task: gp.tasks.Sudoku, program: Callable[[Sampler], str], tmp_path: Path
) -> None:
    folder = program(Sampler(task))
    path = tmp_path / "puzzles.txt"
    path.write_text(text)
    assert refused("solve", folder, path) == sentence.format(path)
    assert refused("solve", folder, "-", stdin=text) == sentence.format("standard input")


def test_other_bad_input(task: gp.tasks.Sudoku, program: Callable[[Sampler], str], tmp_path: Path) -> None:
    folder = program(Sampler(task))
    no_text = tmp_path / "binary"
    no_text.write_bytes(b"\xff\xfe\x00")
    assert refused("solve", folder, no_text) == f"{no_text}: not a text file"
    assert "'nowhere.txt' is neither a file nor a puzzle: A 4 x 4 puzzle has 16" in refused(
        "solve", folder, "nowhere.txt"
    )
    assert refused("solve", folder, tmp_path) == f"{tmp_path} is a folder: name a file of it"
    assert refused("solve", folder, "") == "the puzzle is empty"
    long = refused("solve", folder, "1" * 10_000)
    assert len(long) < 250
    assert "--select: expected one of" in refused("solve", folder, ONE, "--select", "worst")
    assert "--select does not go with it" in refused("solve", folder, ONE, "--all", "--select", "vote")
    assert "mode" in refused("solve", folder, ONE, "--mode", "speed")
    for option in ("--samples", "--steps", "--max-samples"):
        done = call("solve", folder, ONE, option, 0)
        assert (done.exit_code, done.stdout) == (2, "")
        assert option in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_solve_reads_a_pipe(task: gp.tasks.Sudoku, program: Callable[[Sampler], str], tmp_path: Path) -> None:
    folder, pipe = program(Sampler(task)), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_text, args=(ONE,))
    writer.start()
    assert len(answered("solve", folder, pipe)["puzzles"]) == 1
    writer.join()


def test_solve_reads_files_of_other_programs(
    task: gp.tasks.Sudoku, program: Callable[[Sampler], str], tmp_path: Path
) -> None:
    """The reader of each format is tested in tests/tasks/test_formats.py."""
    folder, board = program(Sampler(task)), "\n".join(task.render(task.parse(ONE)).splitlines())
    path = tmp_path / "puzzle.sdk"
    path.write_bytes(f"[Puzzle]\n#A somebody\n{board}\n".replace("\n", "\r\n").encode("utf-8-sig"))
    (from_file,), (typed,) = (answered("solve", folder, source)["puzzles"] for source in (path, board))
    assert from_file["answers"][0]["tokens"] == typed["answers"][0]["tokens"]
    assert refused("solve", folder, "-", stdin=f"{ONE}\n x{ONE[1:]}").startswith("standard input, line 2, column 2: ")
    graphs = gp.tasks.GraphColoring(4, p=0.3, num_train=20, num_validation=1, num_test=1)
    path = tmp_path / "path.col"
    path.write_text("c a path\np edge 4 3\ne 1 2\ne 2 3\ne 3 4\n")
    folder = program(Sampler(graphs))
    (by_option,), (as_file,) = (answered("solve", folder, *how)["puzzles"] for how in (["--graph", path], [path]))
    assert by_option == as_file
    assert by_option["answers"][0]["verified"]
    assert "give a file or a puzzle, not both" in refused("solve", folder, "0-1", "--graph", path)


def test_the_wall_of_a_maze_is_no_comment(tmp_path: Path) -> None:
    maze = gp.tasks.Maze((2, 3), num_validation=1, num_test=1, min_length=1, pool=10)
    path = tmp_path / "mazes.txt"
    path.write_text("# a comment\n##G S..\n")
    (found,) = puzzles.read(maze, str(path))
    assert found.x.tolist() == maze.parse("##GS..").tolist()
    path.write_text("##G.\n")
    with pytest.raises(ValueError, match="line 1: A 2 x 3 maze has 6 characters, found 4"):
        puzzles.read(maze, str(path))


# Making answers from nothing ------------------------------------------------------------------------------------------


def test_generate_golden(task: gp.tasks.Sudoku, program: Callable[[Sampler], str]) -> None:
    assert "answers inputs: use gram-ppl solve" in refused("generate", program(Sampler(task)))
    folder = program(Sampler(gp.tasks.Unconditional(task), keep=slice(1)))
    found = answered("generate", folder, "--samples", 3)
    first = task.solutions(task.blank)[0]
    assert (found["samples"], found["verified"], found["different_verified"]) == (3, 3, 1)
    assert [answer["tokens"] for answer in found["answers"]] == 3 * [first.tolist()]
    done = call("generate", folder, "--samples", 2)
    rows = [f"{row}    {row}" for row in task.render(first).splitlines()]
    assert done.stdout == "\n".join([*rows, "2 of 2 verified, 1 of them different\n"])
    assert "makes answers from nothing: use gram-ppl generate" in refused("solve", folder, ONE)


# Run folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["solve"], ["generate"], ["evaluate"], ["report"]])
def test_missing_and_damaged_folders(command: list[str], run: Path, tmp_path: Path) -> None:
    puzzle = [ONE] if command == ["solve"] else []
    assert "no-such-run" in refused(*command, tmp_path / "no-such-run", *puzzle)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    content = bytearray((run / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(content)
    assert "damaged" in refused(*command, damaged, *puzzle)


def test_a_damaged_run_file(run: Path, tmp_path: Path) -> None:
    for text in ("{", "[1]"):
        (tmp_path / "run.json").write_text(text)
        (tmp_path / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
        assert refused("evaluate", tmp_path) == f"{tmp_path / 'run.json'}: the file is damaged"


# The console script ---------------------------------------------------------------------------------------------------


def test_console_script_is_declared() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["gram-ppl"].partition(":")
    assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize("command", ["train", "solve", "generate", "evaluate", "report"])
def test_help_has_examples(command: str) -> None:
    done = call(command, "--help")
    assert done.exit_code == 0
    assert f"gram-ppl {command} runs/" in done.stdout or command == "train"
    assert "Examples:" in done.stdout
    assert command in call("--help").stdout


def test_completion_knows_tasks_and_selectors() -> None:
    words = {"_GRAM_PPL_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    done = CliRunner().invoke(app, [], prog_name="gram-ppl", env=words | {"COMP_WORDS": "gram-ppl train co"})
    assert done.stdout.split() == ["coloring"]
    words |= {"COMP_WORDS": "gram-ppl solve --select ver", "COMP_CWORD": "3"}
    done = CliRunner().invoke(app, [], prog_name="gram-ppl", env=words)
    assert done.stdout.split() == ["verified"]
