"""The local page: what it answers without Gradio, and the page itself where Gradio is."""

from __future__ import annotations

import re
import socket
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import gram_ppl as gp
from gram_ppl.cli import app, apping, asking, drawing
from gram_ppl.cli.puzzles import pasted
from gram_ppl.reporting.board import board, spots
from gram_ppl.storage import places
from gram_ppl.tasks.base import Task

from . import chromium

SUDOKU, QUEENS, COLORING, GRIDS = (f"pretrained:{name}" for name in ("sudoku4", "queens8", "coloring8", "grids4"))
PUZZLE = "1... .... ...2 ...."

# A question ----------------------------------------------------------------------------------------------------------


def test_an_answer_is_that_of_the_rollout() -> None:
    answer = asking.ask(SUDOKU, PUZZLE, 12, 3)
    model, _, task, options = gp.pretrained("sudoku4")
    x = task.parse(PUZZLE)
    out = gp.rollout(model, x[None], **options | {"num_samples": 12, "seed": 3})
    right = out.tokens[0][task.verify(x, out.tokens[0]) & out.answered[0]]  # type: ignore[index]
    different = {tuple(row) for row in right.tolist()}
    assert (answer.found, answer.solutions, answer.exact) == (len(different), 18, True)
    assert len(answer.boards) == answer.found
    assert answer.sentence.startswith(f"{len(different)} of 18 solutions found: {len(right)} of 12 trajectories")
    assert f"{int(out.steps.sum()):,} supervision steps" in answer.facts
    assert f"{int(out.steps.sum()) * model.step_calls:,} network calls" in answer.facts
    assert f"{int(out.restarts.sum()):,} restarts" in answer.facts  # type: ignore[union-attr]
    assert answer.page.startswith("<!doctype html>")


def test_a_spent_budget_leaves_a_puzzle_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOMENTS", 2)
    answer = asking.ask(SUDOKU, PUZZLE, 2)
    assert answer.sentence == "Unanswered: none of 2 trajectories came to an answer within 4 supervision steps."
    assert answer.solutions == 18


def test_boards_from_nothing_need_no_text() -> None:
    answer = asking.ask(GRIDS, "whatever", 4)
    assert answer.solutions == 288
    assert answer.found >= 1


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        (SUDOKU, "", "A 4 x 4 puzzle has 16 characters, found 0."),
        (SUDOKU, "1..", "A 4 x 4 puzzle has 16 characters, found 3."),
        (SUDOKU, "x" + "." * 15, "is 'x': expected a digit from 1 to 4"),
        (SUDOKU, "11" + "." * 14, "The givens clash: the digit 1 stands twice in row 1"),
        (SUDOKU, "12.. ..3. ..4. ....", "has no solution"),
        (SUDOKU, f"{PUZZLE}\n{PUZZLE}", "One puzzle at a time, please: there are 2."),
        (SUDOKU, "1" * 20_001, "at most 20,000 characters here"),
        (SUDOKU, __file__, "A 4 x 4 puzzle has 16 characters"),  # a name of a file is none
        (QUEENS, "Q", "A board of 8 x 8 has 64 characters, found 1."),
        (QUEENS, "QQ" + "." * 62, "attack each other: they share a row."),
        (COLORING, "0-8", "the nodes are 0 to 7"),
        (COLORING, "0-0", "joins a node to itself"),
        (COLORING, "0-1 0-2 0-3 1-2 1-3 2-3", "no proper colouring with 3 colours"),
        ("pretrained:none", PUZZLE, "there are no such weights"),
        ("no/such/folder", PUZZLE, "no/such/folder"),
    ],
)  # fmt: skip
def test_bad_puzzles_are_one_sentence(name: str, text: str, sentence: str) -> None:
    answer = asking.ask(name, text)
    assert sentence in answer.sentence
    assert "\n" not in answer.sentence
    assert len(answer.sentence) <= asking.SENTENCE
    assert answer[1:] == asking.Answer("")[1:]


@pytest.mark.parametrize(
    "limits", [{"samples": 0}, {"samples": 51}, {"samples": 1.5}, {"seed": -1}, {"seed": 2**32}, {"seconds": 0},
               {"seconds": 1e9}, {"seconds": float("nan")}],
)  # fmt: skip
def test_limits(limits: dict[str, Any]) -> None:
    answer = asking.ask(SUDOKU, PUZZLE, **limits)
    assert "please" in answer.sentence or "whole numbers" in answer.sentence
    assert answer.page == ""


