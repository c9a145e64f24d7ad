"""``gram-ppl``: train, solve, generate, evaluate, report and watch from a shell.

Puzzles come from an argument, a file or standard input; answers go to standard output, as text or, with ``--json``,
as one JSON document and nothing else. Bad input is one sentence on standard error and exit code 2.
"""

from __future__ import annotations

import typer

from ..training.interrupt import prompt
from .apping import local
from .measuring import evaluate, generate, report, shipped
from .solving import solve
from .training import train
from .watching import watch

app = typer.Typer(
    name="gram-ppl",
    help="GRAM, Generative Recursive Reasoning: train it, and get many verified answers to one puzzle.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _examples(*lines: str) -> str:
    return "\n\n".join(["Examples:", *lines])


app.command(
    epilog=_examples(
        "gram-ppl train sudoku",
        "gram-ppl train sudoku --preset 9x9 --out runs/nine",
        "gram-ppl train queens --updates 8000 --set task.n=6 --set beta.last=0.6",
        "gram-ppl train sudoku --resume",
    )
)(train)
app.command(
    epilog=_examples(
        'gram-ppl solve runs/sudoku "1... .... ...2 ...."',
        'gram-ppl solve runs/sudoku "1... .... ...2 ...." --all',
        "gram-ppl solve runs/sudoku puzzles.txt --json > answers.json",
        "head -5 puzzles.txt | gram-ppl solve pretrained:sudoku4 -",
    )
)(solve)
app.command(epilog=_examples("gram-ppl generate runs/unconditional --samples 12"))(generate)
app.command(epilog=_examples("gram-ppl evaluate runs/sudoku --samples 20 --steps 16 --select vote"))(evaluate)
app.command(epilog=_examples("gram-ppl report runs/sudoku"))(report)
app.command(epilog=_examples('gram-ppl watch pretrained:sudoku4 "1... .... ...2 ...." --out page.html'))(watch)
app.command("app", epilog=_examples("gram-ppl app", "gram-ppl app runs/mine pretrained:queens8 --port 8000"))(local)
app.command("list")(shipped)


def main() -> None:
    """The console script."""
    with prompt():
        app(prog_name="gram-ppl")
