"""Windows and macOS, as far as Linux can play them: no module or function of POSIX is needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gram_ppl.runtime.precision import chosen

BARE = """
import os, signal, sys
from pathlib import Path
import accelerate, matplotlib.pyplot, psutil, pyro, rich.console, typer  # may use what they like
for name in ("fcntl", "resource", "termios", "pwd", "grp", "tty", "pty"):
    sys.modules[name] = None
for name in ("pread", "pwrite", "fork", "getuid", "killpg", "mkfifo"):
    delattr(os, name)
for name in ("SIGALRM", "SIGKILL", "SIGHUP", "SIGUSR1", "setitimer", "alarm"):
    delattr(signal, name)
"""
TRAIN = """
import gram_ppl as gp
import gram_ppl.cli
task = gp.tasks.Sudoku(num_validation=4, num_test=4)
model = gp.models.GRAM(task.spec, width=8)
gp.fit(model, gp.guides.AmortizedGuide(model), task, updates=2, batch_size=4, out=sys.argv[1])
assert gp.load(sys.argv[1])[2].line(task.inputs("test")[0]) == task.line(task.inputs("test")[0])
"""
MSVCRT = """
import errno, types
held, places = set(), []
def locking(file, mode, size):
    places.append((os.lseek(file, 0, os.SEEK_CUR), mode, size))
    if os.fstat(file).st_ino in held:
        raise OSError(errno.EACCES, "Permission denied")
    held.add(os.fstat(file).st_ino)
sys.modules["msvcrt"] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
from gram_ppl.storage.folder import FolderInUse, locked
with locked(sys.argv[1]):
    pass
try:
    with locked(sys.argv[1]):
        pass
except FolderInUse as error:
    assert f"process {os.getpid()}" in str(error), error
else:
    raise AssertionError("locked twice")
assert places == [(1 << 30, 2, 1)] * 2, places
"""


@pytest.mark.parametrize("code", [TRAIN, MSVCRT], ids=["train", "lock of Windows"])
def test_nothing_of_posix_is_needed(tmp_path: Path, code: str) -> None:
    done = subprocess.run([sys.executable, "-c", BARE + code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_mps_only_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen(None) == torch.device("cpu")
    assert chosen("mps") == torch.device("mps")
    with pytest.raises(ValueError, match=r"expected one of cpu, mps:0, found 'cuda'"):
        chosen("cuda")


def test_a_device_without_float64(tmp_path: Path) -> None:
    """MPS has none: ``tests/elsewhere.py`` plays such a device in a process of its own."""
    if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this PyTorch has no backends written in Python")
    script = Path(__file__).with_name("elsewhere.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
