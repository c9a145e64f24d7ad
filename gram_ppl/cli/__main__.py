"""``python -m gram_ppl.cli`` is ``gram-ppl``."""

from . import app

app(prog_name="gram-ppl")
