"""Rows of figures in a JSON file, each written as soon as it is measured: the command goes on with missing ones."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gpu"


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """The options of every script that writes rows: where it computes, how large, and the file."""
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="small enough for seconds on a CPU")
    parser.add_argument("--result", type=Path, default=RESULTS / f"{name}-rows.json")


class Rows:
    """The rows of one file, and what they were measured on.

    Args:
        path: the file.
        device: whose name stands in it.
        about: what else stands in it.
    """

    def __init__(self, path: Path, device: torch.device, **about: Any) -> None:
        self.path = path
        self.document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": {}}
        self.document |= {"torch": torch.__version__, **about}
        self.document["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"

    def row(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of that name, measured and written unless it is there."""
        rows: dict[str, dict[str, Any]] = self.document["rows"]
        if key not in rows:
            rows[key] = measure()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.document, indent=1) + "\n")
        return rows[key]
