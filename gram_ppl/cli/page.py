"""The local page, made of Gradio's parts. What it does is in :mod:`gram_ppl.cli.asking` and ``drawing``."""

from __future__ import annotations

import html
import os
from importlib.resources import files
from typing import Any

from torch import Tensor

from ..reporting.board import spots
from .asking import LASTS, SAMPLES, SECONDS, Answer, Offer, ask, example, fault, offered, read
from .drawing import Drawing, begun, drawable, nothing, picture, touched, written

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before it is imported

import gradio as gr

TITLE = "gram_ppl: many verified answers to one puzzle"
GRAPH = "Click two nodes to join or part them, or write edges such as 0-1 1-2; files of graphs can be pasted too."
FILL = "Click a place to fill or to empty it, or write the board; printed ones can be pasted too."
TURN = "Click a place for its next value, or press its sign or Delete there; printed boards can be pasted too."
WRITE = "Write or paste a puzzle."
NOTHING = "This model makes boards from nothing: press Solve."
TOUCH = """
let last = null;
const touch = (event, key) => {
  const spot = event.target.closest('[data-spot]');
  if (!spot) return;
  last = spot.dataset.spot;
  event.preventDefault();
  trigger('click', {spot: Number(last), key});
};
element.addEventListener('click', event => touch(event, ''));
element.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Enter' || event.key === ' ') touch(event, '');
  else if (event.key.length === 1 || event.key === 'Backspace' || event.key === 'Delete') touch(event, event.key);
});
watch('value', () => { if (last !== null) element.querySelector(`[data-spot="${last}"]`)?.focus(); });
"""


def build(names: list[str]) -> Any:
    """The page as Gradio's blocks; the first model is there at the beginning.

    Args:
        names: of the models to choose from.
    """
    first = offered(names[0])
    text, drawing, drawn, told = _filled(first, _example(first, 0))
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {TITLE}")
        model = gr.Dropdown(
            names, value=names[0], label="Weights", info=_about(first), filterable=False, elem_id="weights"
        )
        state, number = gr.State(drawing), gr.State(0)
        with gr.Row():
            with gr.Column(min_width=280):
                surface = gr.HTML(drawn, elem_id="drawing", js_on_load=TOUCH, visible=drawing is not None)
            with gr.Column(min_width=280):
                puzzle = gr.Textbox(text, label="Puzzle", lines=4, max_lines=12, elem_id="puzzle", visible=first.asks)
                hint = gr.Markdown(told, elem_id="hint")
                with gr.Row():
                    go = gr.Button("Solve", variant="primary", elem_id="solve", min_width=80)
                    other = gr.Button("Example", elem_id="example", min_width=80, visible=first.asks)
                    clear = gr.Button("Clear", elem_id="clear", min_width=80, visible=first.asks)
                with gr.Accordion("Trajectories, time and seed", open=False):
                    samples = gr.Slider(1, SAMPLES, first.samples, step=1, label="Trajectories")
                    seconds = gr.Slider(1, SECONDS, LASTS, step=1, label="Seconds, at most")
                    seed = gr.Number(0, precision=0, minimum=0, label="Seed")
        result = gr.HTML(elem_id="result")
        watched = gr.HTML(elem_id="watch")

        filled = [puzzle, state, surface, hint]
        everything = [*filled, model, other, clear, samples, number, result, watched]
        model.input(_chosen, model, everything, api_visibility="private")
        other.click(_another, [model, number], [*filled, number], api_visibility="private", show_progress="hidden")
        clear.click(_cleared, model, filled, api_visibility="private", show_progress="hidden")
        surface.click(_touched, [model, state], filled, api_visibility="private", show_progress="hidden")
        puzzle.input(
            _typed, [model, puzzle, state], [state, surface, hint], api_visibility="private",
            show_progress="hidden", trigger_mode="always_last",
        )  # fmt: skip
        go.click(
            _solved, [model, puzzle, samples, seed, seconds], [result, watched], api_name="solve", concurrency_limit=1
        )
    page.queue(max_size=8)
    return page


