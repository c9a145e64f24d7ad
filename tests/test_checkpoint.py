"""Checkpoints: exact round trip, and a clear error that names the file for whatever is wrong with it."""

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import gram_ppl as gp
from gram_ppl.storage import checkpoint


@pytest.fixture(scope="module")
def task() -> gp.tasks.Sudoku:
    return gp.tasks.Sudoku(box=(2, 2), clues=(4, 8), num_validation=10, num_test=10)


@pytest.fixture
def folder(task: gp.tasks.Sudoku, tmp_path: Path) -> Path:
    mixer = gp.nn.Attention(heads=2, rope=True)
    model = gp.models.GRAM(task.spec, width=8, mixer=mixer, noise=gp.models.ZeroMeanNoise(scale=0.2), shared=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    gp.save(tmp_path, model, gp.guides.EveryTransition(model), task)
    return tmp_path


def test_what_is_loaded_is_what_was_saved(task: gp.tasks.Sudoku, folder: Path) -> None:
    model, guide, same_task = gp.load(folder)
    stored, document = checkpoint.read(folder / "model.safetensors")
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    state |= {f"guide.{key}": value for key, value in guide.state_dict().items()}
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[key], stored[key]) for key in state)
    assert type(guide) is gp.guides.EveryTransition
    assert guide.model is model
    assert isinstance(model, gp.models.GRAM)
    assert model.config["mixer"] == gp.nn.Attention(heads=2, rope=True)
    assert model.noise == gp.models.ZeroMeanNoise(scale=0.2)
    assert torch.equal(same_task.inputs("test"), task.inputs("test"))
    assert json.loads(json.dumps(document)) == document


def test_a_guide_of_ones_own(task: gp.tasks.Sudoku, tmp_path: Path) -> None:
    class Mine(gp.guides.AmortizedGuide):
        pass

    model = gp.models.GRAM(task.spec, width=8)
    gp.save(tmp_path, model, Mine(model), task)
    with pytest.raises(gp.CheckpointError, match=r"Mine.*guide="):
        gp.load(tmp_path)
    assert type(gp.load(tmp_path, guide=Mine)[1]) is Mine


def test_missing_and_foreign_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(gp.CheckpointError, match=r"nowhere.*no such"):
        gp.load(tmp_path / "nowhere")
    path = folder / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(gp.CheckpointError, match=r"model\.safetensors: not a gram_ppl checkpoint"):
        gp.load(folder)
    path.write_bytes(b"PK\x03\x04 a zip file, as torch.save writes it")
    with pytest.raises(gp.CheckpointError, match=r"model\.safetensors: the checkpoint is damaged"):
        gp.load(folder)


def test_weights_that_do_not_fit(task: gp.tasks.Sudoku, folder: Path) -> None:
    tensors, document = checkpoint.read(folder / "model.safetensors")
    for width in (4, 16):
        document["model"]["arguments"]["width"] = width
        checkpoint.write(folder / "model.safetensors", tensors, document)
        with pytest.raises(gp.CheckpointError, match=r"model\.safetensors: .*the weights do not fit"):
            gp.load(folder)


def test_tensors_that_belong_to_nothing(folder: Path) -> None:
    tensors, document = checkpoint.read(folder / "model.safetensors")
    checkpoint.write(folder / "model.safetensors", tensors | {"other.weight": torch.zeros(2)}, document)
    with pytest.raises(gp.CheckpointError, match=r"model\.safetensors: .*other\.weight: expected nothing"):
        gp.load(folder)


def test_tasks_beyond_what_a_description_may_ask_for_are_given(task: gp.tasks.Sudoku, folder: Path) -> None:
    tensors, document = checkpoint.read(folder / "model.safetensors")
    document["task"]["arguments"]["pool"] = 100_001
    checkpoint.write(folder / "model.safetensors", tensors, document)
    with pytest.raises(gp.CheckpointError, match=r"pool=100001, more than 100000: give load task="):
        gp.load(folder)
    assert gp.load(folder, task=task)[2] is task


@pytest.mark.parametrize(
    "name", ["os.system", "gram_ppl.models.__loader__", "gram_ppl.storage.checkpoint.write", "gram_ppl.x.Y"]
)
def test_only_classes_of_the_project_are_built(folder: Path, name: str) -> None:
    tensors, document = checkpoint.read(folder / "model.safetensors")
    document["guide"] = {"class": name, "arguments": {}}
    checkpoint.write(folder / "model.safetensors", tensors, document)
    with pytest.raises(gp.CheckpointError, match=r"model\.safetensors"):
        gp.load(folder)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_flipped_bit_and_every_truncation_is_found(folder: Path, data: st.DataObject) -> None:
    path = folder / "model.safetensors"
    if not (folder / "whole").exists():
        (folder / "whole").write_bytes(path.read_bytes())
    whole = (folder / "whole").read_bytes()
    if data.draw(st.booleans()):
        damaged = bytearray(whole)
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        damaged = bytearray(whole)[: data.draw(st.integers(0, len(whole) - 1))]
    path.write_bytes(damaged)
    with pytest.raises(gp.CheckpointError, match=re.escape(str(path))):
        checkpoint.read(path)


def test_writing_is_atomic(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "model.safetensors"
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(path, {"a": torch.zeros(2)}, {})
    assert path.read_bytes() == before
    assert [file.name for file in folder.iterdir()] == ["model.safetensors"]
