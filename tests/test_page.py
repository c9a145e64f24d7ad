"""The page of a run folder: every picture that it names is there, in Markdown and in HTML."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import gram_ppl as gp
from gram_ppl.cli import app
from gram_ppl.reporting import tables as report
from gram_ppl.reporting.verdict import verdict
from gram_ppl.storage.checkpoint import CheckpointError

TASK = gp.tasks.Sudoku((2, 2), (4, 8), num_validation=8, num_test=6)


def trained(folder: Path, task: gp.tasks.Task, *, heads: bool = False) -> Path:
    model = gp.models.GRAM(task.spec, width=8, transitions=1, supervision=2, noise=gp.models.LearnedNoise())
    guide = gp.guides.AmortizedGuide(model)
    options: dict[str, Any] = {"batch_size": 2, "evaluations": 1, "evaluate_on": 2, "progress": False}
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
        report.page(run, **{name: 0})  # type: ignore[arg-type]


def test_it_begins_with_what_the_run_is_worth_and_ends_with_folded_settings(run: Path) -> None:
    text, page = (run / "report.md").read_text(), (run / "report.html").read_text()
    first = text.split("\n\n")[1]
    assert re.match(r"GRAM of [\d,]+ parameters on 4×4 Sudoku, after 2 updates in [\d,]+ s\. It is poor: ", first)
    assert "right in 50 %" in first
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings[0] == "Boards that settle"
    assert "Figures" in headings
    assert headings[-1] == "Training"
    settings = text.index("<details>")
    assert settings > text.rindex("![")
    assert text.index("model = GRAM(") > settings
    assert page.index("<details>") < page.index("model = GRAM(") < page.index("</details>")
    assert all(len(caption) > 40 for caption in re.findall(r"^\*(.+)\*$", text, re.M))


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"accuracy": 0.4, "selected_accuracy": 0.96, "num_samples": 20, "num_test": 500}, "It is good: the answer "
         "chosen among 20 samples is right in 96 %, one sample is right in 40 % of 500 unseen inputs."),
        ({"accuracy": 0.8, "coverage": 0.7, "coverage_ceiling": 0.9}, "It is fair: one sample is right in 80 %. Of "
         "inputs with several solutions it finds 70 % of them; as many draws of an ideal sampler would find 90 %."),
        ({"accuracy": 0.1, "selected_accuracy": 0.2, "num_samples": 3, "selected_unanswered": 0.5}, "It is poor: the "
         "answer chosen among 3 samples is right in 20 %, one sample is right in 10 %, and 50 % stay unanswered."),
        ({"accuracy": 1.0, "coverage": 0.25, "boards_in_all": 288}, "It is good: one sample is right in 100 %. It "
         "makes 25 % of the 288 boards that there are."),
        ({}, ""),
    ],
)  # fmt: skip
def test_verdict(metrics: dict[str, float], said: str) -> None:
    model = gp.models.GRAM(TASK.spec, width=8)
    text = verdict(model, TASK, metrics, [])
    number = sum(parameter.numel() for parameter in model.parameters())
    assert text == f"GRAM of {number:,} parameters on 4×4 Sudoku. {said}".strip()


def test_pictures_have_no_verifier() -> None:
    task = gp.tasks.BinarizedMNIST(size=8, num_test=2)
    assert "No verifier" in verdict(gp.models.GRAM(task.spec, width=8), task, {"accuracy": 1.0}, [])


def test_weights_of_the_package_are_reported_elsewhere(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", "pretrained:sudoku4"])
    assert done.exit_code == 2
    assert "a report stands in the folder of a run" in done.stderr
    files = report.page("pretrained:sudoku4", puzzles=2, samples=2, steps=2, out=tmp_path / "page")
    assert [path.parent for path in files] == [tmp_path / "page"] * 2
    assert files[0].read_text(encoding="utf-8").startswith("# 4×4 Sudoku: sudoku4")
    assert "](report/" in files[0].read_text(encoding="utf-8")
