"""Everything that is to run on a GPU, in the order of README.md beside this file, as far as the minutes go.

    python benchmarks/gpu/queue.py --minutes 12 --data DATA
    python benchmarks/gpu/queue.py --list

The first row without a result comes first. A row is one command; after seven minutes, or when the minutes are over, it
gets SIGTERM, writes its state and goes on in the next call. After each call the row's file says how it went. The queue
can be killed at any moment, and takes the running row with it. Code 75 says that rows are left.
"""

from __future__ import annotations

import sys

sys.path.insert(0, sys.path.pop(0).removesuffix("/gpu"))  # Python has a `queue` and a `profile` of its own

import argparse
import ctypes
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 7 * 60  # seconds of a command
STOP = 12  # seconds that a command has to stop in
BEGIN = 60  # seconds without which a row that goes on isn't begun
LEFT = 75  # the exit code that says that something is left
STOPPED = (LEFT, 128 + signal.SIGTERM, 128 + signal.SIGINT, -signal.SIGTERM)


@dataclass(frozen=True)
class Row:
    """One command.

    Args:
        name: of its folder and its file.
        proves: what its figures are to show.
        seconds: expected, in all.
        command: arguments of Python; {runs}, {data} and {results} are folders, {folder} is that of the row.
        tiny: further arguments that make it tiny.
        result: the JSON that it leaves.
        resume: it wants ``--resume`` once there is a state in {folder}.
        whole: it can't go on, and isn't begun where less than the expected seconds are left.
        needs: files in {data}, for the command that isn't tiny.
    """

    name: str
    proves: str
    seconds: int
    command: Sequence[str]
    tiny: Sequence[str] = ()
    result: str = "{folder}/metrics.json"
    resume: bool = False
    whole: bool = False
    needs: Sequence[str] = ()


def settings(**values: Any) -> list[str]:
    """Options ``--set``; in names a dot is a double underscore."""
    pairs = ((name.replace("__", "."), value) for name, value in values.items())
    return [text for name, value in pairs for text in ("--set", f"{name}={json.dumps(value)}")]


def training(name: str, proves: str, seconds: int, task: str, preset: str, **tiny: Any) -> Row:
    """``gram-ppl train``."""
    small = {"model__width": 16, "model__layers": 1, "fit__updates": 4, "samples": 2, "steps": 4, "held_out": 2}
    command = ["-m", "gram_ppl.cli", "train", task, "--preset", preset, "--out", "{folder}"]
    return Row(name, proves, seconds, command, settings(**small | tiny), resume=True)


