import torch
from torch import Tensor

from graft_lightning.rejection.acceptance.base import Acceptance
from graft_lightning.rejection.acceptance.resampling import simulated_mean
from graft_lightning.rejection.acceptance.soft import refuse_soft
from graft_lightning.rejection.acceptance.uniforms import fresh_uniforms


class Chain(Acceptance):
    """Rules one after the other: each acts on what those before it accepted, as if nothing else had been drawn.

    The stages draw independently. The probability is exact unless a rule that looks at the whole group follows a random
    decision; then it is the mean over 256 simulated ones (standard error at most 0.031), and soft acceptance leaves out
    what none of them accepted. Decisions are always exact.

    Args:
        rules: at least one; `SoftAcceptance` goes round the chain, not into it.
    """

    def __init__(self, rules: list[Acceptance]) -> None:
        if not rules:
            raise ValueError("Chain: rules must hold at least one rule, got []")
        for rule in rules:
            refuse_soft("Chain", rule)
        self.rules = list(rules)
        self.pointwise = all(rule.pointwise for rule in rules)
        self.positional = any(rule.positional for rule in rules)

    def check(self, draws: int) -> None:
        left = draws
        for rule in self.rules:
            # a rule of positions still sees all places; any other sees no more than were accepted before it
            rule.check(draws if rule.positional else left)
            left = min(left, rule.most(draws if rule.positional else left))

    def most(self, draws: int) -> int:
        left = draws
        for rule in self.rules:
            left = min(left, rule.most(draws if rule.positional else left))
        return left

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        probability = torch.ones_like(rewards, dtype=torch.float64)
        for rule in self.rules:
            if not rule.pointwise and bool(((probability > 0) & (probability < 1)).any()):
                return simulated_mean(self.sampled, rewards, keys)
            probability = probability * rule.table(_only(rewards, probability > 0), keys)
        return probability

    def sampled(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        remaining = self._after(self.rules[:-1], rewards, keys, uniforms)
        return self.rules[-1].sampled(remaining, keys, fresh_uniforms(uniforms, len(self.rules) - 1))

    def accept(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        return self._after(self.rules, rewards, keys, uniforms).isfinite()

    def diagnostics(self, rewards: Tensor) -> dict[str, float]:
        return {name: value for rule in self.rules for name, value in rule.diagnostics(rewards).items()}

    @staticmethod
    def _after(rules: list[Acceptance], rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        """The rewards with NaN for what one of the rules did not accept."""
        for stage, rule in enumerate(rules):
            rewards = _only(rewards, rule.accept(rewards, keys, fresh_uniforms(uniforms, stage)))
        return rewards


def _only(rewards: Tensor, kept: Tensor) -> Tensor:
    """The rewards, float64, with NaN for what is no longer there."""
    return rewards.to(torch.float64).masked_fill(~kept, torch.nan)
