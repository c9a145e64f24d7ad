"""A task of one's own, from an empty file to coverage: Latin squares. docs/tasks.md goes through it step by step."""

from collections.abc import Iterator
from itertools import count, permutations

import torch
import typer

import gram_ppl as gp
from gram_ppl.tasks.base import Spec, Task, check_pair, check_tokens
from gram_ppl.tasks.holdout import AFRESH, Apart, Solved, split_of


class LatinSquare(Task):
    """Each of 1 .. n once in every row and column; a number of cells within ``givens`` is shown, 0 is blank."""

    def __init__(self, n: int = 4, givens: tuple[int, int] = (3, 8), *, num_test: int = 200, seed: int = 0) -> None:
        cell, leaves = torch.arange(n * n), torch.eye(n + 1, dtype=torch.bool)
        leaves[0] = torch.arange(n + 1) > 0  # a blank leaves every digit possible, a digit only itself
        relations = torch.stack([unit[:, None] == unit for unit in (cell // n, cell % n)])
        super().__init__(Spec(n * n, n + 1, n * n, n + 1, relations, leaves))
        rows = torch.tensor(list(permutations(range(1, n + 1))))
        squares = rows[:, None]
        for _ in range(n - 1):  # all squares, row after row
            some, row = (squares[:, None] != rows[:, None]).all((-1, -2)).nonzero().T
            squares = torch.cat([squares[some], rows[row, None]], 1)
        self.n, self.givens, self.squares = n, givens, squares.flatten(1)
        drawn = dict.fromkeys(map(tuple, self.rows(20 * num_test, torch.Generator().manual_seed(seed)).x.tolist()))
        x = torch.tensor(list(drawn)[: 2 * num_test])
        self.held, self.apart = {"validation": x[num_test:], "test": x[:num_test]}, Apart(x)

    def rows(self, num: int, generator: torch.Generator) -> gp.Batch:
        y = self.squares[torch.randint(len(self.squares), (num,), generator=generator)]
        shown = torch.randint(self.givens[0], self.givens[1] + 1, (num, 1), generator=generator)
        return gp.Batch(y * (torch.rand(y.shape, generator=generator).argsort(1).argsort(1) < shown), y)

    def inputs(self, split: str) -> torch.Tensor:
        return split_of(self.held, split, train=AFRESH)

    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[gp.Batch]:
        if split == "train":
            return (self.apart.rows(batch_size, lambda: self.rows(batch_size, generator), count()) for _ in count())
        held = Solved.of(self.inputs(split), [self.solutions(x) for x in self.inputs(split)])
        return (held.draw(batch_size, generator) for _ in count())

    def solutions(self, x: torch.Tensor) -> torch.Tensor:
        check_tokens("x", x, self.n**2, board=True)
        return self.squares[((self.squares == x.long()) | (x == 0)).all(1)]

    def violations(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        check_pair(x, self.n**2, y, self.n**2)
        has = (y.long()[..., None] == torch.arange(1, self.n + 1)).unflatten(-2, (self.n, self.n))
        missing = 2 * self.n**2 - has.any(-2).sum((-1, -2)) - has.any(-3).sum((-1, -2))
        return missing + ((x != 0) & (x.long() != y.long())).sum(-1)

    def render(self, x: torch.Tensor, y: torch.Tensor | None = None) -> str:
        check_tokens("y", x if y is None else y, self.n**2, board=True)
        chars = [str(token) if 0 < token <= self.n else "." for token in (x if y is None else y).tolist()]
        return "\n".join(" ".join(chars[k : k + self.n]) for k in range(0, self.n**2, self.n))

    def parse(self, text: str) -> torch.Tensor:
        chars, known = "".join(text.split()), ".123456789"[: self.n + 1]
        if len(chars) != self.n**2 or set(chars) - set(known):
            raise ValueError(f"Expected {self.n**2} characters out of {known}, found {chars[:40]!r}.")
        return torch.tensor([known.index(char) for char in chars])


def main(updates: int = 600, samples: int = 20) -> None:
    """Train GRAM that decides on Latin squares and measure it on unseen ones."""
    task = LatinSquare()
    gp.testing.check_task(task)
    model = gp.models.Deciding(task.spec, block=2, transitions=1, supervision=32)
    guide, objective, own = gp.guides.Revealing(model), gp.DecidingELBO(steps=2), gp.OwnStates()
    gp.fit(model, guide, task, updates=updates, lr=2e-3, objective=objective, own_states=own, evaluations=0)
    print(gp.metrics.evaluate(model, task, num_samples=samples, steps=128))


if __name__ == "__main__":
    typer.run(main)