EXTREME, SEVENTEEN = "sudoku_extreme_1k_train.csv", "sudoku_17clue_train.csv.gz"
ROWS = (
    Row("profile", "40 % of the peak at the paper's size, 6 ms an update at D = 128, B = 256; kernels, idle share", 300,
        ["benchmarks/gpu/profile.py", "--result", "{results}/profile-rows.json"],
        ["--tiny", "--updates", "1", "--settings", "eager"], result="{results}/profile-rows.json"),
    Row("updates", "the same two figures with a whole update as one CUDA graph, compiled or not, beside launches", 300,
        ["benchmarks/gpu/updates.py", "--result", "{results}/updates-rows.json"],
        ["--tiny", "--updates", "1", "--cases", "10 queens, deciding", "--ways", "graph"],
        result="{results}/updates-rows.json"),
    Row("demo", "make demo in 2 minutes", 150, ["examples/sudoku_svi.py", "--compare", "--out", "{folder}"],
        ["--updates", "4", "--held-out", "4", "--samples", "2", "--steps", "2"], whole=True),
    Row("extreme", "0.98 of 200 held-out Sudoku-Extreme rows after 10 minutes", 700,
        ["benchmarks/sudoku_9x9.py", "--preset", "gpu", "--extreme", "{data}/" + EXTREME, "--seventeen",
         "{data}/" + SEVENTEEN, "--chains", "32", "--rounds", "1000", "--doubt", "0.8", "--on-the-way", "100", "--set",
         "fit.checkpoint_every=100", "--out", "{folder}", "--result", "{folder}/result.json"],
        ["--held-out", "4", "--chains", "2", "--rounds", "2", "--on-the-way", "2", "--keep-every", "2",
         "--threads", "1",
         *settings(model__width=8, model__layers=1, model__block=2, model__supervision=8, objective__steps=2,
                   objective__window=2, fit__updates=4, fit__batch_size=4)],
        result="{folder}/result.json", needs=(EXTREME, SEVENTEEN)),
    training("queens10", "10 queens ahead of the best published 0.944 and coverage 0.615", 400, "queens", "gpu",
             task__n=5, task__num_validation=2, fit__batch_size=8),
    training("grids9", "9x9 grids from nothing, 99.05 % valid in the paper", 500, "unconditional", "gpu",
             task__side=4, model__supervision=8, fit__batch_size=8),
    Row("mnist", "FID and inception score of MNIST from nothing", 500,
        ["examples/mnist_svi.py", "--preset", "gpu", "--root", "{data}/mnist", "--out", "{folder}"],
        ["--updates", "4", "--samples", "4", "--steps", "1"], resume=True, needs=("mnist",)),
    training("queens8-paper", "the paper's 8 queens at its size: one accuracy and coverage beside its table", 2800,
             "queens", "paper", model__hidden=16, model__registers=1, model__supervision=2, fit__batch_size=4,
             fit__evaluate_on=2, fit__evaluations=1, task__n=5, task__num_validation=2),
    Row("kernels", "which attention, noise block, norm and SwiGLU are fastest", 240,
        ["benchmarks/gpu/kernels.py", "--result", "{results}/kernels-rows.json"], ["--tiny"],
        result="{results}/kernels-rows.json"),
    Row("rollouts", "rollouts by graphs are faster and give the same tokens", 120,
        ["benchmarks/gpu/rollouts.py", "--result", "{results}/rollouts-rows.json"], ["--tiny"],
        result="{results}/rollouts-rows.json"),
    Row("depth", "bf16 bears rollouts of 4,096 steps: the tokens of float32", 300,
        ["benchmarks/gpu/depth.py", "--out", "{folder}"], ["--updates", "4", "--test", "4", "--depths", "2", "4"],
        result="{folder}/depth.json"),
    Row("test-cuda", "CUDA is right: the tests of make test-cuda", 300,
        ["-m", "pytest", "-q", "-m", "cuda", "tests/test_cuda.py", "tests/test_graph.py", "tests/test_strides.py",
         "--junit-xml", "{folder}/tests.xml"],
        ["-m", "not cuda"], result="", whole=True),
)  # fmt: skip


@dataclass(frozen=True)
class Places:
    """Folders, and whether rows are tiny."""

    runs: Path
    results: Path
    data: Path = Path("data")
    tiny: bool = False

    def folder(self, row: Row) -> Path:
        """Of a row's run."""
        return self.runs / row.name

    def filled(self, row: Row, text: str) -> str:
        """A text with the folders in it."""
        return text.format(runs=self.runs, results=self.results, data=self.data, folder=self.folder(row))

    def command(self, row: Row) -> list[str]:
        """What to call Python with, now."""
        made = [self.filled(row, text) for text in row.command]
        if self.tiny:
            made = [text for text in made if text not in ("--root", f"{self.data}/mnist")]
        again = row.resume and (self.folder(row) / "state.safetensors").exists()
        return [*made, *(row.tiny if self.tiny else ()), *(["--resume"] if again else [])]

    def record(self, row: Row) -> dict[str, Any]:
        """What is known of a row."""
        path = self.results / f"{row.name}.json"
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return {"row": row.name, "proves": row.proves, "done": False, "calls": 0, "seconds": 0.0} | found

    def write(self, row: Row, record: Mapping[str, Any]) -> None:
        """Replace it."""
        self.results.mkdir(parents=True, exist_ok=True)
        temporary = self.results / f".{row.name}.tmp"
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.results / f"{row.name}.json")

    def result(self, row: Row) -> Any:
        """The JSON that a row left, None without."""
        path = Path(self.filled(row, row.result))
        return json.loads(path.read_text(encoding="utf-8")) if row.result and path.exists() else None

    def lacks(self, row: Row) -> list[str]:
        """Files that a row needs and that aren't there; a tiny row draws its digits itself."""
        needed = [name for name in row.needs if not (self.tiny and name == "mnist")]
        return [name for name in needed if not (self.data / name).exists()]


