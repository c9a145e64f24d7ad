"""GRAM colours random graphs: every proper colouring is an answer, and the share of them that it finds is measured.

Without options: GRAM that decides, graphs of 8 nodes, one token a node with the graph's edges as the relation of the
attention, in minutes on a CPU; ``--plain`` has Gaussian guidance. ``--tokens edges`` is the paper's encoding, a token
for each pair of nodes.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import print

import gram_ppl as gp
from gram_ppl import presets, report
from gram_ppl.cli.options import Out, Plain, PresetName, Relations, Resume, Samples, Seed, Steps, Updates
from gram_ppl.training import interrupt

ENCODERS = {"nodes": gp.models.NodeTokens(), "edges": gp.models.Tokens()}


def main(
    nodes: Annotated[int | None, typer.Option(help="Nodes of a graph; 8 if not given.")] = None,
    p: Annotated[float, typer.Option(help="Probability of an edge.")] = 0.5,
    tokens: Annotated[str, typer.Option(help="nodes or edges: what the model has latent tokens for.")] = "nodes",
    relations: Relations = None,
    updates: Updates = None,
    samples: Samples = 20,
    steps: Steps = None,
    plain: Plain = False,
    preset: PresetName = None,
    out: Out = Path("runs/coloring"),
    resume: Resume = False,
    seed: Seed = 0,
) -> None:
    """Train, colour unseen graphs, show one with its colourings."""
    with report.plain_errors(), interrupt.resumable(out):
        if tokens not in ENCODERS:
            raise ValueError(f"--tokens: expected nodes or edges, found {tokens!r}")
        changes: dict[str, Any] = {"task.n": nodes, "task.p": p, "fit.updates": updates}
        changes |= {"model.encoder": ENCODERS[tokens], "model.mixer.rope": tokens == "edges"}
        changes |= {"model.mixer.relations": relations, "steps": steps, "samples": samples}
        if nodes == 10:
            changes |= {"task.num_train": 13_465, "task.num_test": 192}
        elif nodes and nodes < 6:  # there are only so many graphs
            changes |= {"task.num_train": 300, "task.num_validation": 20, "task.num_test": 40}
        made = presets.get("coloring", preset or ("gram" if plain else None), changes)

        task, model, guide, objective, fit = presets.build(made, seed=seed)
        history = gp.fit(model, guide, task, objective=objective, **fit, out=out, resume=resume, seed=seed)
        made.write(out)
        print("\nTrained; measuring on unseen graphs")

        how = made.options(task)
        metrics = gp.metrics.evaluate(model, task, num_samples=samples, **how, seed=seed)
        report.record(f"{metrics['num_test']} unseen graphs of {made.task['n']} nodes", out, history, metrics)
        shown = min(task.inputs("test")[:50], key=lambda x: abs(task.num_solutions(x) - 6))
        found = task.canonical(gp.rollout(model, shown[None], num_samples=samples, **how).tokens.cpu())
        answers = found[gp.select.distinct(found, task.verify(shown, found))]
        number = task.num_solutions(shown)
        print(f"\n{len(answers)} of {number} colourings of one graph in {samples} samples, in {out / 'graphs.png'}")
        report.pictures(task, shown, answers[:11], out / "graphs.png")
        print(f"Checkpoint, metrics.json and training.png are in {out}")


if __name__ == "__main__":
    with interrupt.prompt():
        typer.run(main)
