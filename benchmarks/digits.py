"""Table 2 as a picture: how GRAM's digits improve with depth, beside the other systems, and 100 of them.

    python benchmarks/digits.py --data FOLDER

The folder holds MNIST's four IDX files. GRAM is the package's weights, which are those of the table's run, the other
systems' figures are the table's. FID and inception score are those of our LeNet on binarized MNIST, of 1,000 pictures
each, and no other paper's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from table_columns import TABLES, with_data
from table_runs import Run, of_pictures
from table_text import written
from tables import RESULTS, ROOT

import gram_ppl as gp
from gram_ppl.reporting.pictures.style import BLUE, GREEN, GREY, ORANGE, canvas, counted, save, tidy

DEPTHS = (1, 2, 4, 8, 16, 32)
SHOWN = 10  # on a side
COLOURS = dict(zip(("no guidance", "VAE", "D3PM, uniform"), (GREY, GREEN, ORANGE), strict=True))


def by_depth(run: Run, weights: str, depths: tuple[int, ...] = DEPTHS) -> tuple[list[dict[str, Any]], torch.Tensor]:
    """Quality of what the weights of a run make after so many supervision steps; pictures of the greatest depth."""
    task, found = run.task(), []
    model, _, _ = gp.load(weights, task=task)
    quality = of_pictures(task, run.root / "features")
    for steps in depths:
        made = gp.generate(model, num_samples=run.preset.samples, steps=steps, seed=run.seed).cpu()
        found.append({"steps": steps, "calls": steps * model.step_calls, **quality(made)})
        print(found[-1], flush=True)
    return found, task.pictures(made[: SHOWN**2])


def draw(depths: list[dict[str, Any]], others: list[dict[str, Any]], pictures: torch.Tensor, path: Path) -> None:
    """FID by network calls a picture, and the pictures."""
    figure, (left, right) = canvas(10, 4.6, columns=2, width_ratios=(1.2, 1))
    left.plot([one["calls"] for one in depths], [one["fid"] for one in depths], "o-", color=BLUE, label="GRAM")
    for one in others:
        calls = one["network_calls"] / one["num_samples"]
        left.plot(calls, one["fid"], "s", color=COLOURS[one["system"]], label=one["system"])
    counted(left, [2**power for power in range(0, 11, 2)])
    left.set(xlabel="network calls a picture", ylabel="FID, our LeNet on MNIST", yscale="log")
    left.legend(frameon=False)
    tidy(left)
    size = pictures.shape[-1]
    board = pictures.view(SHOWN, SHOWN, size, size).transpose(1, 2).reshape(SHOWN * size, SHOWN * size)
    right.imshow(1 - board.numpy(), cmap="gray", interpolation="nearest")
    right.set_axis_off()
    right.set_title(f"GRAM, {depths[-1]['steps']} supervision steps")
    save(figure, path)


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with MNIST's IDX files")
    parser.add_argument("--weights", default="pretrained:digits", help="GRAM's: of the package, or a run's folder")
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "runs" / "tables" / "cpu", help="folder of the net that judges"
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "digits.png")
    given = parser.parse_args()
    torch.set_num_threads(1)
    column = with_data(TABLES["2", "cpu"].columns[0], str(given.data))
    others = [record for record in written(given.results, "table 2 cpu").values() if record["system"] in COLOURS]
    depths, pictures = by_depth(Run(given.runs, column.name, column.preset, "GRAM", 0), given.weights)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "digits.json").write_text(json.dumps(depths, indent=1) + "\n", encoding="utf-8")
    draw(depths, others, pictures, given.picture)


if __name__ == "__main__":
    main()