def card() -> str:
    """The name of the GPU."""
    if shutil.which("nvidia-smi") is None:
        return "CPU"
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.partition("\n")[0] or "CPU"


def dies_with_the_queue() -> None:
    """In a new process: SIGTERM when its parent ends, even by kill -9 (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def call(row: Row, places: Places, seconds: float) -> int:
    """One call of a row's command, at most so many seconds and those that it needs to stop; its exit code."""
    record, start = places.record(row), time.monotonic()
    command = places.command(row)
    places.folder(row).mkdir(parents=True, exist_ok=True)
    log = places.folder(row) / "log.txt"
    record |= {"command": command, "device": card(), "calls": record["calls"] + 1}
    places.write(row, record)
    before = record["seconds"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, stdout=file, stderr=file,
            preexec_fn=dies_with_the_queue,
        )  # fmt: skip
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            code = stopped(process)
            record |= {"code": code, "seconds": before + time.monotonic() - start, "done": code == 0}
            if code == 0:
                record["result"] = places.result(row)
            elif code not in STOPPED:
                record["said"] = log.read_text(encoding="utf-8", errors="replace")[-1000:]
            places.write(row, record)
    return code


def stopped(process: subprocess.Popen[bytes]) -> int:
    """Ask a process to stop if it still runs, and end it where it doesn't; its exit code."""
    process.terminate()
    try:
        return process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def work(rows: Sequence[Row], places: Places, minutes: float) -> int:
    """As many rows as fit; 0 if none is left."""
    end, tried = time.monotonic() + 60 * minutes, set()
    while True:
        left = end - time.monotonic() - STOP
        open_rows = [row for row in rows if not places.record(row)["done"] and row.name not in tried]
        fitting = [row for row in open_rows if left >= (row.seconds if row.whole else min(BEGIN, row.seconds))]
        row = next((row for row in fitting if not places.lacks(row)), None)
        if row is None:
            for row in open_rows:
                lacking = ", ".join(places.lacks(row))
                print(f"{row.name}: {f'there is no {lacking} in {places.data}' if lacking else 'no time left'}")
            return LEFT if any(not places.record(row)["done"] for row in rows) else 0
        print(f"{row.name}: python {' '.join(places.command(row))}", flush=True)
        code = call(row, places, min(LIMIT, left))
        record = places.record(row)
        print(f"{row.name}: code {code} after {record['seconds']:.0f} s in {record['calls']} calls", flush=True)
        if code not in STOPPED or row.whole:
            tried.add(row.name)


def main(arguments: Sequence[str] | None = None, rows: Sequence[Row] = ROWS) -> int:
    """Work, or list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--only", nargs="+", choices=[row.name for row in rows], help="names of rows")
    parser.add_argument("--list", action="store_true", help="what is done and what is left")
    parser.add_argument("--tiny", action="store_true", help="every row in seconds on a CPU")
    parser.add_argument("--data", type=Path, default=Path("data"), help=f"{EXTREME}, {SEVENTEEN}, mnist/")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "gpu", help="folder of checkpoints")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "gpu")
    given = parser.parse_args(arguments)
    runs, results, data = (path.absolute() for path in (given.runs, given.results, given.data))
    if given.tiny:
        runs, results = runs / "tiny", results / "tiny"
    places = Places(runs, results, data, given.tiny)
    if given.list:
        for row in rows:
            found = places.record(row)
            how = "done" if found["done"] else "begun" if found["calls"] else "open"
            print(f"{row.name:<14} {how:<6} {found['seconds']:5.0f} of {row.seconds} s  {row.proves}")
        return 0

    def stop(signum: int, frame: Any) -> None:
        sys.exit(128 + signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    return work([row for row in rows if row.name in (given.only or [row.name])], places, given.minutes)


if __name__ == "__main__":
    sys.exit(main())