def serve(names: list[str], host: str, port: int, browser: bool, *, wait: bool = True) -> Any:
    """Show the page until Ctrl-C; without ``wait`` the page that is shown."""
    page = build(names)
    plain = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]  # no fonts from anywhere
    print(f"http://{host}:{port}/ (Ctrl-C ends it)", flush=True)
    page.launch(
        server_name=host, server_port=port, share=False, inbrowser=browser, quiet=True, prevent_thread_lock=not wait,
        theme=gr.themes.Default(font=plain[0], font_mono=plain[1]), css=_css(), footer_links=[], run_history=False,
        ssr_mode=False, enable_monitoring=False, max_file_size=1, show_error=True,
    )  # fmt: skip
    return page


def _css() -> str:
    return (files("gram_ppl.reporting") / "assets" / "app.css").read_text(encoding="utf-8")


# What happens ---------------------------------------------------------------------------------------------------------


def _filled(offer: Offer, x: Tensor | None) -> tuple[str, Drawing | None, str, str]:
    """Text, drawing, its picture and a hint, of an input."""
    if x is None or not drawable(offer.task):
        return "" if x is None else offer.task.line(x), None, "", _hint(offer)
    drawing = begun(offer.task, x)
    return written(offer.task, drawing), drawing, picture(offer.task, drawing), _hint(offer)


def _example(offer: Offer, number: int) -> Tensor | None:
    return example(offer, number) if offer.asks else None


def _hint(offer: Offer) -> str:
    if not offer.asks:
        return NOTHING
    if not drawable(offer.task):
        return WRITE
    if offer.task.graphs:
        return GRAPH
    return FILL if len(spots(offer.task.scene(offer.task.blank))) > offer.task.spec.len_out else TURN


def _chosen(name: str) -> tuple[Any, ...]:
    offer = offered(name)
    text, drawing, drawn, told = _filled(offer, _example(offer, 0))
    shown = gr.update(value=text, visible=offer.asks), drawing, gr.update(value=drawn, visible=drawing is not None)
    buttons = gr.update(visible=offer.asks), gr.update(visible=offer.asks)
    return *shown, told, gr.update(info=_about(offer)), *buttons, offer.samples, 0, "", ""


def _another(name: str, number: int) -> tuple[Any, ...]:
    return *_filled(offered(name), _example(offered(name), number + 1)), number + 1


def _cleared(name: str) -> tuple[Any, ...]:
    offer = offered(name)
    return _filled(offer, nothing(offer.task) if drawable(offer.task) else None)


def _touched(name: str, drawing: Drawing | None, event: gr.EventData) -> tuple[Any, ...]:
    task = offered(name).task
    assert drawing is not None
    spot, key = getattr(event, "spot", -1), getattr(event, "key", "")
    drawing = touched(task, Drawing(*drawing), spot if isinstance(spot, int) else -1, str(key))
    text = written(task, drawing)
    return text, drawing, picture(task, drawing), _told(offered(name), text)


def _typed(name: str, text: str, drawing: Drawing | None) -> tuple[Any, ...]:
    offer = offered(name)
    told = _told(offer, text)
    if drawing is not None and told == _hint(offer):
        drawing = begun(offer.task, read(offer, text))
        return drawing, picture(offer.task, drawing), told
    return drawing, gr.skip(), told


def _told(offer: Offer, text: str) -> str:
    """What is wrong with a text, or what can be done."""
    try:
        read(offer, text)
    except ValueError as error:
        return html.escape(fault(error))
    return _hint(offer)


def _solved(name: str, text: str, samples: float, seed: float, seconds: float) -> tuple[str, str]:
    answer = ask(name, text or "", int(samples), int(seed), seconds)
    return _result(answer), _frame(answer.page)


def _result(answer: Answer) -> str:
    parts = [f'<p class="sentence" role="status">{html.escape(answer.sentence)}</p>']
    if answer.facts:
        parts.append(f'<p class="facts">{" · ".join(answer.facts)}</p>')
    if answer.boards:
        parts.append(f'<div class="answers">{"".join(answer.boards)}</div>')
    if answer.found > len(answer.boards):
        parts.append(f"<p>The first {len(answer.boards)} of {answer.found:,} are drawn here.</p>")
    return "".join(parts)


def _frame(page: str) -> str:
    """A page within this one, which can reach nothing of it."""
    inner = html.escape(page, quote=True)
    return f'<iframe title="Watch it think" sandbox="allow-scripts" srcdoc="{inner}"></iframe>' if page else ""


def _about(offer: Offer) -> str:
    about = html.escape(offer.about)
    return about[:1].upper() + about[1:] + "."
