from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graft_lightning.refusals import first_line
from graft_lightning.rejection.acceptance.groups import finite_rewards
from graft_lightning.rejection.acceptance.resampling import mean_over_resamples
from graft_lightning.rejection.acceptance.uniforms import check_uniforms


@dataclass(frozen=True)
class Decision:
    """What a rule decided about a table of draws; every field is ``(groups, draws)``.

    Attributes:
        probability: A of Eq. 4 in [0, 1], float64, averaged over the resolution of ties; 0 where the reward is not
            finite.
        accepted: which draws are used for training.
        weight: factor of a draw's loss, float64: 1 where accepted, A under soft acceptance, 0 where not accepted.
    """

    probability: Tensor
    accepted: Tensor
    weight: Tensor


class Acceptance(ABC):
    """A rule that accepts draws by their rewards, Eq. 4.

    Attributes:
        pointwise: A depends on the draw's own reward alone; it is then E[A | x] already.
        positional: the decision depends on which draws stand side by side (pairs, blocks), not on their rewards alone.
    """

    pointwise: bool = False
    positional: bool = False

    @abstractmethod
    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        """The acceptance probabilities A, float64 ``(groups, draws)``, averaged over the resolution of ties.

        Args:
            rewards: ``(groups, draws)``; what is not finite gets probability 0 and is left out of ranks.
            keys: int64 ``(groups, draws)``: equal keys are copies of one x, -1 is a copy of nothing.
        """

    def decide(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Decision:
        """Draw the decision from the probabilities, with one uniform in [0, 1) per trajectory.

        Raises:
            ValueError: on tables of different shapes, uniforms outside [0, 1), keys that are not integers, or a rule
                whose probabilities leave [0, 1].
        """
        finite = self._checked(rewards, keys, uniforms)
        probability = self._bounded(self.table(rewards, keys), finite)
        accepted = self.accept(rewards, keys, uniforms) & finite
        return Decision(probability, accepted, accepted.to(torch.float64))

    def accept(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        """The accepted draws, bool; independent Bernoulli draws unless a rule accepts an exact number."""
        return uniforms < self.table(rewards, keys)

    def check(self, draws: int) -> None:
        """Refuse a number of draws per condition that the rule cannot work with; to be called before sampling.

        Raises:
            ValueError: naming the rule's setting, M, and what would be right.
        """
        if draws < 1:
            raise ValueError(f"draws must be at least 1 per condition, got M={draws}")

    def most(self, draws: int) -> int:
        """The largest number that can be accepted of `draws`."""
        return draws

    def sampled(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        """A table whose mean over the uniforms is `probability`, for rules in which that costs many evaluations."""
        return self.table(rewards, keys)

    def expected(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        """E[A | x] of every draw if its group's own finite draws were the reference, float64 ``(groups, draws)``.

        Eq. 5 with the empirical distribution of the group in place of the reference. Rules with a closed form use it;
        the others average A over bootstrap groups.
        """
        if self.pointwise:
            return self.table(rewards, keys)
        return mean_over_resamples(self.sampled, rewards, keys)

    def diagnostics(self, rewards: Tensor) -> dict[str, float]:
        """Further metrics that belong into a report of this rule, by name."""
        return {}

    def _checked(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        """The mask of finite rewards, after the tables have been checked."""
        _, finite = finite_rewards(rewards)
        check_uniforms(uniforms, finite)
        if keys is not None and (keys.shape != finite.shape or keys.is_floating_point() or keys.dtype == torch.bool):
            raise ValueError(
                f"keys must be int64 of shape {tuple(finite.shape)}, as the rewards, "
                f"got {keys.dtype} of shape {tuple(keys.shape)}"
            )
        return finite

    def table(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        """The rule's probabilities in double precision, one for each draw: rules of others return what they like.

        Raises:
            ValueError: naming the rule, what it returned, and what would be right.
        """
        found: Any = self.probability(rewards, keys)
        try:
            table = torch.as_tensor(found, dtype=torch.float64, device=rewards.device)
        except (TypeError, ValueError, RuntimeError) as error:
            name, kind = type(self).__name__, type(found).__name__
            raise ValueError(
                f"{name}.probability returned a {kind} ({first_line(error)}); it must return a tensor of shape "
                f"{tuple(rewards.shape)}, as the rewards"
            ) from None
        if table.shape != rewards.shape:
            raise ValueError(
                f"{type(self).__name__}.probability returned shape {tuple(table.shape)} for rewards of shape "
                f"{tuple(rewards.shape)}, (conditions, draws); it must return one number for each of them"
            )
        return table

    def _bounded(self, probability: Tensor, finite: Tensor) -> Tensor:
        probability = probability.masked_fill(~finite, 0.0)
        outside = ~((probability >= 0) & (probability <= 1))
        if outside.any():
            found = probability[outside][0].item()
            raise ValueError(f"{type(self).__name__}: probabilities must lie in [0, 1], got {found}")
        return probability
