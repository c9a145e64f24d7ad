"""How checks speak: one sentence that names class, method and fault."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import Tensor


class Claims:
    """Claims about one object.

    Args:
        thing: what they are about.
    """

    def __init__(self, thing: Any) -> None:
        self.name = thing.__name__ if isinstance(thing, (FunctionType, type)) else type(thing).__name__

    def __call__(self, holds: bool | Tensor, method: str, sentence: str) -> None:
        """Claim that something holds.

        Args:
            holds: whether it does.
            method: whose promise it is; empty for the whole class.
            sentence: what is wrong if it does not, without a full stop.

        Raises:
            AssertionError: it does not.
        """
        if not bool(holds):
            raise AssertionError(f"{self.name}{f'.{method}' if method else ''}: {sentence}.")

    def refuses(self, call: Callable[..., Any], method: str, what: str, *given: Any) -> None:
        """Claim that ``call(*given)`` raises ``ValueError`` with a text."""
        cause: Exception | None
        try:
            call(*given)
        except ValueError as error:
            self(len(str(error)) > 0, method, f"{what} is refused without a word: say what was expected")
            return
        except Exception as error:
            found, cause = f"ends in {_named(error)}", error
        else:
            found, cause = "is accepted", None
        sentence = f"{what} {found}; raise ValueError and say what was expected"
        raise AssertionError(f"{self.name}.{method}: {sentence}.") from cause

    def runs(self, call: Callable[..., Any], method: str, what: str, *given: Any) -> Any:
        """What ``call(*given)`` gives; claim that it raises nothing but ``NotImplementedError``."""
        try:
            return call(*given)
        except NotImplementedError:
            raise
        except Exception as error:
            raise AssertionError(f"{self.name}.{method}: {what} ends in {_named(error)}.") from error


def _named(error: Exception) -> str:
    return f"{type(error).__name__} ({' '.join(str(error).split())[:400]})"
