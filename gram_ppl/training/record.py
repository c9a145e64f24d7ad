"""What a run says of itself while it trains."""

from __future__ import annotations

from typing import NamedTuple


class Record(NamedTuple):
    """Means since the record before; nats are per puzzle."""

    update: int
    seconds: float  #: of training so far, earlier evaluations included
    beta: float
    loss: float  #: nats a token
    nll: float
    kl: float  #: charged KL, all rows
    kl_first: float  #: charged KL of rows in their first supervision step: the alarm of a private channel
    posterior_error: float  #: share of wrong tokens, all segments, under the posterior
    prior_accuracy: float | None = None  #: full prior rollouts on validation puzzles; None where not measured

    def described(self) -> str:
        """Loss, its two parts and the accuracy, for a line of progress."""
        accuracy = "" if self.prior_accuracy is None else f"  prior accuracy {self.prior_accuracy:.3f}"
        kl = f"KL {self.kl:.2f} (first step {self.kl_first:.2f}) nats"
        return f"loss {self.loss:.3f}  NLL {self.nll:.2f}  {kl}{accuracy}"


History = list[Record]
