"""What FID and inception score mean on MNIST: the scores of real pictures and of pictures without any structure.

One network is trained and judges everything. Training against test pictures are the floor that a perfect sampler would
reach; independent pixels with the right mean are what a model of the marginals alone gets.
"""

import json
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gram_ppl.evaluation.features import LeNet, accuracy, activations, fid, inception_score, train_features
from gram_ppl.tasks.mnist.idx import read_mnist

SUBSET = 10_000


def scores(
    net: LeNet, train: Tensor, test: Tensor, labels: dict[str, Tensor], generator: torch.Generator
) -> dict[str, float]:
    """All figures of one kind of pictures, grey or binarized, each ``[n, 28, 28]``."""
    marginals = torch.bernoulli(train.mean(0).expand(len(test), -1, -1), generator=generator)
    of_train, _ = activations(net, train)
    of_test, of_classes = activations(net, test)
    of_marginals, marginal_classes = activations(net, marginals)
    shuffled = of_train[torch.randperm(len(train), generator=generator)]
    return {
        "pixel_mean_train": train.mean(dtype=torch.float64).item(),
        "accuracy_train": accuracy(net, train, labels["train"]),
        "accuracy_test": accuracy(net, test, labels["test"]),
        "fid_train_test": fid(of_train, of_test),
        "fid_random_subset_of_train_test": fid(shuffled[:SUBSET], of_test),
        "fid_random_halves_of_train": fid(shuffled[::2], shuffled[1::2]),
        "fid_odd_even_train": fid(of_train[::2], of_train[1::2]),
        "fid_first_last_half_of_train": fid(*of_train.chunk(2)),
        "fid_marginals_test": fid(of_marginals, of_test),
        "inception_score_test": inception_score(of_classes),
        "inception_score_marginals": inception_score(marginal_classes),
    }


def main(
    root: Annotated[Path, typer.Argument(help="Folder with MNIST's four IDX files.")],
    out: Annotated[Path, typer.Option(help="JSON with the figures.")] = Path("benchmarks/results/mnist_features.json"),
    cache: Annotated[Path | None, typer.Option(help="Folder to keep the trained network in.")] = None,
    grey: Annotated[bool, typer.Option(help="Train the network on grey pictures, not on binarized ones.")] = False,
    epochs: Annotated[int, typer.Option(help="Passes through the training pictures.")] = 2,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    seed: int = 0,
) -> None:
    """Train, score, write the figures."""
    torch.set_num_threads(threads)
    files = read_mnist(root)
    labels = {split: of for split, (_, of) in files.items()}
    kinds = {
        "grey": {split: images.float() / 255 for split, (images, _) in files.items()},
        "binarized": {split: (images > 127).float() for split, (images, _) in files.items()},
    }
    trained_on = "grey" if grey else "binarized"
    start = time.perf_counter()
    net = train_features(kinds[trained_on]["train"], labels["train"], epochs=epochs, seed=seed, cache=cache)
    seconds = time.perf_counter() - start
    figures = {
        kind: scores(net, of["train"], of["test"], labels, torch.Generator().manual_seed(seed))
        for kind, of in kinds.items()
    }
    table = Table("", *figures, title=f"LeNet trained on {trained_on} pictures, {seconds:.0f} s")
    for name in figures["grey"]:
        table.add_row(name, *(f"{found[name]:.5g}" for found in figures.values()))
    Console().print(table)
    settings = {"trained_on": trained_on, "epochs": epochs, "threads": threads, "seed": seed, "subset": SUBSET}
    settings |= {"train_seconds": round(seconds, 1)}
    out.write_text(json.dumps({"settings": settings, "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