def test_the_end_of_the_time_leaves_a_puzzle_unanswered(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10_000, 7))
    monkeypatch.setattr(asking, "perf_counter", lambda: next(ticks))
    answer = asking.ask(SUDOKU, PUZZLE, 3, seconds=10)
    assert answer.sentence == "Unanswered: none of 3 trajectories came to an answer within 10 seconds."
    assert answer.page != ""


def test_one_solution_ends_the_search_where_it_was_measured_so() -> None:
    offer = asking.offered("pretrained:sudoku9")
    line = offer.task.line(offer.task.answers("test")[0])  # type: ignore[attr-defined]
    answer = asking.ask(offer.name, "." + line[1:])
    assert answer.sentence.startswith("1 of 1 solution found")


# Text and drawings ---------------------------------------------------------------------------------------------------


def test_files_are_pasted_as_they_are() -> None:
    coloring, sudoku = gp.tasks.GraphColoring(4, num_train=5, num_validation=2, num_test=3), gp.tasks.Sudoku()
    dimacs = "c a square\np edge 4 4\ne 1 2\ne 2 3\ne 3 4\ne 4 1\n"
    assert coloring.line(pasted(coloring, dimacs).x) == "0-1 0-3 1-2 2-3"
    assert sudoku.line(pasted(sudoku, "# a comment\n" + PUZZLE.replace(" ", "\n")).x) == PUZZLE.replace(" ", "")


BOARDS = [gp.tasks.Sudoku(), gp.tasks.NQueens(6), gp.tasks.NQueens(6, tokens="rows"),
          gp.tasks.GraphColoring(4, num_train=5, num_validation=2, num_test=3)]  # fmt: skip


@pytest.mark.parametrize("task", BOARDS, ids=lambda task: type(task).__name__)
def test_a_drawing_is_the_input_that_its_text_says(task: Task) -> None:
    assert drawing.drawable(task)
    for x in task.inputs("test")[:5]:
        made = drawing.begun(task, x)
        assert torch.equal(task.parse(drawing.written(task, made)), x)
        assert drawing.picture(task, made).count("data-spot=") == len(spots(task.scene(x)))


def test_what_can_not_be_drawn() -> None:
    maze = gp.tasks.Maze((4, 4), pool=20, num_validation=2, num_test=2)
    assert not drawing.drawable(maze)


def test_digits_are_turned_and_typed() -> None:
    task = BOARDS[0]
    made = drawing.begun(task, task.blank)
    for expected in ("1", "2", "3", "4", "."):
        made = drawing.touched(task, made, 5)
        assert drawing.written(task, made)[5] == expected
    made = drawing.touched(task, made, 5, "3")
    assert drawing.touched(task, made, 5, "9") == made  # no such digit
    assert drawing.written(task, made) == "....." + "3" + "." * 10
    assert drawing.touched(task, made, 5, "Delete") == drawing.begun(task, task.blank)
    assert drawing.touched(task, made, 99) == made


@pytest.mark.parametrize("task", BOARDS[1:3], ids=["cells", "rows"])
def test_queens_are_placed_and_taken_back(task: Task) -> None:
    empty = drawing.begun(task, task.blank)
    made = drawing.touched(task, empty, 8)  # row 2, column 3
    assert drawing.written(task, made).split("\n")[1].replace(" ", "") == "..Q..."
    assert drawing.touched(task, made, 8) == empty


def test_two_nodes_are_joined_and_part() -> None:
    task = BOARDS[3]
    empty = drawing.begun(task, task.parse(""))
    one = drawing.touched(task, empty, 3)
    assert one.chosen == 3
    assert 'class="chosen"' in drawing.picture(task, one)
    assert drawing.touched(task, one, 3) == empty
    two = drawing.touched(task, one, 1)
    assert drawing.written(task, two) == "1-3"
    assert drawing.touched(task, drawing.touched(task, two, 1), 3) == empty


def test_an_answer_keeps_what_is_given_apart() -> None:
    task = BOARDS[0]
    x = task.parse(PUZZLE)
    drawn = board(task.scene(x), task.solutions(x)[0].tolist(), label='"a" < b')
    assert len(re.findall('<text class="given-text"', drawn)) == 2
    assert len(re.findall('<text class="found-text"', drawn)) == 14
    assert 'aria-label="&quot;a&quot; &lt; b"' in drawn


# The command ---------------------------------------------------------------------------------------------------------


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["app", *map(str, arguments)])


def test_without_the_extra_it_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apping, "find_spec", lambda name: None)
    done = call()
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"error: {apping.NEEDED}\n")


