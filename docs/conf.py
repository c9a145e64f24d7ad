"""The docs site: `make docs` builds it offline into build/docs, with warnings as errors."""

import os
from pydoc import locate
from typing import Any

import gram_ppl

project = "gram_ppl"
author = "the authors of gram_ppl"
version = release = gram_ppl.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

html_theme = "furo"
html_title = f"gram_ppl {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = html_show_copyright = False

myst_heading_anchors = 3
nitpicky = True  # links to pages, headings and names of this package are checked
nitpick_ignore_regex = [(r"py:.*", r"(?!gram_ppl\.).*")]  # those of others are not: that takes the network

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
maximum_signature_line_length = 90

os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}  # ArviZ 0.23 announces its 1.0
nb_execution_mode = "force"
nb_execution_timeout = 600  # seconds a cell
nb_execution_raise_on_error = True


def resolve(app: Any, env: Any, node: Any, text: Any) -> Any:
    """A name of the package under another name than that of its page; no link where it exists but has no page."""
    found = locate(node["reftarget"]) if node.get("reftarget", "").startswith("gram_ppl.") else None
    if found is None:
        return None
    name = getattr(found, "__qualname__", None)
    name = f"{found.__module__}.{name}" if name else getattr(found, "__name__", node["reftarget"])
    return env.get_domain("py").resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, text) or text


def shorten(app: Any, kind: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Nothing in place of Python's own words on a field of a tuple."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()


def setup(app: Any) -> None:
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", shorten)
