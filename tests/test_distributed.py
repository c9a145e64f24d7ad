"""Several processes and parts in turn: the same run as one process, and it goes on with another number of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import gram_ppl as gp
from gram_ppl.cli.measuring import measure
from gram_ppl.program.poutine import chance
from gram_ppl.runtime.clocks import NoClock
from gram_ppl.runtime.processes import JointNoise, Shares
from gram_ppl.storage import checkpoint
from gram_ppl.storage.measurement import Measurement

from .processes import KINDS, fit, kind

SCRIPT = Path(__file__).parent / "processes.py"
UPDATES = 50


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "--monitor-interval=0.2")
ACCELERATE = (
    "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no",
    "--dynamo_backend=no", "--main_process_port=0",
)  # fmt: skip
ALONE: tuple[str, ...] = ()


def launch(folder: Path, name: str, *more: str, stop_at: int = 0, by: tuple[str, ...] = TORCHRUN) -> None:
    """Run the script to its end."""
    run([str(folder), str(UPDATES), name, *more], environment={"STOP_AT": str(stop_at)}, by=by)


def run(arguments: list[str], *, environment: dict[str, str], by: tuple[str, ...] = TORCHRUN) -> str:
    """What the script prints, started by a launcher or as one plain process."""
    command = [sys.executable, *(["-m", *by] if by else []), str(SCRIPT), *arguments]
    unset = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "WORLD_SIZE"))}
    environment = {**unset, "OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def results(folder: Path, name: str, ranks: int = 2) -> list[dict[str, Tensor]]:
    return [load_file(folder / f"{name}-{rank}.safetensors") for rank in range(ranks)]


def close(one: dict[str, Tensor], two: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert one.keys() == two.keys()
    worst = max(one, key=lambda key: (one[key] - two[key]).abs().max().item())
    torch.testing.assert_close(one[worst], two[worst], rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def alone() -> tuple[dict[str, Tensor], Any]:
    """The run of one process."""
    return fit(None, UPDATES)


@pytest.mark.parametrize("by", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_are_one(alone: Any, tmp_path: Path, by: tuple[str, ...]) -> None:
    launch(tmp_path, "two", by=by)
    first, second = results(tmp_path, "two")
    for key in first:
        assert torch.equal(first[key], second[key]), key
    close(first, alone[0])
    histories = [json.loads((tmp_path / f"two-{rank}.json").read_text()) for rank in range(2)]
    for one, two, single in zip(*histories, alone[1], strict=True):
        for index in (0, 2, 3, 4, 5, 6, 7):  # all but the seconds
            assert one[index] == two[index] == pytest.approx(single[index], abs=2e-3)
        assert one[8] == two[8] == single[8]


@pytest.mark.parametrize("accumulate", [2, 4])
def test_parts_in_turn_are_the_whole(alone: Any, accumulate: int) -> None:
    weights, history = fit(None, UPDATES, accumulate=accumulate)
    close(weights, alone[0])
    assert [record.update for record in history] == [record.update for record in alone[1]]
    assert history[-1].kl_first == pytest.approx(alone[1][-1].kl_first, abs=1e-3)


@pytest.mark.slow
def test_another_number_of_processes_goes_on(alone: Any, tmp_path: Path) -> None:
    """Two processes up to update 20, one up to 40, two to the end."""
    launch(tmp_path, "a", stop_at=20)
    launch(tmp_path, "b", stop_at=40, by=ALONE)
    launch(tmp_path, "c")
    first, second = results(tmp_path, "c")
    close(first, second, 0)
    close(first, alone[0])


def test_a_killed_process_is_started_again(alone: Any, tmp_path: Path) -> None:
    launch(tmp_path, "killed", "34", by=(*TORCHRUN, "--max-restarts=2"))
    first, second = results(tmp_path, "killed")
    close(first, second, 0)
    close(first, alone[0])
    history = json.loads((tmp_path / "killed-0.json").read_text())
    assert history[-1][0] == UPDATES


def test_joint_noise_is_the_share_of_one_draw() -> None:
    loc, scale = torch.randn(6, 3), torch.rand(6, 3) + 0.5
    torch.manual_seed(5)
    whole = dist.Normal(loc, scale).to_event(1).rsample()
    parts = []
    for share in (slice(0, 2), slice(2, 6)):
        torch.manual_seed(5)
        with JointNoise(6, share, torch.default_generator):
            parts.append(drawn(loc[share], scale[share]))
    assert torch.equal(torch.cat(parts), whole)


def drawn(loc: Tensor, scale: Tensor) -> Tensor:
    value: Tensor = pyro.sample("z", dist.Normal(loc, scale).to_event(1))
    return value


def test_own_rows_of_a_group() -> None:
    shares = Shares(1, torch.device("cpu"))
    shares.world, shares.rank = 2, 1
    assert shares.here(12) == slice(6, 12)
    assert shares.own(slice(4, 8), 12) == slice(0, 2)
    assert shares.own(slice(0, 4), 12) == slice(0, 0)
    assert shares.own(slice(8, 12), 12) == slice(2, 6)


def test_what_cannot_be_shared_is_refused() -> None:
    task = gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=2, num_test=2)
    model = gp.models.GRAM(task.spec, width=8)
    for accumulate, sentence in (
        (0, "accumulate must be at least 1, got 0"),
        (3, "batch_size must be a multiple of 1 processes times accumulate=3, got 16"),
    ):
        with pytest.raises(ValueError, match=sentence):
            gp.fit(
                model, gp.guides.PriorGuide(model), task, updates=1, batch_size=16, progress=False,
                accumulate=accumulate,
            )  # fmt: skip


def test_models_that_halt_unconditional_ones_and_heads_are_shared(tmp_path: Path) -> None:
    run([str(tmp_path), "24", "kinds"], environment={})
    for name in KINDS:
        first, second = results(tmp_path, name)
        close(first, second, 0)
        close(first, kind(name, 24))


def test_rows_that_halt_give_way_in_parts_too() -> None:
    """And the exploration decides which: without its joint draw another row would halt."""
    task = gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=0, num_test=0)
    model = gp.models.TRM(task.spec, width=8, exploration=0.5)
    torch.nn.init.constant_(model.q.bias, 5.0)
    h, age = model.initial(8).h, torch.ones(8, dtype=torch.int64)
    torch.manual_seed(3)
    whole = model.halts(h, age)
    assert 0 < whole.sum() < 8
    parts = []
    for share in (slice(0, 4), slice(4, 8)):
        torch.manual_seed(3)
        with JointNoise(8, share, torch.default_generator):
            parts.append(model.halts(h[share], age[share]))
    assert torch.equal(torch.cat(parts), whole)
    assert chance(lambda rows, generator: torch.full((rows,), 2.0), 3).tolist() == [2.0] * 3


def test_other_draws_differ_between_shares_and_leave_the_generator_alone() -> None:
    class Drawing(torch.nn.Module):
        """A segment that draws one number for each row."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))
            self.drawn: list[Tensor] = []

        def forward(self, x: Tensor, y: Tensor, *, latent: gp.Latent, age: Tensor) -> tuple[Tensor, gp.SegmentInfo]:
            self.drawn.append(torch.rand(len(x)))
            nothing = torch.zeros(len(x))
            return self.weight * 1.0, gp.SegmentInfo(latent, nothing.mean(), nothing.mean(), nothing, x == y)

    x, state = torch.zeros(8, 1), torch.zeros(8, 1, 1)
    segments = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        before, segment = torch.get_rng_state(), Drawing()
        shares = Shares(2, torch.device("cpu"))
        shares.backward(segment, x, x, gp.Latent(state, state), torch.zeros(8), NoClock(), seed)
        assert torch.equal(torch.get_rng_state(), before)
        segments.append(segment.drawn)
    one, again, other = segments
    assert all(map(torch.equal, one, again))
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one[0], other[0])


