"""``gram-ppl app``: a page on this machine on which puzzles are typed, drawn and solved."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from typing import Annotated

import typer

from ..storage.places import PRETRAINED, names
from .asking import offered
from .folders import answering

HOST = "127.0.0.1"  # of this machine alone
FIRST = "sudoku4"  # what anybody knows, answered at once
NEEDED = "gram-ppl app needs the extra: pip install 'gram-ppl[app]'"


def local(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Runs' folders, pretrained:NAME or hub:OWNER/NAME to choose from; all shipped weights if not given.",
            autocompletion=lambda: [f"{PRETRAINED}{name}" for name in names()],
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0 takes a free one.")] = 7860,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Open a page on which puzzles are typed, drawn, solved and watched; only this machine can see it.

    It needs the extra: pip install 'gram-ppl[app]'. Nothing leaves this machine, and no network is needed. Ctrl-C ends
    it.
    """
    with answering(False):
        if find_spec("gradio") is None:
            raise ValueError(NEEDED)
        for name in models or []:
            offered(name)
        place = free(port)
        from .page import serve

        shipped = sorted(names(), key=lambda name: name != FIRST)
        serve(models or [f"{PRETRAINED}{name}" for name in shipped], HOST, place, browser)


def free(port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        ValueError: somebody else has it.
    """
    with socket.socket() as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, port))
        except OSError:
            raise ValueError(f"--port: {port} is taken on this machine; --port 0 takes a free one") from None
        return int(found.getsockname()[1])
