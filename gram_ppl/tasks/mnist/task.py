"""Binarized MNIST, or digits that the task draws itself: a distribution over pictures, without an input."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import count
from os import PathLike, fspath
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...state import Batch
from ..base import Spec, Task, check_pair, check_tokens
from ..holdout import split_of
from ..scene import OPEN, Mark, Scene, grid
from .idx import read_mnist
from .strokes import draw_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OFF, ON = 1, 2  # tokens; 0 is padding and stands in no picture
HALF_BLOCKS = {(OFF, OFF): " ", (ON, OFF): "▀", (OFF, ON): "▄", (ON, ON): "█"}
NUM_DRAWN = 10_000  # training pictures, where they are drawn
NUM_DRAWN_TEST = 1_000


class BinarizedMNIST(Task):
    """Pictures of digits in black and white, pixel by pixel; the task is unconditional.

    An input has no tokens: x is ``[..., 0]`` (``[..., L_in]`` is accepted too and not looked at). The output tokens
    are 1 for a black pixel and 2 for a white one, which is a grey level above one half (128 .. 255); ``spec`` has
    L_in = L_out = size² and the vocabulary of 3 of the paper's table. ``spec.relations`` is None: the latent tokens
    of a picture are patches, and :class:`gram_ppl.models.Patches` relates neighbouring ones by itself.

    Without ``root`` the pictures are 10,000 for training, plus the held-out ones, of digits from random strokes. The
    splits are independent draws, so that a picture may occur twice, above all a 1 at a small size.

    Args:
        root: folder with MNIST's four IDX files. Test pictures are from its test files, validation pictures random
            ones of its training files, which leave the training set.
        size: pixels on a side: by default 28 with ``root``, where the files must agree; 12 without, at least 8.
        num_validation: how many pictures are held out of training.
        num_test: how many test pictures, a random subset of the files' 10,000; by default all of them, 1,000 without
            ``root``.
        seed: of the split and of drawn digits; training rows depend on the generator given to ``batches``.

    Raises:
        ValueError: a bad size or number, a missing or damaged file.
    """

    judged = listable = False

    def __init__(
        self,
        root: str | PathLike[str] | None = None,
        *,
        size: int | None = None,
        num_validation: int = 1000,
        num_test: int | None = None,
        seed: int = 0,
    ) -> None:
        root = None if root is None else fspath(root)
        self.size = size = size or (12 if root is None else 28)
        if root is None and not 8 <= size <= 64:
            raise ValueError(f"size: digits are drawn on 8 to 64 pixels a side, found {size}.")
        if min(num_validation, num_test or 0) < 0:
            raise ValueError("num_validation and num_test must be at least 0.")
        super().__init__(Spec(size * size, 3, size * size, 3))
        self.title = "binarized digits"

        self._root, self._seed, self._num_validation = root, seed, num_validation
        self._num_test = NUM_DRAWN_TEST if root is None and num_test is None else num_test
        if root is not None:
            self._held  # noqa: B018 (what is wrong with the files is said here)

    @cached_property
    def _held(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Tokens and labels of each split; drawn digits only when they are asked for, which takes seconds."""
        generator = torch.Generator().manual_seed(self._seed)
        num_validation, num_test = self._num_validation, self._num_test
        if self._root is None:
            numbers = {"train": NUM_DRAWN + num_validation, "test": num_test or 0}
            digits = {split: torch.randint(10, (num,), generator=generator) for split, num in numbers.items()}
            pools = {split: (draw_digits(of, self.size, generator), of) for split, of in digits.items()}
        else:
            pools = {split: (images > 127, of) for split, (images, of) in read_mnist(self._root, self.size).items()}
        num_train, of_test = len(pools["train"][0]), len(pools["test"][0])
        num_test = of_test if num_test is None else num_test
        if num_validation >= num_train or num_test > of_test:
            raise ValueError(
                f"num_validation and num_test: {num_validation} of {num_train} training pictures and {num_test} of "
                f"{of_test} test pictures can't be held out."
            )
        order = torch.randperm(num_train, generator=generator)
        some = torch.randperm(of_test, generator=generator)[:num_test]
        rows = {"train": order[num_validation:], "validation": order[:num_validation], "test": some}
        held: dict[str, tuple[Tensor, Tensor]] = {}
        for split, chosen in rows.items():
            white, of = pools["test" if split == "test" else "train"]
            chosen = chosen.sort().values
            held[split] = (OFF + white[chosen].flatten(1).to(torch.uint8), of[chosen])
        return held

    # Data

    def inputs(self, split: str) -> Tensor:
        """No tokens for each picture of a split: ``[num, 0]`` int64."""
        known = {"test": self._num_test, "validation": self._num_validation}.get(split)
        return torch.zeros(len(self._split(split)[0]) if known is None else known, 0, dtype=torch.long)

    def answers(self, split: str) -> Tensor:
        """The pictures of ``"validation"``, ``"test"`` or ``"train"``: ``[num, size²]`` int64 tokens."""
        return self._split(split)[0].long()

    def labels(self, split: str) -> Tensor:
        """Which digits the pictures of a split show: ``[num]`` int64, 0 .. 9."""
        return self._split(split)[1]

    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Endless batches of random pictures of a split: x ``[batch_size, 0]``, y ``[batch_size, size²]`` int64."""
        tokens = self._split(split)[0]
        if not len(tokens):
            raise ValueError(f"The {split} split is empty.")
        x = torch.zeros(batch_size, 0, dtype=torch.long)
        return (
            Batch(x, tokens[torch.randint(len(tokens), (batch_size,), generator=generator)].long()) for _ in count()
        )

    def pictures(self, tokens: Tensor) -> Tensor:
        """Output tokens as pictures, ``[..., size²] -> [..., size, size]`` float32: 1 for white, else 0."""
        check_tokens("tokens", tokens, self.spec.len_out)
        return (tokens == ON).float().unflatten(-1, (self.size, self.size))

    def _split(self, split: str) -> tuple[Tensor, Tensor]:
        return split_of(self._held, split)

    # Rules

    def solutions(self, x: Tensor) -> Tensor:
        """Pictures have no exact solutions.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("A distribution over pictures has no list of solutions: measure FID and IS instead.")

    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        """How many tokens of y are no pixel: ``[..., 0], [..., size²] -> [...]`` int64; any integers, see the class.

        Raises:
            ValueError: a wrong shape, a dtype that is no integer, dimensions that don't broadcast.
        """
        given = x.dim() > 0 and x.shape[-1] == self.spec.len_in
        check_pair(x, self.spec.len_in if given else 0, y, self.spec.len_out)
        y = y.long()
        wrong = ((y != OFF) & (y != ON)).sum(-1)
        return wrong.expand(torch.broadcast_shapes(x.shape[:-1], y.shape[:-1]))

    # Text

    def render(self, x: Tensor, y: Tensor | None = None) -> str:
        """The picture ``[size²]`` in half blocks, two rows of pixels a line; ``?`` where a token is no pixel."""
        if y is None:
            return "(any picture)"
        check_tokens("y", y, self.spec.len_out, board=True)
        rows = y.view(self.size, self.size).tolist()
        if self.size % 2:
            rows.append([OFF] * self.size)
        pairs = zip(rows[::2], rows[1::2], strict=True)
        return "\n".join("".join(HALF_BLOCKS.get(two, "?") for two in zip(*pair, strict=True)) for pair in pairs)

    def scene(self, x: Tensor) -> Scene:
        """See :meth:`Task.scene`: pixels."""
        marks = [Mark("nothing", "?"), Mark("off"), Mark("on", fill="ink")]
        return grid(self.size, self.size, marks, [OPEN] * self.spec.len_out, framed=False)

    def parse(self, text: str) -> Tensor:
        """Pictures have no input to describe.

        Raises:
            ValueError: always.
        """
        raise ValueError("Pictures are made from nothing: there is no input to read.")

    def draw(self, axes: Axes, x: Tensor, y: Tensor | None = None) -> None:
        """The picture ``[size²]`` on matplotlib axes, red where a token is no pixel; empty axes without one."""
        axes.set_axis_off()
        if y is None:
            return
        check_tokens("y", y, self.spec.len_out, board=True)
        tokens = y.detach().cpu().long()
        colours = (tokens == ON).float()[:, None].repeat(1, 3)
        colours[(tokens != OFF) & (tokens != ON)] = torch.tensor([0.8, 0.1, 0.1])
        axes.imshow(colours.view(self.size, self.size, 3).numpy(), interpolation="nearest")
