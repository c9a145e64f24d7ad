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
from gram_ppl.distributed import JointNoise, Shares

sys.path.insert(0, str(Path(__file__).parent))

from processes import fit

SCRIPT = Path(__file__).parent / "processes.py"
UPDATES = 50


def launch(folder: Path, name: str, *more: str, processes: int = 2, restarts: int = 0, stop_at: int = 0) -> None:
    """Run the script to its end under torchrun, or in one plain process."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    launcher += [f"--max-restarts={restarts}", "--monitor-interval=0.2"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(SCRIPT), str(folder), str(UPDATES), name]
    unset = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "WORLD_SIZE"))}
    environment = {**unset, "OMP_NUM_THREADS": "1", "STOP_AT": str(stop_at)}
    done = subprocess.run([*command, *more], env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


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


def test_two_processes_are_one(alone: Any, tmp_path: Path) -> None:
    launch(tmp_path, "two")
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
    launch(tmp_path, "b", processes=1, stop_at=40)
    launch(tmp_path, "c")
    first, second = results(tmp_path, "c")
    close(first, second, 0)
    close(first, alone[0])


def test_a_killed_process_is_started_again(alone: Any, tmp_path: Path) -> None:
    launch(tmp_path, "killed", "34", restarts=2)
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
        with JointNoise(6, share):
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
    gram, trm = gp.models.GRAM(task.spec, width=8), gp.models.TRM(task.spec, width=8)
    for model, options, sentence in (
        (gram, {"accumulate": 0}, "accumulate must be at least 1, got 0"),
        (gram, {"accumulate": 3}, "batch_size must be a multiple of 1 processes times accumulate=3, got 16"),
        (gram, {"accumulate": 2, "heads_every": 1}, "heads_every needs one process"),
        (trm, {"accumulate": 2}, "TRM halts row by row"),
    ):
        guide = gp.guides.PriorGuide(model) if model is gram else gp.guides.Empty(model)
        with pytest.raises(ValueError, match=sentence):
            gp.fit(model, guide, task, updates=1, batch_size=16, progress=False, **options)


def test_no_state_and_resume_none_begins(tmp_path: Path) -> None:
    weights, _ = fit(tmp_path, 3, resume=None)
    again, _ = fit(tmp_path, 3, resume=None)
    close(weights, again, 0)
