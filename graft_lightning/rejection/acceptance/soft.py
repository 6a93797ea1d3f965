from torch import Tensor

from graft_lightning.rejection.acceptance.base import Acceptance, Decision


class SoftAcceptance(Acceptance):
    """A rule's probability as a weight of the loss, in place of the draw: the same expectation with less variance.

    Every draw with A > 0 is kept, with weight A, which selection divides by its mean within the condition: conditions
    are weighed as by a hard decision that accepts something in each. What is certain under the rule (the ranks of
    top-K) stays as it is.

    Args:
        rule: the rule, a `Chain` included.
    """

    def __init__(self, rule: Acceptance) -> None:
        refuse_soft("SoftAcceptance", rule)
        self.rule = rule
        self.pointwise, self.positional = rule.pointwise, rule.positional

    def check(self, draws: int) -> None:
        self.rule.check(draws)

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        return self.rule.table(rewards, keys)

    def sampled(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        return self.rule.sampled(rewards, keys, uniforms)

    def expected(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        return self.rule.expected(rewards, keys)

    def decide(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Decision:
        """Keep every draw with A > 0, weighted by A; the uniforms are checked and not used."""
        finite = self._checked(rewards, keys, uniforms)
        probability = self._bounded(self.probability(rewards, keys), finite)
        return Decision(probability, probability > 0, probability)

    def diagnostics(self, rewards: Tensor) -> dict[str, float]:
        return self.rule.diagnostics(rewards)


def refuse_soft(outer: str, rule: Acceptance) -> None:
    """Refuse a soft rule inside another one, which would act on draws that are only partly accepted.

    Raises:
        ValueError: naming both and the order that works.
    """
    if isinstance(rule, SoftAcceptance):
        raise ValueError(f"{outer}: a SoftAcceptance inside passes on no decision; use SoftAcceptance({outer}(...))")
