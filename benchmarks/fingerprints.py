"""Whether a change keeps every run what it was: the SHA-256 of the weights after a few updates of each preset.

Run it before and after on one machine, with one thread, and compare the lines. Presets of the paper's size train on
batches of 16 rows, and their learning rate is as it is.

    OMP_NUM_THREADS=1 python benchmarks/fingerprints.py --arc DATA > before.txt
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors import safe_open

import gram_ppl as gp
from gram_ppl import presets


def digest(path: Path) -> str:
    """Of the tensors of a checkpoint, by name; what describes them does not count."""
    found = hashlib.sha256()
    with safe_open(path, framework="pt") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name).contiguous()
            found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            found.update(tensor.flatten().numpy().tobytes())
    return found.hexdigest()[:16]


def fingerprint(task: str, name: str, updates: int, arc: Path | None) -> tuple[str, str]:
    """Digests of model and state after a run of one preset."""
    changes: dict[str, Any] = {"fit.updates": updates, "fit.evaluations": 2, "fit.evaluate_on": 8}
    if name == "paper":
        changes |= {"fit.batch_size": 16}
    if task == "arc":
        changes |= {"task.root": str(arc), "task.only": ["00d62c1b"]}
        if name == "paper":
            changes |= {"task.canvas": 10, "task.translate": False, "task.only": ["0ca9ddb6"]}
    parts = presets.build(presets.get(task, name, changes), seed=0)
    options = parts.fit | {"evaluate_steps": 2}
    with tempfile.TemporaryDirectory() as folder:
        gp.fit(
            parts.model, parts.guide, parts.task, objective=parts.objective, **options, out=folder, progress=False,
            device="cpu", seed=0,
        )  # fmt: skip
        return digest(Path(folder) / "model.safetensors"), digest(Path(folder) / gp.STATE_FILE)


def main() -> None:
    """Print a line for each preset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--only", nargs="*", help="Presets as TASK:NAME; all if not given.")
    parser.add_argument("--arc", type=Path, help="Folder of ARC-AGI-1; without it ARC's presets are left out.")
    given = parser.parse_args()
    for task, found in presets.PRESETS.items():
        for name in found:
            if (given.only and f"{task}:{name}" not in given.only) or (task == "arc" and given.arc is None):
                continue
            if "data" in found[name].needs or (name == "gpu" and not given.only):
                continue  # there are no data, or too large a batch
            start = time.perf_counter()
            model, state = fingerprint(task, name, given.updates, given.arc)
            seconds = time.perf_counter() - start
            print(f"{task}:{name:<8} model {model} state {state}  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
