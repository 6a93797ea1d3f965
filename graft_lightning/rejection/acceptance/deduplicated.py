"""Rules that accept one of several copies, so that a reward cannot be earned by repetition.

The reward is a function of x, and so copies have equal rewards. Where a key is coarser than the reward (a molecule's
formula, rewarded by its geometry) the best draws of a key are its copies, and the others are never accepted.
"""

import torch
from torch import Tensor

from graft_lightning.rejection.acceptance import settings
from graft_lightning.rejection.acceptance.base import Acceptance
from graft_lightning.rejection.acceptance.closed_forms import expected_acceptance_deduplicated
from graft_lightning.rejection.acceptance.groups import copies, finite_rewards, one_of_each
from graft_lightning.rejection.acceptance.soft import refuse_soft
from graft_lightning.rejection.acceptance.uniforms import fresh_uniforms


class BinaryDeduplicated(Acceptance):
    """A = r / N for rewards r in {0, 1} and N copies of x: exactly one copy of everything with r = 1.

    E[A | x] = r (1 - (1 - p)^M) / (M p): rare x are favoured, roughly by a bonus of -log N in the reward.
    """

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        count, _ = self._copies(rewards, keys)
        return (count > 0).double() / count.clamp(min=1)

    def accept(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        return one_of_each(*self._copies(rewards, keys), uniforms)

    def expected(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        count, _ = self._copies(rewards, keys)
        size = finite_rewards(rewards)[1].sum(-1, keepdim=True).clamp(min=1).double()
        return expected_acceptance_deduplicated(count.clamp(min=1) / size, size) * (count > 0)

    def _copies(self, rewards: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor]:
        values, finite = finite_rewards(rewards)
        settings.only_zero_or_one("BinaryDeduplicated", values, finite)
        count, run = copies(values, finite, keys)
        return count * (values == 1), run


class Deduplicated(Acceptance):
    """A rule among different x: one copy of each, the best, stands before it; its equal copies share the chance.

    `Deduplicated(TopK(k))` accepts the k best different ones, `Deduplicated(Always())` one copy of each.

    Args:
        rule: any rule that does not depend on the positions of draws.
    """

    def __init__(self, rule: Acceptance) -> None:
        if rule.positional:
            raise ValueError(
                f"Deduplicated: {type(rule).__name__} compares neighbouring draws, and removing copies leaves gaps; "
                f"use Chain([{type(rule).__name__}(...), Deduplicated(Always())])"
            )
        refuse_soft("Deduplicated", rule)
        self.rule = rule

    def check(self, draws: int) -> None:
        self.rule.check(draws)

    def most(self, draws: int) -> int:
        return self.rule.most(draws)

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        count, run = self._copies(rewards, keys)
        return _shared(self.rule.table(self._representatives(rewards, count, run), keys), count, run)

    def sampled(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        count, run = self._copies(rewards, keys)
        remaining = self._representatives(rewards, count, run)
        return _shared(self.rule.sampled(remaining, keys, fresh_uniforms(uniforms, 1)), count, run)

    def accept(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        chosen = one_of_each(*self._copies(rewards, keys), fresh_uniforms(uniforms, 0))
        remaining = rewards.double().masked_fill(~chosen, torch.nan)
        return self.rule.accept(remaining, keys, fresh_uniforms(uniforms, 1))

    def diagnostics(self, rewards: Tensor) -> dict[str, float]:
        return self.rule.diagnostics(rewards)

    def _copies(self, rewards: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor]:
        return copies(*finite_rewards(rewards), keys)

    def _representatives(self, rewards: Tensor, count: Tensor, run: Tensor) -> Tensor:
        """The rewards with NaN for all but one draw of each run; which one does not matter to the rule."""
        anyone = torch.zeros_like(rewards, dtype=torch.float64)
        return rewards.double().masked_fill(~one_of_each(count, run, anyone), torch.nan)


def _shared(probability: Tensor, count: Tensor, run: Tensor) -> Tensor:
    """The probability of the one draw that stands for its run, in equal parts to all draws of the run."""
    total = torch.zeros_like(probability).scatter_add_(-1, run, probability)
    return total.gather(-1, run) * (count > 0) / count.clamp(min=1)
