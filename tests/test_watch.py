"""The page to watch: what is in it is what the model did, and it does what its buttons say."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import gram_ppl as gp
from gram_ppl.cli import app
from gram_ppl.inference.course import course
from gram_ppl.reporting.watch import CHANGED, DECIDED, summary, watch_page, watched
from gram_ppl.runtime.precision import fast, full
from gram_ppl.state import Latent
from gram_ppl.tasks.base import Task

from .chromium import FOUND, Browser

TASK = gp.tasks.Sudoku((2, 2), (12, 14), num_validation=8, num_test=8)  # few are blank, so that luck suffices
X = TASK.inputs("test")[2]  # two blanks
PUZZLE = "1... .... ...2 ...."
N = 6


class Knowing(gp.models.Deciding):
    """It decides at random, and knows which sets of candidates leave no grid."""

    def settled(self, z: Latent, before: Latent) -> tuple[torch.Tensor, torch.Tensor]:
        held = TASK.solutions(TASK.blank)[..., None] == torch.arange(5)  # [288, 16, 5]
        left = (z.sets[:, None] >= held).all(-1).all(-1).any(-1)
        return (z.sets.sum(-1) == 1).all(-1) & left, ~left


def deciding(policy: Any = gp.models.RandomCells()) -> Knowing:  # noqa: B008 (frozen)
    return Knowing(TASK.spec, width=16, transitions=1, block=2, supervision=40, policy=policy)


def unpacked(data: dict[str, Any], name: str, kind: str) -> torch.Tensor:
    values = np.frombuffer(base64.b64decode(data[name]), kind).astype(np.int64)
    return torch.from_numpy(values).view(len(data["steps"]), data["trajectories"], -1)


def seen(model: Any, x: torch.Tensor, task: Task = TASK, **options: Any) -> dict[str, Any]:
    moments = list(course(model, x, num_samples=N, seed=3, **options))
    return json.loads(json.dumps(watched(task, x, moments, (len(task.solutions(x)), True))))


# What is in it --------------------------------------------------------------------------------------------------------


def test_decisions_and_answers_are_those_of_the_rollout() -> None:
    model, x = deciding(), X
    data = seen(model, x, steps=40)
    out = gp.rollout(model, x[None], num_samples=N, steps=40, seed=3)
    assert out.answered is not None
    assert out.restarts is not None
    assert out.restarts.sum() > 0
    assert 0 < out.answered.sum() < N
    assert data["answered"][-1] == out.answered[0].int().tolist()
    assert data["restarts"][-1] == out.restarts[0].tolist()
    tokens = unpacked(data, "tokens", "<u2")
    assert torch.equal(tokens[-1][out.answered[0]], out.tokens[0][out.answered[0]])
    ended = [next(step for step, on in zip(data["steps"], data["running"], strict=True) if not on[k]) for k in range(N)]
    assert ended == out.steps[0].tolist()
    assert data["verified"][-1] == (TASK.verify(x, out.tokens[0])).int().tolist()


def test_candidates_are_those_of_the_trajectories_until_one_begins_again() -> None:
    model, x = gp.models.Deciding(TASK.spec, width=16, block=2, contradiction=False), TASK.parse(PUZZLE)
    data = seen(model, x, steps=60)
    held, flags = unpacked(data, "candidates", "<u4"), unpacked(data, "flags", "u1")
    steps = list(gp.trajectories(model, x[None], num_samples=N, steps=60, seed=3))
    before, compared = model.begin(x[None], 1).sets.expand(N, -1, -1), 0
    for k, number in enumerate(data["steps"]):
        sets = steps[number - 1].latent.sets
        same = [n for n in range(N) if not k or (data["running"][k - 1][n] and not data["restarts"][k - 1][n])]
        bits = torch.tensor([[sum(1 << v for v in range(5) if token[v]) for token in row] for row in sets])
        assert torch.equal(held[k][same], bits[same])
        assert torch.equal((flags[k] & DECIDED)[same] > 0, (sets.sum(-1) == 1)[same])
        assert torch.equal((flags[k] & CHANGED)[same] > 0, (sets != before).any(-1)[same])
        before, compared = sets, compared + len(same)
    assert compared > 10 * N


def test_a_trajectory_begins_again_from_what_the_puzzle_leaves() -> None:
    model, x = deciding(policy=gp.models.AllSure(2.0)), X  # which decides nothing
    data = seen(model, x, steps=20)
    (begun,) = {tuple(row) for row in unpacked(data, "candidates", "<u4").flatten(0, 1).tolist()}
    assert list(begun) == [1 << token if token else 0b11110 for token in x.tolist()]
    assert sum(data["answered"][-1]) == 0
    assert "to none" in summary(data)


def test_plain_models_change_their_answer_step_by_step() -> None:
    model, x = gp.models.GRAM(TASK.spec, width=16, noise=gp.models.LearnedNoise(scale=3.0)), TASK.inputs("test")[1]
    data = seen(model, x, steps=5)
    steps = list(gp.trajectories(model, x[None], num_samples=N, steps=5, seed=3))
    tokens, sure, flags = (unpacked(data, *of) for of in (("tokens", "<u2"), ("confidence", "u1"), ("flags", "u1")))
    assert data["steps"] == [1, 2, 3, 4, 5]
    assert data["candidates"] is None
    for k, step in enumerate(steps):
        assert torch.equal(tokens[k], step.tokens[0])
        with torch.no_grad(), fast(x.device):
            probs = torch.softmax(full(model.decoder(model.decoded(step.latent.h))), dim=-1).amax(-1)
        assert (sure[k] / 255 - probs).abs().max() < 0.01  # bfloat16, and a rounding to 255ths
        changed = torch.zeros_like(tokens[0]).bool() if not k else tokens[k] != tokens[k - 1]
        assert torch.equal(flags[k] == CHANGED, changed)
        assert data["violations"][k] == TASK.violations(x, step.tokens[0]).tolist()
    assert flags.any()
    assert data["running"] == [[1] * N] * 4 + [[0] * N]


def test_a_trajectory_that_halts_stands_still_and_one_that_does_not_begins_again() -> None:
    model, x = gp.models.GRAM(TASK.spec, width=16, noise=gp.models.LearnedNoise(scale=3.0)), TASK.inputs("test")[1]
    options: dict[str, Any] = {"steps": 6, "halt": gp.halt.Stable(1), "retry": 2}
    data, out = seen(model, x, **options), gp.rollout(model, x[None], num_samples=N, seed=3, **options)
    assert torch.equal(unpacked(data, "tokens", "<u2")[-1], out.tokens[0])
    for k in (1, 3):
        assert data["again"][k] == data["running"][k]
    assert sum(map(sum, data["again"])) > 0


def test_answers_are_counted_once() -> None:
    """Against sets of tuples, on a task whose answers have several names."""
    task = gp.tasks.GraphColoring(4, num_train=5, num_validation=2, num_test=3)
    model = gp.models.Deciding(task.spec, width=16, transitions=1, block=1, supervision=40, contradiction=False)
    x = max(task.inputs("test"), key=lambda one: len(task.solutions(one)))
    moments = list(course(model, x, num_samples=40, seed=0))
    data = watched(task, x, moments, (len(task.solutions(x)), True))
    for k, moment in enumerate(moments):
        right = moment.tokens[task.verify(x, moment.tokens) & moment.answered]
        assert data["found"][k] == len({tuple(row) for row in task.canonical(right).tolist()})
    assert data["found"][-1] == len(data["answers"]) > 1
    held = [n for answer in data["answers"] for n in answer["trajectories"]]
    assert sorted(held) == [n for n, ok in enumerate(data["verified"][-1]) if ok]
    for answer in data["answers"]:
        forms = {tuple(row) for row in task.canonical(moments[-1].tokens[answer["trajectories"]]).tolist()}
        assert forms == {tuple(task.canonical(torch.tensor(answer["tokens"])).tolist())}
    start = (
        f"{len(data['answers'])} of {len(task.solutions(x))} solutions found: {len(held)} of 40 trajectories came to"
    )
    assert summary(data).startswith(start)


def test_text_can_not_leave_its_place() -> None:
    data = seen(deciding(), X, steps=4) | {"given_text": "</script><u>&"}
    page = watch_page("</title><i>", "</pre>{{data}}", data)
    assert page.count("</script>") == 2
    assert "<u>" not in page
    assert "<i>" not in page
    assert "</title>&lt;i&gt;" not in page
    found = re.search(r'id="data">(.*?)</script>', page)
    assert found is not None
    assert json.loads(found[1]) == data


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "sudoku"
    model = gp.models.Deciding(TASK.spec, width=16, transitions=1, block=2, supervision=40, threshold=0.72)
    gp.save(folder, model, gp.guides.Revealing(model), TASK)
    return folder


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["watch", *map(str, arguments)])


def test_the_command_writes_one_file_that_asks_for_no_other(run: Path, tmp_path: Path) -> None:
    done = call(run, PUZZLE, "--out", tmp_path / "new" / "page.html", "--samples", N, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]
    assert said["solutions"] == 18
    assert said["different_verified"] <= said["verified"] <= N
    page = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    held = re.search(r'id="data">(.*?)</script>', page)[1]  # type: ignore[index]
    assert re.findall(r"https?:|//\w|\bsrc=|@import|url\(", page.replace(held, "")) == []
    data = json.loads(held)
    again = gp.rollout(gp.load(run)[0], TASK.parse(PUZZLE)[None], num_samples=N, steps=160, seed=0)
    assert data["restarts"][-1] == again.restarts[0].tolist()  # type: ignore[index]


def test_without_a_puzzle_it_takes_the_first_test_input(run: Path, tmp_path: Path) -> None:
    done = call(run, "--out", tmp_path / "page.html", "--samples", 2, "--steps", 4)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    scene = TASK.scene(TASK.inputs("test")[0]).described()
    assert json.dumps(scene["given"], separators=(",", ":")) in page


@pytest.mark.parametrize(
    ("puzzle", "sentence"),
    [("1..", "has 16 characters"), ("two.txt", "a page shows one puzzle, found 2")],
)
def test_bad_puzzles(run: Path, tmp_path: Path, puzzle: str, sentence: str) -> None:
    (tmp_path / "two.txt").write_text(f"{PUZZLE}\n{PUZZLE}\n")
    done = call(run, tmp_path / puzzle if puzzle.endswith("txt") else puzzle, "--out", tmp_path / "page.html")
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert not (tmp_path / "page.html").exists()


def test_boards_from_nothing_take_no_puzzle(tmp_path: Path) -> None:
    task = gp.tasks.Unconditional(TASK)
    model = gp.models.Deciding(task.spec, width=16, transitions=1, block=1, supervision=40, contradiction=False)
    gp.save(tmp_path, model, gp.guides.Revealing(model), task)
    done = call(tmp_path, "--out", tmp_path / "page.html", "--samples", 3)
    assert done.exit_code == 0, done.output
    assert "of 288 solutions found" in done.stdout
    assert "takes no puzzle" in call(tmp_path, PUZZLE).stderr


# In a browser ---------------------------------------------------------------------------------------------------------

browsing = pytest.mark.skipif(FOUND is None, reason="no Chromium on this machine (Debian: chromium)")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("page") / "page.html"
    moments = list(course(deciding(), X, num_samples=N, steps=40, seed=3))
    data = watched(TASK, X, moments, (1, True))
    path.write_text(watch_page("Sudoku", "by hand", data), encoding="utf-8")
    return path, data


WORDS = "[...document.querySelectorAll('#boards li .word span')].map(part => part.textContent)"
DIGITS = """[...document.querySelectorAll('#boards li svg')].map(board =>
    [...board.querySelectorAll('.place')].map(place => place.querySelectorAll('text').length === 1
        ? Number(place.textContent) : 0))"""


@browsing
def test_a_click_through(browser: Browser, page: tuple[Path, dict[str, Any]]) -> None:
    path, data = page
    browser.open(path)
    last, text = len(data["steps"]), data["steps"][-1]
    assert browser.value("document.querySelectorAll('#boards li').length") == N
    assert browser.value(WORDS) == ["begins"] * N
    given = [[max(token, 0) for token in data["scene"]["given"]]] * N
    assert browser.value(DIGITS) == given

    browser.click("#on")
    assert browser.value("Number(document.querySelector('#step').value)") == 1
    tokens, flags = unpacked(data, "tokens", "<u2"), unpacked(data, "flags", "u1")
    assert browser.value(DIGITS) == (tokens[0] * (flags[0] & DECIDED)).tolist()
    changed = browser.value("document.querySelectorAll('#boards .changed').length")
    assert changed == int((flags[0] & CHANGED > 0).sum()) > 0
    browser.click("#back")
    assert browser.value(DIGITS) == given

    browser.press("End")
    where = browser.value("document.querySelector('#where').textContent")
    assert f"step {text} of {text}" in where
    assert f"{len(data['answers'])} of 1 different answers" in where
    assert browser.value("document.querySelector('#live').textContent") == where
    ends = [("✓" if right else "✗") if got else "–" for got, right in zip(data["answered"][-1], data["verified"][-1],
                                                                          strict=True)]  # fmt: skip
    assert [words[0] for words in browser.value(WORDS)] == ends
    for step, again in enumerate(data["again"]):
        if any(again):
            browser.value(f"show({step + 1})")
            assert [words.startswith("↻") for words in browser.value(WORDS)] == [
                a and r for a, r in zip(again, data["running"][step], strict=True)
            ]
    browser.press("Home")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    browser.press("ArrowLeft")
    assert browser.value("now") == 1
    assert browser.value("location.hash") == "#step=1"

    browser.value("document.querySelector('#speed').value = '4'")
    browser.value("document.activeElement.blur()")
    browser.press(" ")
    assert "Pause" in browser.value("document.querySelector('#play').textContent")
    browser.value("new Promise(done => { const wait = () => now > 2 ? done() : setTimeout(wait, 20); wait(); })")
    browser.click("#play")
    assert browser.value("timer") is None
    assert browser.value("now") < last
    browser.click("#large")
    assert browser.value("document.querySelector('#large').getAttribute('aria-pressed')") == "true"
    assert browser.complaints() == []
    assert browser.requests() == [path.resolve().as_uri()]


@browsing
def test_it_fits_a_telephone_and_has_words_for_those_who_do_not_see(
    browser: Browser, page: tuple[Path, dict[str, Any]]
) -> None:
    path, data = page
    browser.resize(390, 844, dark=True)
    browser.open(path)
    assert browser.value("document.documentElement.scrollWidth") <= 390
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    browser.press("End")
    labels = browser.value("[...document.querySelectorAll('svg[role=img]')].map(board => board.ariaLabel)")
    assert len(labels) == 1 + N + len(data["answers"])
    assert all(labels)
    assert labels[1].startswith("Trajectory 1: ")
    controls = "[...document.querySelectorAll('button, input, select')]"
    assert browser.value(f"{controls}.every(one => one.ariaLabel || one.innerText.trim())") is True
    browser.resize(1200, 900)


@browsing
@pytest.mark.parametrize(
    "task",
    [gp.tasks.NQueens(5), gp.tasks.NQueens(5, tokens="rows"),
     gp.tasks.Maze((4, 4), pool=20, num_validation=2, num_test=2),
     gp.tasks.GraphColoring(4, num_train=5, num_validation=2, num_test=3), gp.tasks.BinarizedMNIST(size=8, num_test=2)],
    ids=lambda task: type(task).__name__,
)  # fmt: skip
@pytest.mark.parametrize("decides", [True, False])
def test_every_world_is_drawn(browser: Browser, tmp_path: Path, task: Task, decides: bool) -> None:
    x = task.inputs("test")[0]
    options: dict[str, Any] = {"width": 16, "transitions": 1, "supervision": 4}
    model = gp.models.Deciding(task.spec, block=2, **options) if decides else gp.models.GRAM(task.spec, **options)
    data = watched(task, x, list(course(model, x, num_samples=2, seed=0)), None)
    (tmp_path / "page.html").write_text(watch_page("All", "", data), encoding="utf-8")
    browser.open(tmp_path / "page.html")
    for _ in range(2):
        browser.press("ArrowRight")
    browser.press("End")
    assert browser.value("document.querySelectorAll('#boards .place').length") == 2 * task.spec.len_out
    assert browser.complaints() == []