def test_work_is_shared_out_evenly() -> None:
    for count, world in ((7, 2), (8, 2), (1, 3), (5, 4)):
        parts = []
        for rank in range(world):
            shares = Shares(1, torch.device("cpu"))
            shares.world, shares.rank = world, rank
            parts.append(shares.some(count))
        assert len({len(part) for part in parts}) == 1
        assert torch.cat(parts)[:count].tolist() == list(range(count))


@pytest.mark.slow
def test_scaling_writes_what_it_measured(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "scaling.py"
    tiny = ["--rounds=1", "--updates=5", "--batch-size=8", "--width=8", "--puzzles=1", f"--out={tmp_path / 's.json'}"]
    subprocess.run([sys.executable, str(script), *tiny], check=True, capture_output=True, timeout=120)
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["cases"].keys() == {f"{kind}, {number}" for kind in ("training", "rollouts") for number in (1, 2)}
    for case in found["cases"].values():
        assert 0 < case["min"] <= case["median"] <= case["max"]
    assert found["cases"]["training, 1"]["median"] == 1.0


def test_the_command_line_on_two_processes(tmp_path: Path) -> None:
    """Training of which a process is killed and started again, then the measurement that one process makes too."""
    folder = tmp_path / "run"
    asked = ["task.num_test=5", "task.num_validation=3", "model.width=8", "samples=3", "steps=2", "fit.batch_size=8"]
    command = ["gram-ppl", "train", "sudoku", "--preset", "gram", "--updates", "12", "--out", str(folder), "--json"]
    options = [part for setting in [*asked, "fit.evaluations=2"] for part in ("--set", setting)]
    printed = run([*command, *options], environment={"KILL": "7"}, by=(*TORCHRUN, "--max-restarts=1"))
    trained = json.loads(printed)
    assert trained["updates"] == 12
    _, document = checkpoint.read(folder / gp.STATE_FILE)
    assert document["update"] == 12
    assert [record[0] for record in document["history"]] == list(range(1, 13))
    model, _, task = gp.load(folder)
    one = measure(model, task, task.inputs("test"), Measurement(samples=3, steps=2))
    two = json.loads(run(["gram-ppl", "evaluate", str(folder), "--json"], environment={}))
    for name in one.keys() - {"seconds"}:
        assert two[name] == pytest.approx(one[name]), name
        assert trained[name] == pytest.approx(one[name]), name


def test_no_state_and_resume_none_begins(tmp_path: Path) -> None:
    weights, _ = fit(tmp_path, 3, resume=None)
    again, _ = fit(tmp_path, 3, resume=None)
    close(weights, again, 0)
