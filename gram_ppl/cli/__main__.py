"""``python -m gram_ppl.cli`` is ``gram-ppl``."""

from . import main

main()
