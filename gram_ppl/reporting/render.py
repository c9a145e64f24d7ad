"""A page of blocks, as Markdown and as one HTML file."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any, NamedTuple

PICTURES = "report"  # the folder of pictures beside the page


class Heading(NamedTuple):
    """A section begins."""

    text: str


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Code(NamedTuple):
    """Lines as they stand."""

    text: str


class Table(NamedTuple):
    """Rows of cells; the first row is the head."""

    rows: list[list[str]]


class Picture(NamedTuple):
    """A picture and what it shows."""

    path: Path
    caption: str


class Folded(NamedTuple):
    """What is shown when somebody asks for it."""

    title: str
    blocks: list[Block]


Block = Heading | Text | Code | Table | Picture | Folded


def cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 10 else f"{value:,.1f}"
    return f"{value:,}" if type(value) is int else str(value)


def markdown(title: str, blocks: list[Block]) -> str:
    return "\n\n".join([f"# {title}", *_markdown(blocks)]) + "\n"


def _markdown(blocks: list[Block]) -> list[str]:
    parts: list[str] = []
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"## {text}")
            case Text(text):
                parts.append(text)
            case Code(text):
                parts.append(f"```python\n{text}\n```")
            case Table(rows):
                lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
                parts.append("\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]))
            case Picture(path, caption):
                parts.append(f"![{caption}]({PICTURES}/{path.name})\n\n*{caption}*")
            case Folded(title, inner):
                parts += [f"<details><summary>{title}</summary>", *_markdown(inner), "</details>"]
    return parts


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
h1, h2 { font-weight: 600; line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
h1 + p { font-size: 1.15rem; } summary { cursor: pointer; font-weight: 600; margin: 2.5rem 0 1rem; }
figure { margin: 1.5rem 0; } img { max-width: 100%; background: #fff; }
figcaption { color: #555; font-size: 0.95rem; max-width: 46rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: 0.2rem 0.9rem 0.2rem 0; text-align: left; border-bottom: 1px solid #eee; }
pre { background: #f6f6f6; padding: 0.8rem; overflow-x: auto; font-size: 0.85rem; }
@media (prefers-color-scheme: dark) {
  body { color: #ececec; background: #15171a; } figcaption { color: #b3b3b3; } pre { background: #1e2125; }
  h2, th, td { border-color: #4a4f55; } img { border-radius: 0.4rem; }
}
"""


def html_page(title: str, blocks: list[Block]) -> str:
    parts = [f"<h1>{html.escape(title)}</h1>", *map(_element, blocks)]
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{view}<title>{html.escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _element(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{html.escape(text)}</h2>"
        case Text(text):
            return f"<p>{html.escape(text)}</p>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Table(rows):
            lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
            head = lines[0].replace("td>", "th>")
            return f"<table><tr>{head}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines[1:]) + "</table>"
        case Picture(path, caption):
            data = base64.b64encode(path.read_bytes()).decode()
            kind, caption = path.suffix[1:], html.escape(caption)
            image = f'<img src="data:image/{kind};base64,{data}" alt="{caption}">'
            return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
        case Folded(title, inner):
            summary = f"<summary>{html.escape(title)}</summary>"
            return f"<details>{summary}" + "".join(map(_element, inner)) + "</details>"
