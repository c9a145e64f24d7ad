"""The rules of the house: what the wheel holds, which way imports run, that every example has a test."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("name", ["models/gram.py", "guides/amortized.py", "py.typed", "tasks/sudoku.py"])
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


def imported(path: Path, package: list[str]) -> Iterator[str]:
    """Every dotted name that the file imports, anywhere in it; `package` is what its relative imports start from."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def reaches(path: Path, package: list[str], forbidden: set[str]) -> list[str]:
    names = imported(path, package)
    return [n for n in names if any(f"{n}.".startswith(f"{name}.") for f in forbidden for name in (f, f"gram_ppl.{f}"))]


FACE = ("__init__.py", "presets.py", "cli")  # these may import everything; no module of the core imports them
CORE = sorted(
    path for path in (ROOT / "gram_ppl").rglob("*.py") if path.relative_to(ROOT / "gram_ppl").parts[0] not in FACE
)
MODELS = sorted((ROOT / "models").rglob("*.py"))


@pytest.mark.parametrize("path", CORE, ids=ids(CORE))
def test_core_imports_neither_models_nor_guides(path: Path) -> None:
    package = list(path.parent.relative_to(ROOT).parts)
    assert reaches(path, package, {"models", "guides", "presets", "cli"}) == []


@pytest.mark.parametrize("path", MODELS, ids=ids(MODELS))
def test_models_import_no_guide(path: Path) -> None:
    package = ["gram_ppl", *path.parent.relative_to(ROOT).parts]
    assert reaches(path, package, {"guides"}) == []


@pytest.mark.parametrize(
    "line", ["import models", "from gram_ppl import models", "from gram_ppl.models.gram import GRAM",
             "from .. import models", "from ..models import gram", "def f():\n    import gram_ppl.models.gram as g"],
)  # fmt: skip
def test_import_check_sees(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.py"
    path.write_text(f"{line}\nimport torch\nfrom gram_ppl.models_of_old import y\n")
    assert len(reaches(path, ["gram_ppl", "tasks"], {"models", "guides"})) == 1


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


def test_no_module_is_named_utils() -> None:
    folders = ("gram_ppl", "models", "guides", "examples", "benchmarks", "tests")
    assert [str(path) for folder in folders for path in (ROOT / folder).rglob("utils.py")] == []
