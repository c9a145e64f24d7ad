"""The docs site, built as `make docs` builds it: links lead somewhere, nothing comes from a network, all is there."""

from __future__ import annotations

import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

import gram_ppl as gp

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Names of places in a page, and where it leads and loads from."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = {""}
        self.leads: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.leads.append(given["href"])
        if tag in ("link", "script", "img") and (source := given.get("src") or given.get("href")):
            self.loads.append(source)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    pytest.importorskip("myst_nb", reason="pip install -e '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(ROOT / "docs"), str(out)]
    built = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert built.returncode == 0, built.stdout + built.stderr
    return {path: Page(path) for path in sorted(out.rglob("*.html"))}


def broken(pages: dict[Path, Page]) -> list[str]:
    """Links within the site that lead nowhere."""
    found = []
    for path, page in pages.items():
        for link in page.leads + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            place = unquote(parts.fragment) if target in pages else ""
            if not target.exists() or (place and place not in pages[target].ids):
                found.append(f"{path.name}: {link}")
    return found


def test_links_lead_somewhere(pages: dict[Path, Page]) -> None:
    assert broken(pages) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        '<p id="here"><a href="#here"></a><a href="#there"></a><img src="gone.png"><a href="https://x.org">'
    )
    assert broken({path: Page(path)}) == ["page.html: #there", "page.html: gone.png"]


def test_nothing_is_loaded_from_a_network(pages: dict[Path, Page]) -> None:
    assert [source for page in pages.values() for source in page.loads if urlsplit(source).netloc] == []


def test_every_public_name_is_in_the_reference(pages: dict[Path, Page]) -> None:
    (inventory,) = next(iter(pages)).parent.glob("objects.inv")
    entries = zlib.decompress(inventory.read_bytes().split(b"\n", 4)[4]).decode().splitlines()
    listed = {entry.split(" ")[0] for entry in entries}
    missing = []
    for name in gp.__all__:
        thing = getattr(gp, name)
        if isinstance(thing, (ModuleType, type)) or callable(thing):
            full = thing.__name__ if isinstance(thing, ModuleType) else f"{thing.__module__}.{thing.__qualname__}"
            if full not in listed:
                missing.append(name)
    assert missing == []


def test_notebooks_are_there(pages: dict[Path, Page]) -> None:
    """Executed: a page of each, with pictures that its cells drew."""
    sources = sorted((ROOT / "docs" / "notebooks").glob("*.md"))
    drawn = {path.stem: [source for source in page.loads if "_images" in source] for path, page in pages.items()}
    assert len(sources) == 4
    assert all(drawn[source.stem] for source in sources if source.stem != "3_write_a_task")
