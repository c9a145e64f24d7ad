"""GRAM that decides: discrete guidance, candidates that a trajectory commits itself to."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.nn.functional import pad

from ..runtime.arguments import probability
from ..runtime.precision import full
from ..state import Latent
from ..tasks.base import Spec
from .decisions import AllSure, Among, Both, Policy, RandomCells, View, masses, parts
from .gram import GRAM
from .noise import LearnedNoise, NoNoise


class Deciding(GRAM):
    """GRAM whose trajectory carries, for every output token, the set of tokens that it may still be.

    ::

        C_0 = what x leaves possible                        [L_out, V]; e_x sees C too
        for n = 1..N_sup: a supervision step, as in GRAM; after every ``block`` of them
            order  ~ Normal(0, I)                           site "order_{n}", event [L_out]
            parts  = policy(p(y | h, C), C, order)          a partition of the candidates of each token
            part_i ~ Categorical(p(y_i in part | h, C))     site "decision_{n}", event [L_out]
            C_i    = part_i
        y ~ f_dec(h) among C, for each output token         site "y", event [L_out]

    The posterior of a decision is the part that holds y, so its KL is −log p(part): of a decoder with independent
    tokens a decision and what it leaves of y cost together what y cost before, and nothing is lost (arXiv 2503.05979).
    Order and partition are the same under model and guide and cancel. :class:`gram_ppl.guides.Revealing` is the guide
    of a model without Gaussian guidance; every :class:`gram_ppl.Guide` knows decisions.

    Args:
        spec: shapes and relations of the task.
        policy: which candidates are told apart, :mod:`gram_ppl.models.decisions`.
        block: supervision steps between decisions.
        anew: the latent begins at z_0 after each decision, and candidates are all that is carried.
        keep: a head that says of each candidate whether it is right (:class:`gram_ppl.models.Drop`); only
            :class:`gram_ppl.DecidingELBO` trains it.
        contradiction: a head that says whether the candidates exclude every answer: the soft maximum of what it reads
            off each latent token; only :class:`gram_ppl.DecidingELBO` trains it.
        threshold: probability of that head above which a trajectory begins again.
        certain: that above which a board that is decided everywhere, and read under several ``views`` of a rollout, is
            no answer; ``threshold`` if not given. There the head is far surer than on the way.
        noise: Gaussian guidance besides.
        options: all other arguments of :class:`gram_ppl.models.GRAM`.

    Raises:
        ValueError: an encoder without a latent token for each output token, N_sup that is no multiple of ``block``, or
            a threshold that is no probability.
    """

    leaves: Tensor  # [V_in or 1, V] bool
    block: int

    def __init__(
        self,
        spec: Spec,
        *,
        policy: Policy = Both(AllSure(), RandomCells()),  # noqa: B008 (frozen)
        block: int = 4,
        anew: bool = False,
        keep: bool = False,
        contradiction: bool = True,
        threshold: float = 0.5,
        certain: float | None = None,
        noise: LearnedNoise | NoNoise = NoNoise(),  # noqa: B008 (frozen)
        **options: Any,
    ) -> None:
        self.policy, self.block, self.anew, self.threshold = policy, block, anew, threshold
        self.certain = threshold if certain is None else certain
        probability(threshold=self.threshold, certain=self.certain)
        self._heads = {"keep": keep, "contradiction": contradiction}
        super().__init__(spec, noise=noise, **options)
        self.title = "GRAM that decides"
        if self.encoder.num_out != spec.len_out:
            raise ValueError(f"Deciding: {self.encoder.num_out} tokens are decoded to {spec.len_out} answers")
        if block < 1 or self.supervision % block:
            raise ValueError(f"supervision must be a multiple of block={block}, got {self.supervision}")

    def build(self) -> None:
        """See :meth:`Recursive.build`: the embedding of candidates, and the heads."""
        super().build()
        vocab = self.spec.vocab_out
        self.shown = nn.Linear(vocab, self.width, bias=False)
        nn.init.normal_(self.shown.weight, std=vocab**-0.5)
        self.keep = nn.Linear(self.width, vocab) if self._heads["keep"] else None
        self.contradiction = nn.Linear(self.width, 1) if self._heads["contradiction"] else None
        if self.contradiction is not None:
            nn.init.constant_(self.contradiction.bias, -2.0)
        leaves = torch.ones(1, vocab, dtype=torch.bool) if self.spec.leaves is None else self.spec.leaves
        self.register_buffer("leaves", leaves, persistent=False)

    def candidates(self, x: Tensor | None, batch: int) -> Tensor:
        """C_0, the tokens that inputs leave possible: ``[B, L_in] -> [B, L_out, V]`` bool."""
        if x is None or x.shape[-1] == 0 or len(self.leaves) == 1:
            return self.leaves.any(dim=0).expand(batch, self.spec.len_out, -1)
        return self.leaves[x]

    def begin(self, x: Tensor | None, batch: int) -> Latent:
        """See :meth:`Program.begin`."""
        return self.initial(batch)._replace(candidates=self.candidates(x, batch))

    def decode(self, z: Latent) -> TorchDistributionMixin:
        """See :meth:`Program.decode`: independent tokens, each one of its candidates."""
        return Among(self.answer(z.h).base_dist.logits, z.sets).to_event(1)

    def step(self, z: Latent, e: Tensor, related: Tensor | None, n: int) -> Latent:
        """See :meth:`Recursive.step`; every ``block`` of them a decision."""
        if self.anew and n % self.block == 0:
            z = self.initial(len(e))._replace(candidates=z.candidates)
        first = self.encoder.first_out
        behind = self.encoder.length - first - self.spec.len_out
        shown = self.shown(2 * z.sets.to(self.h0.dtype) - 1)
        z = super().step(z, e + pad(shown, (0, 0, first, behind)), related, n)
        return z if (n + 1) % self.block else self.decide(z, n)

    def decide(self, z: Latent, n: int) -> Latent:
        """A decision after supervision step n, and the candidates that it leaves."""
        candidates, log_prob = z.sets, full(self.decode(z).base_dist.logits)
        zeros = torch.zeros(log_prob.shape[:-1], dtype=log_prob.dtype, device=log_prob.device)
        order = pyro.sample(f"order_{n}", dist.Normal(zeros, 1.0).to_event(1))
        candidates, log_prob = (part.expand(*order.shape, -1) for part in (candidates, log_prob))  # of all particles
        with torch.no_grad():
            kept = None if self.keep is None else self.keep_logits(z.h).sigmoid()
            numbers = parts(self.policy(View(log_prob, candidates, order, kept)), candidates)
        infer: Any = {"charged": True, "step": n, "labels": numbers, "candidates": candidates}
        prior = dist.Categorical(logits=masses(log_prob, numbers), validate_args=False).to_event(1)
        part = pyro.sample(f"decision_{n}", prior, infer=infer)
        return z._replace(candidates=candidates & (numbers == part[..., None]))

    def keep_logits(self, h: Tensor) -> Tensor:
        """Logits that each candidate is right: ``[B, L, D] -> [B, L_out, V]``."""
        assert self.keep is not None
        return full(self.keep(self.decoded(h)))

    def doubt(self, h: Tensor) -> Tensor:
        """Logit that the candidates exclude every answer, ``[B, L, D] -> [B]``; −∞ without the head.

        One token without a candidate that fits is enough, so it is the log-sum-exp over tokens.
        """
        if self.contradiction is None:
            return full(h.new_full(h.shape[:1], -torch.inf))
        return full(self.contradiction(h)[..., 0]).logsumexp(dim=-1)

    def settled(self, z: Latent, before: Latent) -> tuple[Tensor, Tensor]:
        """See :meth:`Program.settled`: it has an answer once one candidate is left of every token.

        With a contradiction head, the network has to see that last state too and find nothing wrong with it.
        """
        seen = z if self.contradiction is None else before
        wrong = (self.doubt(z.h).sigmoid() > self.threshold) | ~z.sets.any(dim=-1).all(dim=-1)
        return (seen.sets.sum(dim=-1) == 1).all(dim=-1) & ~wrong, wrong
