"""What is to be said of trained weights: on what, how and how long they were trained, what they are worth."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .folder import json_object

CARD_FILE = "card.json"
TEXT_FILE = "README.md"  # what the hub shows


@dataclass(frozen=True, kw_only=True)
class Card:
    """Of one model.

    Args:
        about: one sentence.
        data: what it was trained on, and what it was measured on.
        command: trains it again.
        version: of the code, a commit.
        device: on which it was trained.
        seed: of the training.
        updates: of the training.
        flops: floating point operations of the training.
        seconds: of the training.
        parameters: of the model.
        figures: what ``gram-ppl evaluate`` says of it; ``seed`` 0.
        limits: what it can't do.
        sha256: of the file with the weights.
    """

    about: str
    data: str
    command: str
    version: str
    device: str
    seed: int
    updates: int
    flops: float
    seconds: float
    parameters: int
    figures: dict[str, Any]
    limits: str
    sha256: str

    @classmethod
    def read(cls, folder: Path) -> Card | None:
        """That of a folder; None if there is none.

        Raises:
            ValueError: the file is damaged.
        """
        found = json_object(folder / CARD_FILE)
        try:
            return cls(**found) if found else None
        except TypeError:
            raise ValueError(f"{folder / CARD_FILE}: the file is damaged") from None

    def write(self, folder: Path) -> None:
        """As JSON, and as the text that the hub shows."""
        (folder / CARD_FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        (folder / TEXT_FILE).write_text(self.text(folder.name), encoding="utf-8")

    def text(self, name: str) -> str:
        """As Markdown."""
        figures = "\n".join(f"| {key.replace('_', ' ')} | {_plain(value)} |" for key, value in self.figures.items())
        return f"""---
library_name: gram_ppl
license: apache-2.0
---
# {name}

{self.about}

- Trained on: {self.data}
- Trained by: `{self.command}` at {self.version}, seed {self.seed}: {self.updates:,} updates, {self.flops:.2g}
  operations, {self.seconds:,.0f} s on {self.device}
- Parameters: {self.parameters:,}
- Limits: {self.limits}
- SHA-256 of the weights: `{self.sha256}`

| `gram-ppl evaluate pretrained:{name}` | |
|---|---|
{figures}
"""


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
