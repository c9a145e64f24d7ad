"""What every task promises: data, exact solutions, encoding, verifier, relations."""

from __future__ import annotations

import inspect
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ..runtime.arguments import Captured
from ..state import Batch, Symmetry
from .scene import Scene, tokens
from .written import Puzzle, boards, lines, parsed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Spec(NamedTuple):
    """The shapes that a model needs to know of a task."""

    len_in: int  #: L_in, input tokens of an example
    vocab_in: int  #: input tokens are 0 .. vocab_in - 1
    len_out: int  #: L_out, output tokens of an example
    vocab_out: int  #: output tokens are 0 .. vocab_out - 1
    #: [R, M, M] bool: which tokens share constraint r; M = L_in, or L_in + L_out where answer tokens stand beside the
    #: input tokens (a length of their own)
    relations: Tensor | None = None
    #: [vocab_in, vocab_out] bool: the tokens of an answer that an input token in its place leaves possible;
    #: [1, vocab_out] where answers have places of their own; None leaves all
    leaves: Tensor | None = None

    def to(self, device: torch.device | str) -> Spec:
        """The same with its tensors on a device."""
        moved = [value.to(device) if isinstance(value, Tensor) else value for value in self]
        return Spec(*moved)  # type: ignore[arg-type]


def check_tokens(name: str, tokens: Tensor, length: int, *, board: bool = False, rows: bool = False) -> None:
    """Integer tokens ``[..., length]``, ``[length]`` for one board, or ``[B, length]`` for rows; any value.

    Raises:
        ValueError: another dtype or shape, with what was expected.
    """
    whole = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    fits = tokens.dim() == 1 if board else tokens.dim() == 2 if rows else tokens.dim() >= 1
    if not whole or not fits or tokens.shape[-1] != length:
        shape = f"[{length}]" if board else f"[B, {length}]" if rows else f"[..., {length}]"
        raise ValueError(
            f"{name}: expected integer tokens of shape {shape}, found {tokens.dtype} of {list(tokens.shape)}."
        )


def check_pair(x: Tensor, len_in: int, y: Tensor, len_out: int) -> None:
    """Inputs and answers whose leading dimensions broadcast.

    Raises:
        ValueError: a wrong shape or dtype, or leading dimensions that don't broadcast.
    """
    check_tokens("x", x, len_in)
    check_tokens("y", y, len_out)
    try:
        torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    except RuntimeError:
        raise ValueError(
            f"x and y: expected leading dimensions that broadcast, found {list(x.shape)} and {list(y.shape)}."
        ) from None


class _TaskMeta(Captured, ABCMeta):
    """Abstract methods, and constructor arguments that are kept."""


