"""The rules of the house: what the wheel holds, which way imports run, that every example has a test."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

import gram_ppl as gp

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def ids(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


# The wheel ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel built from this tree."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize(
    "name",
    [
        "models/gram.py",
        "guides/amortized.py",
        "py.typed",
        "reporting/assets/watch.js",
        "storage/weights/sudoku4/card.json",
    ],
)
def test_wheel_holds(wheel: set[str], name: str) -> None:
    assert f"gram_ppl/{name}" in wheel


def test_wheel_holds_every_module(wheel: set[str]) -> None:
    own = {path.relative_to(ROOT) for path in (ROOT / "gram_ppl").rglob("*.py")}
    linked = {path.relative_to(ROOT) for folder in ("models", "guides") for path in (ROOT / folder).rglob("*.py")}
    expected = {path.as_posix() for path in own} | {f"gram_ppl/{path.as_posix()}" for path in linked}
    assert {name for name in wheel if name.endswith(".py")} == expected


def test_wheel_installs_one_top_level_name(wheel: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel if ".dist-info/" not in name} == {"gram_ppl"}


@pytest.mark.parametrize("name", ["models", "guides"])
def test_folder_is_refused_as_top_level_package(name: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {name}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert f"import gram_ppl.{name}" in last


# Imports --------------------------------------------------------------------------------------------------------------


ORDER = (
    "state", "nn", "runtime", "tasks", "program", "heads", "models", "guides", "inference", "storage", "evaluation",
    "training", "presets", "reporting", "testing", "cli",
)  # fmt: skip
FACE = ("__init__",)  # of the package: it imports all rooms, and no room imports from it
SHARED = ("base", "boards", "edges", "holdout", "scene", "written")  # what the tasks have in common


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below gram_ppl; models and guides are links, read once."""
    files = [path for folder in ("gram_ppl", "models", "guides") for path in (ROOT / folder).rglob("*.py")]
    names = {path: path.relative_to(ROOT).with_suffix("").as_posix().removeprefix("gram_ppl/") for path in files}
    return {name.replace("/", "."): path for path, name in names.items()}


MODULES = modules()


def imported(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Every module below gram_ppl and name in it that a module imports, anywhere in it."""
    package = ["gram_ppl", *name.split(".")][:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found = [(source, alias.name) for alias in node.names]
        else:
            continue
        for source, what in found:
            full = f"{source}.{what}".rstrip(".")
            if full == "gram_ppl":
                yield "", ""
            elif full.startswith("gram_ppl."):
                inner = full.removeprefix("gram_ppl.")
                whole = inner in MODULES or f"{inner}.__init__" in MODULES
                yield (inner, "") if whole else (source.removeprefix("gram_ppl").lstrip("."), what)


def faults(path: Path, name: str) -> list[str]:
    """What the imports of a module do against the rules of the house."""
    room, found = name.split(".")[0], []
    for source, what in imported(path, name):
        target = source.split(".")[0]
        full = f"{source}.{what}".strip(".")
        if room != target and (target not in ORDER or ORDER.index(target) > ORDER.index(room)):
            found.append(f"{name} imports {full or 'gram_ppl'}, which is above it")
        if room == "reporting" and target == "presets":
            found.append(f"{name} imports {full}, which stands beside it")
        if what.startswith("_"):
            found.append(f"{name} imports {full}, a private name")
        deep, own = source.split("."), name.split(".")
        if room == target == "tasks" and deep[1:2] and own[1] not in ("__init__", deep[1]) and deep[1] not in SHARED:
            found.append(f"{name} imports {full}, the module of another task")
        if target == "tasks" and room not in ("tasks", "presets") and what[:1].isupper() and source not in (
            "tasks.base", "tasks.holdout",
        ):  # fmt: skip
            found.append(f"{name} imports {full}, a task class")
    return found


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(FACE)))
def test_imports_run_downwards(name: str) -> None:
    assert faults(MODULES[name], name) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [("program.x", "from .. import models"), ("program.x", "from ..models import GRAM"),
     ("program.x", "import gram_ppl"),
     ("program.x", "import gram_ppl.models.gram"), ("models.x", "def f():\n    from ..guides import AmortizedGuide"),
     ("models.x", "from .recursion import _private"), ("tasks.x", "from .sudoku.task import Sudoku"),
     ("cli.x", "from ..tasks import Sudoku"), ("cli.x", "from gram_ppl.tasks.sudoku.task import Sudoku"),
     ("models.x", "from ..inference import rollout")],
)  # fmt: skip
def test_import_check_sees(tmp_path: Path, name: str, line: str) -> None:
    path = tmp_path / "x.py"
    path.write_text(f"{line}\nimport torch\nfrom gram_ppl.state import Batch\nfrom gram_ppl.tasks.base import Task\n")
    assert len(faults(path, name)) == 1


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Not even inside functions: the graph of all imports has no circle."""
    graph = nx.DiGraph()
    for name, path in MODULES.items():
        for source, _ in imported(path, name):
            graph.add_edge(name, source if source in MODULES else f"{source}.__init__".lstrip("."))
    graph.remove_nodes_from(FACE)
    assert list(nx.simple_cycles(graph)) == []


# Names ----------------------------------------------------------------------------------------------------------------

NAMES = (ROOT / "tests" / "public_names.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("line", NAMES, ids=[line.split(":")[0] for line in NAMES])
def test_names_of_the_first_version_are_there(line: str) -> None:
    """``public_names.txt`` lists what every module had before there were rooms."""
    module, names = line.split(":")
    found = importlib.import_module(module)
    assert [name for name in names.split() if not hasattr(found, name)] == []
    assert found.__spec__ is not None
    assert found.__spec__.name == found.__name__


def test_an_old_name_is_the_same_module() -> None:
    from gram_ppl.infer import rollout  # type: ignore[import-not-found]
    from gram_ppl.tasks.coloring_graph import adjacency  # type: ignore[import-not-found]

    assert rollout is gp.rollout
    assert adjacency is gp.tasks.coloring_graph.adjacency
    assert gp.train.fit is gp.fit  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        gp.trian  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match="nothing_there"):
        from gram_ppl.heads import nothing_there  # type: ignore[attr-defined]  # noqa: F401


# Files ----------------------------------------------------------------------------------------------------------------


def test_links_are_relative() -> None:
    for name in ("models", "guides"):
        assert (ROOT / "gram_ppl" / name).readlink() == Path("..") / name


@pytest.mark.parametrize("path", EXAMPLES, ids=ids(EXAMPLES))
def test_example_is_short_and_has_a_test(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 150
    tests = [test for test in (ROOT / "tests").rglob("test_*.py") if test != Path(__file__).resolve()]
    assert any(path.name in test.read_text(encoding="utf-8") for test in tests), f"no test names {path.name}"


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_is_short(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 300


LITERAL = re.compile(r"\b(?:get|has)attr\(\s*(?:self\.)?(\w*(?:model|program|task|guide|select|heads)\w*),\s*[\"']")


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"program.model", "tasks.base"}))
def test_nobody_guesses_what_a_model_or_task_has(name: str) -> None:
    assert LITERAL.findall(MODULES[name].read_text(encoding="utf-8")) == []


def test_the_guess_is_seen() -> None:
    assert LITERAL.findall('x = getattr(model, "heads", None)\ny = hasattr(self.task,\n  "views")') == ["model", "task"]


def test_no_module_is_named_utils() -> None:
    folders = ("gram_ppl", "models", "guides", "examples", "benchmarks", "tests")
    assert [str(path) for folder in folders for path in (ROOT / folder).rglob("utils.py")] == []
