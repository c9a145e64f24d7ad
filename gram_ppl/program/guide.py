"""The base class of guides: one pass through the model, prior exchanged for posterior at each latent site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.guide import GuideMessenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from ..runtime.precision import at_least_single, exactly
from .model import as_tokens
from .parameters import register, unbound
from .poutine import Hidden


def _hidden(site: Any) -> bool:
    """Observed sites, and the answer even where nobody observes it: no guide proposes it."""
    return site["type"] == "sample" and (site["is_observed"] or site["name"] == "y")


class Guide(nn.Module, GuideMessenger):
    """An amortized posterior q(τ | x, y) over the trajectories of a model (eq. 12).

    Write one method, :meth:`posterior`; parameters and submodules are found as in any ``nn.Module``::

        class MyGuide(gp.Guide):
            def __init__(self, model):
                super().__init__(model)
                self.head = nn.Linear(model.width, 2 * model.width)

            def posterior(self, u, y, prior):
                mu, raw = self.head(u + self.embed(y)).chunk(2, -1)
                return dist.Normal(mu, 0.01 + raw.sigmoid()).to_event(2)

    The model runs once: at each ``eps`` site the prior's place is taken by the posterior, so the expensive
    deterministic transition is shared. The posterior acts in the charged (last) transition of every
    supervision step; elsewhere the guide is the prior, so that the charged KLs add up to the whole KL of
    eq. 13 and y has no free channel ("charged carry"). Override :meth:`acts` to change that.

    Args:
        model: the program that the guide belongs to; it is not registered as a submodule.
    """

    name = "guide"  # of its parameters in Pyro's parameter store
    needs_y = True  # False for guides that never look at y, such as the prior

    def __init__(self, model: nn.Module) -> None:
        nn.Module.__init__(self)
        GuideMessenger.__init__(self, model)
        self._y: Any = None
        self._infer: Any = None
        self._site = ""
        self.returned: Any = None
        self.config: dict[str, Any] = {}

    def posterior(self, u: Tensor, y: Tensor, prior: dist.TorchDistribution) -> dist.TorchDistribution:
        """q(eps | u, y), batch shape ``[B]`` and event shape ``[L, D]``; called outside autocast.

        Args:
            u: proposal of the deterministic transition, ``[B, L, D]``.
            y: the target, ``[B, L_out]``.
            prior: p(eps | u), for guides that start from it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define posterior(u, y, prior)")

    def reveal(self, labels: Tensor) -> dist.TorchDistribution:
        """Certainty of the part that holds y, where ``labels [B, L_out, V]`` says which part each token is in.

        Where y is excluded already, any part will do: y itself has no density there.
        """
        y = self._y.expand(labels.shape[:-1])
        part = labels.gather(-1, y[..., None])[..., 0].clamp(min=0)
        return dist.Delta(part).to_event(1)

    def acts(self, charged: bool) -> bool:
        """Whether the posterior acts in a transition; elsewhere the guide is the prior."""
        return charged

    def forward(self, x: Tensor | None = None, y: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Run the model under the guide: a value for each latent site, by name.

        Observed sites and y are hidden from handlers outside, so that a trace of the guide is a trace of q alone.

        Raises:
            ValueError: y is missing and this guide needs it, or a handler that the guide wears observes a site of it.
        """
        return self.run(self.model, x, y, **kwargs)

    def run(
        self, model: Callable[..., Any], x: Tensor | None = None, y: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """As calling the guide, over a given version of its model (under other handlers, say).

        Raises:
            ValueError: it is another model, or y is missing and this guide needs it.
        """
        given = poutine.unwrap(model)  # of copies of handlers it is no module
        if isinstance(given, nn.Module) and given is not poutine.unwrap(self.model):
            raise ValueError(f"this {type(self).__name__} was made for another model: make one for this model")
        if y is None and self.needs_y:
            raise ValueError(
                f"{type(self).__name__} is a posterior given y, and y is missing: pass it as an argument, "
                "guide(x, y); a y that only poutine.condition holds does not reach the guide"
            )
        program: Any = poutine.unwrap(self.model)
        taken = None if y is None else as_tokens("y", y, program)
        self._y = taken if taken is None or taken.is_floating_point() else taken.long()
        try:
            with Hidden(hide_fn=_hidden), self:
                register(self.name, self)
                self.returned = model(x, y, **kwargs)
        finally:
            self._y = self._infer = None
        nodes = prune_subsample_sites(self.trace).nodes.items()
        return {name: site["value"] for name, site in nodes if site["type"] == "sample" and not _hidden(site)}

    def _pyro_sample(self, msg: Any) -> None:
        self._site, self._infer = msg["name"], msg["infer"]
        super()._pyro_sample(msg)

    def _pyro_post_sample(self, msg: Any) -> None:
        if "prior" in msg["infer"] and msg["is_observed"]:
            raise ValueError(f"a handler around the guide observes {msg['name']!r}: condition the model in its place")
        if msg["infer"] is not self._infer and msg["name"] == self._site:
            msg["infer"] = {**msg["infer"], **self._infer}  # what this run says goes before what a replayed one said
        super()._pyro_post_sample(msg)

    def get_posterior(self, name: str, prior: Any) -> Any:
        """The distribution of one site: :meth:`posterior` at the ``eps`` sites where it acts, else the prior.

        Of a decision it is the part that holds y.
        """
        if self._infer.keys().isdisjoint(("proposal", "labels")) or not self.acts(self._infer["charged"]):
            return prior
        if "labels" in self._infer:
            return self.reveal(self._infer["labels"])
        return exactly(lambda u: self.posterior(u, self._y, prior), self._infer["proposal"])

    def get_traces(self) -> tuple[Trace, Trace]:
        """Model and guide trace of the last run, as ELBOs ask for them; the guide keeps none of it.

        Raises:
            ValueError: y was not observed, so the bound would lack the likelihood.
        """
        model_trace, guide_trace = super().get_traces()
        self.trace, self.returned = Trace(), None
        if not model_trace.nodes["y"]["is_observed"]:
            raise ValueError("y is not observed, so this is no bound on p(y | x): pass y to the objective, elbo(x, y)")
        return model_trace, guide_trace

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Guide:
        return super()._apply(at_least_single(fn), recurse)

    def __getstate__(self) -> dict[str, Any]:
        unbound(self)
        return {**self.__dict__, "trace": Trace(), "returned": None}