class Task(metaclass=_TaskMeta):
    """Data, encoding and verifier of one kind of puzzle.

    A task knows the rules; nothing else does. Verifiers are pure, run on any device, take any leading
    batch dimensions and never raise on a wrong board. Subclasses call ``super().__init__(spec)``.

    Args:
        spec: shapes and relations, for the model.
        config: arguments that build this task again, for the checkpoint, where they are not those of the constructor.
    """

    comment = "#"  # what a line of a file of puzzles starts with that is none
    drawn: tuple[int, int] | None = None  # rows and columns of characters of a drawn board; None reads lines only
    graphs = False  # whether inputs are graphs
    judged = True  # whether the verifier tells good answers from bad ones, not only from what is no answer at all
    listable = True  # whether :meth:`solutions` can list them all in reasonable time

    def __init__(self, spec: Spec, config: dict[str, Any] | None = None) -> None:
        self.spec = spec
        self.config = config or {}
        self.title = type(self).__name__  # for readers of pages

    @abstractmethod
    def inputs(self, split: str) -> Tensor:
        """All inputs of a held-out split, ``[n, L_in]`` int64; ``split`` is ``"validation"`` or ``"test"``."""

    @abstractmethod
    def batches(self, split: str, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Endless batches; y is drawn uniformly among the solutions of x, afresh each time.

        All randomness comes from ``generator``, so its state is the position in the data.
        """

    @abstractmethod
    def solutions(self, x: Tensor) -> Tensor:
        """Every solution of one input: ``[L_in] -> [S, L_out]`` int64, S may be 0.

        Raises:
            NotImplementedError: the task cannot list them.
        """

    def completion(self, x: Tensor, candidates: Tensor, seed: int) -> Tensor | None:
        """An answer at random among those that agree with candidates; None if there is none.

        ``[L_in], [L_out, V] bool -> [L_out]`` int64, on the CPU; for tasks that can't list their solutions.

        Raises:
            NotImplementedError: the task has no exact solver that does.
        """
        raise NotImplementedError(f"{type(self).__name__} draws no answers among candidates")

    def first_solutions(self, x: Tensor, limit: int) -> Tensor:
        """At most ``limit`` solutions of one input, ``[L_in] -> [S, L_out]`` int64.

        Where ``solutions`` takes a limit, no more are looked for.
        """
        listed: Callable[..., Tensor] = self.solutions
        return listed(x, limit=limit) if takes_limit(self) else listed(x)[:limit]

    def num_solutions(self, x: Tensor) -> int:
        """How many there are; tasks that can count without listing do so."""
        return len(self.solutions(x))

    def canonical(self, y: Tensor) -> Tensor:
        """One form for answers that mean the same, ``[..., L_out] -> [..., L_out]``: coverage counts that form."""
        return y

    def symmetric(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Each input under a random symmetry of the rules, and the way back for its answers.

        ``[B, L_in] -> [B, L_in]``, and ``undo``: ``[B, L_out] -> [B, L_out]``, which maps the solutions of each new
        input one-to-one onto those of the old one. Those of :meth:`symmetries`; the identity without them.
        """
        turn = self.symmetries(len(x), generator)
        if turn is None:
            return x, lambda y: y
        turn = turn.to(x.device)
        back = turn.inverse()
        return turn(x), lambda y: back(y)

    def symmetries(self, num: int, generator: torch.Generator) -> Symmetry | None:
        """Random symmetries that map inputs, answers and sets of tokens alike; None unless the task has such."""
        return None

    def boards(self, num: int, generator: torch.Generator) -> Tensor:
        """Complete boards, uniform over all of them, ``[num, L_out]`` int64: what an unconditional model learns.

        Raises:
            NotImplementedError: the task has no boards without an input.
        """
        raise NotImplementedError(f"{type(self).__name__} has no boards without an input")

    @property
    def blank(self) -> Tensor:
        """The input that gives nothing away, ``[L_in]``.

        Raises:
            NotImplementedError: the task has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no blank input")

    @abstractmethod
    def violations(self, x: Tensor, y: Tensor) -> Tensor:
        """How many constraints each answer breaks: ``[..., L_in], [..., L_out] -> [...]`` int64."""

    def verify(self, x: Tensor, y: Tensor) -> Tensor:
        """Whether each answer is a solution of its input: ``[..., L_in], [..., L_out] -> [...]`` bool.

        Arrays and lists are taken as well.
        """
        return self.violations(torch.as_tensor(x), torch.as_tensor(y)) == 0

    def conflicts(self, x: Tensor, y: Tensor) -> Tensor:
        """What the paper's tables count as conflicts; the violations unless a task says otherwise: ``[...]`` int64."""
        return self.violations(x, y)

    def figures(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Figures that only this task knows, of N answers of each test input; none unless a task has some.

        ``[n, L_in], [n, N, L_out]``; :func:`gram_ppl.metrics.evaluate` adds them to its own.
        """
        return {}

    def own_score(self, x: Tensor, answers: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Figures that only this task knows, of test inputs ``[n, L_in]``; none unless a task has a rule of its own.

        ``answers``: N answers of each of other inputs, ``[n', L_in] -> [n', N, L_out]``.
        """
        return {}

    @abstractmethod
    def render(self, x: Tensor, y: Tensor | None = None) -> str:
        """One board ``[L_in]`` (and its answer ``[L_out]``) as text for the terminal."""

    @abstractmethod
    def parse(self, text: str) -> Tensor:
        """The input ``[L_in]`` that a text describes; ``ValueError`` in one sentence if it is none.

        A :class:`gram_ppl.tasks.written.Misread` says at which character.
        """

    def line(self, x: Tensor) -> str:
        """A text for an input ``[L_in]`` that :meth:`parse` reads: a line where the task has such a form."""
        return self.render(x)

    def read(self, text: str, name: str) -> list[Puzzle]:
        """Every puzzle of a file: one a line or, of boards, as :meth:`render` draws them; no blank lines, no comments.

        A task with more formats than that reads them here.

        Args:
            text: the whole file.
            name: of the file.

        Raises:
            ValueError: a puzzle that is none, with file, line and column.
        """
        pieces = lines(text) if self.drawn is None else boards(text, *self.drawn)
        return parsed(name, pieces, self.parse, self.comment)

    def draw(self, axes: Axes, x: Tensor, y: Tensor | None = None) -> None:
        """One board ``[L_in]`` (and its answer ``[L_out]``) on matplotlib axes; by default its text."""
        axes.text(0.5, 0.5, self.render(x, y), family="monospace", ha="center", va="center", fontsize=8)
        axes.set_axis_off()

    def scene(self, x: Tensor) -> Scene:
        """How the answers to an input ``[L_in]`` are laid out on a page; by default their tokens in a grid."""
        return tokens(self.spec.len_out, self.spec.vocab_out)


def takes_limit(task: Task) -> bool:
    """Whether a task's ``solutions`` can stop early."""
    return "limit" in inspect.signature(task.solutions).parameters