def test_the_page_begins_with_a_small_sudoku(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[str]] = []
    page = ModuleType("gram_ppl.cli.page")
    page.serve = lambda names, *rest: shown.append(names)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gram_ppl.cli.page", page)
    monkeypatch.setattr(apping, "find_spec", lambda name: True)
    assert call("--port", 0).exit_code == 0
    assert shown[0][0] == SUDOKU
    assert sorted(shown[0]) == [f"pretrained:{name}" for name in places.names()]


def test_a_bad_model_or_a_taken_port_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apping, "find_spec", lambda name: True)
    assert "there are no such weights" in call("pretrained:none").stderr
    with socket.socket() as other:
        other.bind((apping.HOST, 0))
        other.listen()
        done = call("--port", other.getsockname()[1])
    assert done.exit_code == 2
    assert "is taken on this machine" in done.stderr


# The page ------------------------------------------------------------------------------------------------------------

shown = pytest.mark.skipif(find_spec("gradio") is None, reason="Gradio is not installed (pip install 'gram-ppl[app]')")
seen = pytest.mark.skipif(chromium.FOUND is None, reason="no Chromium on this machine (Debian: chromium)")
quiet = pytest.mark.filterwarnings("default")  # those of Gradio and its server are not ours


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from gram_ppl.cli.page import serve

    port = apping.free(0)
    page = serve([SUDOKU, QUEENS, COLORING, GRIDS], apping.HOST, port, False, wait=False)
    yield f"http://{apping.HOST}:{port}/"
    page.close()


@shown
@quiet
def test_the_page_answers_a_client(address: str) -> None:
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    client = Client(address, verbose=False)
    result, page = client.predict(SUDOKU, PUZZLE, 12, 3, 60, api_name="/solve")
    assert "of 18 solutions found" in result
    assert result.count("<svg") == asking.ask(SUDOKU, PUZZLE, 12, 3).found
    assert page.startswith('<iframe title="Watch it think" sandbox="allow-scripts" srcdoc="&lt;!doctype html&gt;')
    result, page = client.predict(SUDOKU, "<b>1", 12, 3, 60, api_name="/solve")
    assert "A 4 x 4 puzzle has 16 characters, found 4." in result
    assert page == ""
    for other in ("pretrained:sudoku9", str(Path(__file__).parent)):  # which were not offered
        with pytest.raises(AppError):
            client.predict(other, PUZZLE, 12, 3, 60, api_name="/solve")
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/solve"]


def until(browser: chromium.Browser, expression: str, again: str | None = None) -> None:
    """Wait until it holds; what may be clicked ``again`` is, every three seconds."""
    for moment in range(600):
        if browser.value(expression):
            return
        if again is not None and moment % 30 == 29:
            browser.click(again)
        time.sleep(0.1)
    raise AssertionError(f"never: {expression}")


@shown
@seen
@quiet
@pytest.mark.parametrize("size", [(1200, 900), (390, 844)], ids=["desk", "phone"])
def test_a_click_through(address: str, tmp_path: Path, size: tuple[int, int]) -> None:
    with chromium.Browser(tmp_path, size) as browser:
        browser.open(address)
        text, said = "document.querySelector('#puzzle textarea').value", "document.querySelector('#hint').innerText"
        until(browser, "document.querySelectorAll('#drawing [data-spot]').length === 16")
        browser.click("#clear")
        until(browser, f"{text} === '{'.' * 16}'", again="#clear")  # the first click may come before the page listens
        browser.click('[data-spot="0"]')
        until(browser, f"{text}.startsWith('1...')")
        browser.click('[data-spot="1"]')
        until(browser, f"{said}.includes('The givens clash')")
        browser.click('[data-spot="1"]')
        until(browser, f"{text}.startsWith('12..')")
        browser.click("#solve")
        until(browser, "document.querySelector('#result .sentence')?.innerText.includes('solutions found')")
        until(browser, "document.querySelector('#watch iframe')?.clientHeight > 400")
        assert browser.value("document.querySelectorAll('#result .board').length") > 2
        for name, places in ((QUEENS, 64), (COLORING, 8)):
            browser.click("#weights input")
            until(browser, f"!!document.querySelector('[role=option][aria-label=\"{name}\"]')")
            browser.click(f'[role=option][aria-label="{name}"]')
            until(browser, f"document.querySelectorAll('#drawing [data-spot]').length === {places}")
            until(browser, "!document.querySelector('#result .sentence')")
            browser.click("#solve")
            until(browser, "document.querySelector('#result .sentence')?.innerText.includes('found')")
            assert browser.value("document.documentElement.scrollWidth") <= size[0]
        asked = {request.split("/")[2] for request in browser.requests() if request.startswith("http")}
        assert asked == {address.split("/")[2]}
        assert browser.complaints() == []
