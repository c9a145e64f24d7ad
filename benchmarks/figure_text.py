"""Figure 4 of the paper: accuracy against depth (supervision steps) and width (trajectories)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import table_text
import torch
from table_runs import Run

import gram_ppl as gp
from gram_ppl.inference.depths import rollouts_by_depth
from gram_ppl.reporting.pictures.scaling import draw_scaling, scaling

STEPS, SAMPLES = 64, 20


def measured(run: Run) -> dict[str, Any] | None:
    """Accuracy of a finished run by depth and width, its majority vote at all widths; None if it isn't finished."""
    if run.metrics() is None:
        return None
    path = run.folder / "depth_and_width.json"
    if not path.exists():
        torch.set_num_threads(1)
        task = run.task()
        model, _, _ = gp.load(run.weights, task=task)
        x = task.inputs("test")[: run.preset.held_out]
        found = scaling(task, x, rollouts_by_depth(model, x, num_samples=SAMPLES, steps=STEPS, seed=run.seed))
        draw_scaling(found, path.with_suffix(".png"), trained=model.supervision)
        values = {name: getattr(found, name).tolist() for name in ("one", "selected", "oracle")}
        path.write_text(json.dumps({"depths": found.depths, "widths": found.widths, **values}) + "\n", encoding="utf-8")
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {"system": run.system, "column": run.column, "seed": run.seed, **figures}


def write(scale: str, table: Any, runs: Sequence[Run], results: Path, document: Path) -> str:
    """Two tables in Markdown, means over the seeds: one sample by depth, and the vote by width at the largest depth."""
    known = table_text.written(results, f"figure 4 {scale}")
    known |= {run.key: figures for run in runs if (figures := measured(run)) is not None}
    records = list(known.values())
    rows: dict[str, list[list[str]]] = {"depth": [], "width": []}
    for system in table.systems:
        own = [record for record in records if record["system"] == system]
        if own:
            depth = [table_text.number([record["one"][i] for record in own], 3) for i in range(len(own[0]["depths"]))]
            last = [record["selected"][-1] for record in own]
            width = [table_text.number([vote[i] for vote in last], 3) for i in range(len(own[0]["widths"]))]
            rows["depth"].append([system, *depth])
            rows["width"].append([system, *width])
    parts = [
        f"## {table.title}, {scale} scale\n\n{table.columns[0].title}, {len({r['seed'] for r in records})} seeds.\n"
    ]
    if records:
        depths, widths = ([str(value) for value in records[0][name]] for name in ("depths", "widths"))
        parts.append("One sample, by supervision steps:\n\n" + table_text.markdown(["", *depths], rows["depth"]))
        title = f"Majority vote after {STEPS} supervision steps, by trajectories:\n\n"
        parts.append(title + table_text.markdown(["", *widths], rows["width"]))
    text = "\n".join(parts)
    table_text.publish(results, document, f"figure 4 {scale}", records, text)
    return text
