"""Where a model is: the folder of a run, weights that the library brings, or a repository on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
PRETRAINED, HUB = "pretrained:", "hub:"
FILES = ("model.safetensors", "run.json", "card.json", "README.md", "*.csv")  # of a repository, what is downloaded


def names() -> list[str]:
    """Of the weights that the library brings."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/model.safetensors"))


def located(place: str | Path) -> Path:
    """The folder that holds a model.

    Args:
        place: a folder, ``pretrained:NAME`` or ``hub:OWNER/NAME``, which is downloaded (or found in the hub's cache).

    Raises:
        ValueError: no such weights, no such repository, or the download failed.
    """
    text = str(place)
    if text.startswith(PRETRAINED):
        name = text.removeprefix(PRETRAINED)
        if name not in names():
            raise ValueError(f"{text}: there are no such weights; there are {', '.join(names())}")
        return WEIGHTS / name
    if not text.startswith(HUB):
        return Path(place)
    return _snapshot(text)


@cache
def _snapshot(place: str) -> Path:
    """Where a repository is, asked for once: model and measurement are of the same state of it."""
    from huggingface_hub import snapshot_download

    return Path(_asked(place, lambda name: snapshot_download(name, allow_patterns=list(FILES))))


def upload(place: str, folder: Path) -> None:
    """Put the files of a folder into a repository ``hub:OWNER/NAME``, which is made if there is none.

    Raises:
        ValueError: no such name, or the upload failed.
    """
    from huggingface_hub import HfApi

    api = HfApi()

    def put(name: str) -> str:
        api.create_repo(name, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=folder))

    _asked(place, put)
    _snapshot.cache_clear()


def _asked(place: str, call: Callable[[str], str]) -> str:
    name = place.removeprefix(HUB)
    if len(name.split("/")) != 2 or not all(name.split("/")):
        raise ValueError(f"{place}: expected {HUB}OWNER/NAME")
    try:
        return call(name)
    except Exception as error:  # the hub raises errors of many libraries
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{place}: the hub did not answer as hoped ({type(error).__name__}: {reason})") from error
