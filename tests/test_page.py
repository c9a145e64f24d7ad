"""The page of a run folder: every picture that it names is there, in Markdown and in HTML."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

import gram_ppl as gp
from gram_ppl.reporting import tables as report
from gram_ppl.storage.checkpoint import CheckpointError

TASK = gp.tasks.Sudoku((2, 2), (4, 8), num_validation=8, num_test=6)


def trained(folder: Path, task: gp.tasks.Task, *, heads: bool = False) -> Path:
    model = gp.models.GRAM(task.spec, width=8, transitions=1, supervision=2, noise=gp.models.LearnedNoise())
    guide = gp.guides.AmortizedGuide(model)
    options = {"batch_size": 2, "evaluations": 1, "evaluate_on": 2, "progress": False}
    gp.fit(model, guide, task, updates=2, out=folder, **options)
    if heads:
        gp.fit_heads(model, task, updates=1, batch_size=4, steps=2)
        gp.save(folder, model, guide, task)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = trained(tmp_path_factory.mktemp("runs") / "sudoku", TASK, heads=True)
    (folder / "metrics.json").write_text('{"accuracy": 0.5, "a|b": "<i>", "deterministic": {"accuracy": 0.25}}')
    report.page(folder, puzzles=4, samples=3, steps=2)
    return folder


class Page(HTMLParser):
    """Tags that were opened and not closed, and the sources of images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def pictures(text: str) -> list[str]:
    return re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)


def test_markdown_names_pictures_that_are_there(run: Path) -> None:
    found = pictures((run / "report.md").read_text())
    names = ["training", "surrogate", "scaling", "coverage", "boards", "calibration", "divergence"]
    assert {f"report/{name}.png" for name in names} | {"report/boards.gif"} <= set(found)
    for name in found:
        assert (run / name).stat().st_size > 1000
    assert {f"report/{path.name}" for path in (run / "report").iterdir()} == set(found)


def test_html_is_whole_and_holds_the_same_pictures(run: Path) -> None:
    page = Page((run / "report.html").read_text())
    assert page.open == []
    assert len(page.images) == len(pictures((run / "report.md").read_text()))
    assert all(re.match(r"data:image/(png|gif);base64,[A-Za-z0-9+/]{1000}", source) for source in page.images)


def test_figures_stand_side_by_side_and_are_escaped(run: Path) -> None:
    text, page = (run / "report.md").read_text(), (run / "report.html").read_text()
    assert "| accuracy | 0.5 | 0.25 |" in text
    assert "| a\\|b | <i> | – |" in text
    assert "&lt;i&gt;" in page
    assert "<i>" not in page


def test_bounds_are_in_order(run: Path) -> None:
    text = (run / "report.md").read_text()
    elbo, ten, hundred = (
        float(re.search(rf"\| {name}[^|]*\| (-[\d.]+) \|", text)[1])  # type: ignore[index]
        for name in ("ELBO", "IWAE, 10 particles", "IWAE, 100 particles")
    )
    assert elbo <= ten <= hundred


def test_what_does_not_apply_is_left_out(tmp_path: Path) -> None:
    grids = gp.tasks.Sudoku((2, 2), (1, 16), num_validation=0, num_test=0)
    folder = trained(tmp_path / "grids", gp.tasks.Unconditional(grids))
    (folder / "training.pt").unlink(missing_ok=True)
    report.page(folder, puzzles=4, samples=3, steps=2)
    found = pictures((folder / "report.md").read_text())
    assert "report/scaling.png" in found
    assert "report/boards.gif" in found
    assert not {"report/coverage.png", "report/calibration.png", "report/landscape.png"} & set(found)


def test_damaged_metrics(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "metrics.json").write_text('{"accuracy": ')
    with pytest.raises(ValueError, match=r"metrics\.json: the file is damaged"):
        report.page(folder)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        report.page(tmp_path)


@pytest.mark.parametrize("name", ["puzzles", "samples", "steps"])
def test_numbers_below_one(run: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        report.page(run, **{name: 0})
