"""GRAM colours random graphs: every proper colouring is an answer, and the share of them that it finds is measured.

Without options: graphs of 8 nodes, one token a node with the graph's edges as the relation of the attention, in
minutes on a CPU. ``--tokens edges`` is the paper's encoding, a token for each pair of nodes.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import print

import gram_ppl as gp
from gram_ppl import report

CPU = {
    "model": {"noise": gp.models.LearnedNoise(scale=1.0)},
    "fit": {"updates": 4000, "batch_size": 64},
    "beta": gp.LogLinear(10, 0.6, 0.05, 0.4),
}
PAPER = {
    "model": {"width": 512, "hidden": 512, "layers": 2, "low_steps": 4, "transitions": 3, "supervision": 16,
              "registers": 16, "shared": False},
    "fit": {"updates": 20_000, "batch_size": 768, "lr": 1e-4, "weight_decay": 1.0, "ema": 0.9999},
    "beta": gp.LogLinear(0.5, 0.5),
}  # fmt: skip
ENCODERS = {"nodes": gp.models.NodeTokens(), "edges": gp.models.Tokens()}


def main(
    nodes: Annotated[int, typer.Option(help="Nodes of a graph.")] = 8,
    p: Annotated[float, typer.Option(help="Probability of an edge.")] = 0.45,
    tokens: Annotated[str, typer.Option(help="nodes or edges: what the model has latent tokens for.")] = "nodes",
    relations: Annotated[bool, typer.Option(help="Edges as relations in the attention.")] = True,
    updates: Annotated[int | None, typer.Option(min=1, help="Training segments.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Trajectories for each test graph.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Supervision steps of a test trajectory.")] = 16,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, metrics and pictures.")] = Path("runs/coloring"),
    resume: Annotated[bool, typer.Option(help="Go on with the run in the folder.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, data and noise.")] = 0,
) -> None:
    """Train, colour unseen graphs, show one with its colourings."""
    with report.plain_errors():
        if tokens not in ENCODERS:
            raise ValueError(f"--tokens: expected nodes or edges, found {tokens!r}")
        sizes = {"num_train": 13_465, "num_test": 192} if nodes == 10 else {}
        if nodes < 6:  # there are only so many graphs
            sizes = {"num_train": 300, "num_validation": 20, "num_test": 40}
        task = gp.tasks.GraphColoring(nodes, p=p, seed=seed, **sizes)
        cuda = torch.cuda.is_available()
        preset = PAPER if cuda else CPU
        mixer = gp.nn.Attention(8 if cuda else 4, rope=tokens == "edges", relations=relations)
        model = gp.models.GRAM(task.spec, seed=seed, encoder=ENCODERS[tokens], mixer=mixer, **preset["model"])
        guide = gp.guides.AmortizedGuide(model, seed=seed)
        history = gp.fit(
            model, guide, task, objective=gp.SegmentELBO(preset["beta"]), evaluate_steps=steps, out=out, resume=resume,
            seed=seed, **preset["fit"] | ({"updates": updates} if updates else {}),
        )  # fmt: skip
        metrics = gp.metrics.evaluate(model, task, num_samples=samples, steps=steps, seed=seed)
        report.record(f"{metrics['num_test']} unseen graphs of {nodes} nodes", out, history, metrics)
        shown = min(task.inputs("test")[:50], key=lambda x: abs(task.num_solutions(x) - 6))
        found = task.canonical(gp.rollout(model, shown[None], num_samples=samples, steps=steps).tokens.cpu())
        answers = found[gp.select.distinct(found, task.verify(shown, found))]
        print(f"\n{len(answers)} of {task.num_solutions(shown)} colourings of one graph in {samples} samples, "
              f"in {out / 'graphs.png'}")  # fmt: skip
        report.pictures(task, shown, answers[:11], out / "graphs.png")
        print(f"Checkpoint, metrics.json and training.png are in {out}")


if __name__ == "__main__":
    typer.run(main)
