"""Selection: which trajectories of a round are trained on. Nothing is sampled here: a rule can be changed at will."""

from dataclasses import dataclass

import torch
from torch import Tensor

from graft_lightning.processes.noise import Noise, derived_seeds
from graft_lightning.rejection.acceptance import Acceptance
from graft_lightning.rejection.implied import Implied, implied, without_signal


@dataclass(frozen=True)
class Selection:
    """The accepted trajectories of one round.

    Training draws a condition, then one of its members, and multiplies its loss by the member's weight. What is said of
    a selection is a mean in the same sense (`mean`): conditions alike, members by weight.

    Attributes:
        members: for every condition with accepted trajectories, their global indices.
        weights: for every condition, the loss weight of each member; their mean in each condition is 1, so that soft
            acceptance weighs the conditions as a hard decision does.
        accepted: which draws are members ``(conditions, draws)``; under soft acceptance all that may be accepted.
        share: how far each draw is accepted, float64 ``(conditions, draws)``: 1 or 0, A under soft acceptance.
        probability: A of Eq. 4, ``(conditions, draws)``.
        rewards: ``(conditions, draws)``.
        without_signal: indices of conditions whose finite rewards are all equal.
        not_finite: number of NaN or infinite rewards.
        rule: name of the acceptance rule.
        implied: what the rule means for these rewards in expectation.
    """

    members: list[Tensor]
    weights: list[Tensor]
    accepted: Tensor
    share: Tensor
    probability: Tensor
    rewards: Tensor
    without_signal: list[int]
    not_finite: int
    rule: str
    implied: Implied

    def __len__(self) -> int:
        return sum(len(member) for member in self.members)

    @property
    def relative(self) -> Tensor:
        """A_i over its mean within the condition, float64 ``(conditions, draws)``; 0 where nothing is accepted.

        Its mean over all draws of a condition is 1; less 1 it is the weight by which selected draws less unselected
        ones are summed.
        """
        mean = self.share.mean(1, keepdim=True)
        return torch.where(mean > 0, self.share / mean, 0.0)

    @property
    def acceptance_rate(self) -> float:
        """Accepted share of all draws; under soft acceptance the mean of A, the expected share of a hard decision."""
        return float(self.share.mean())

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2 over all members, each condition's weights with the same sum, as training draws them."""
        squares = [(weights / weights.sum()).square().sum() for weights in self.weights]
        return len(squares) ** 2 / float(torch.stack(squares).sum())

    def means(self, values: Tensor) -> Tensor:
        """The weighted mean over the members of each condition, float64 ``(conditions,)``.

        Values that are not finite are left out; NaN for a condition that has no other.

        Args:
            values: ``(conditions, draws)``.
        """
        known = values.isfinite()
        weight = self.share * known
        total = (weight * values.double().masked_fill(~known, 0.0)).sum(1)
        return torch.where(weight.sum(1) > 0, total / weight.sum(1), torch.nan)

    def mean(self, values: Tensor) -> float:
        """The weighted mean over the accepted, conditions alike: of what training sees, and of what a round can reach.

        Args:
            values: ``(conditions, draws)``; those that are not finite are left out.
        """
        return float(self.means(values).nanmean())

    def mean_before(self, values: Tensor) -> float:
        """The plain mean over all draws of the conditions that accepted any, conditions alike: what `mean` rises from.

        Args:
            values: ``(conditions, draws)``; those that are not finite are left out.
        """
        return mean_of_all(values[self.accepted.any(1)])

    def mean_reward(self) -> tuple[float, float]:
        """Mean finite reward of all draws, and of the accepted ones: where a round starts, and its ceiling.

        Both are means over conditions, the second over those that accepted anything.
        """
        return mean_of_all(self.rewards), self.mean(self.rewards)

    def spread(self, count: int) -> tuple[Tensor, Tensor]:
        """A sample of the accepted whose plain mean stands for `mean`: conditions alike, members by weight.

        Systematic: at ``count`` places, equally far apart, of the members laid end to end, each as long as its weight
        in training. Whatever is longer than the distance of two places is taken repeatedly.

        Args:
            count: how many to take.

        Returns:
            Global indices, int64 ``(count,)``, and how often each has been taken before, int64 ``(count,)``.
        """
        length = torch.cat([weights / weights.sum() for weights in self.weights]).cumsum(0)
        places = (torch.arange(count, dtype=torch.float64) + 0.5) / count * length[-1]
        taken = torch.cat(self.members)[torch.searchsorted(length, places)]
        first = torch.searchsorted(taken, taken)  # indices ascend
        return taken, torch.arange(count) - first


def mean_of_all(values: Tensor) -> float:
    """Mean over conditions of the mean of the finite values ``(conditions, draws)``; NaN where none is."""
    return float(torch.where(values.isfinite(), values, torch.nan).double().nanmean(1).nanmean())


def decision_uniforms(seeds: Tensor) -> Tensor:
    """One uniform per trajectory from its own seed, in a stream of its own; float64, the shape of ``seeds``."""
    drawn = Noise(derived_seeds(seeds.flatten(), "decision"), dtype=torch.float64).uniform()
    return drawn.reshape(seeds.shape)


def select(
    rewards: Tensor, keys: Tensor, seeds: Tensor, acceptance: Acceptance, drop_without_signal: bool = True
) -> Selection:
    """Applies a rule to a round.

    Args:
        rewards: ``(conditions, draws)``, NaN where a sample could not be judged.
        keys: de-duplication keys ``(conditions, draws)``.
        seeds: trajectory seeds ``(conditions, draws)``.
        acceptance: the rule; its group is the condition.
        drop_without_signal: leave out conditions whose finite rewards are all equal.

    Raises:
        ValueError: if nothing is left to train on.
    """
    acceptance.check(rewards.shape[1])
    decision = acceptance.decide(rewards, keys, decision_uniforms(seeds))
    finite = rewards.isfinite()
    silent = without_signal(rewards)
    accepted = decision.accepted
    if drop_without_signal and rewards.shape[1] > 1:
        accepted = accepted & ~silent.unsqueeze(1)
    share = decision.weight.masked_fill(~accepted, 0.0)
    members, weights = [], []
    for condition, row in enumerate(accepted):
        draws = row.nonzero().squeeze(1)
        if len(draws):
            members.append(condition * rewards.shape[1] + draws)
            weights.append(share[condition, draws] / share[condition, draws].mean())
    if not members:
        raise ValueError(
            f"acceptance {type(acceptance).__name__} accepted none of {rewards.numel()} trajectories "
            f"({int((~finite).sum())} rewards not finite, "
            f"{int(silent.sum())} of {len(rewards)} conditions without signal)"
        )
    return Selection(
        members,
        weights,
        accepted,
        share,
        decision.probability,
        rewards,
        silent.nonzero().squeeze(1).tolist(),
        int((~finite).sum()),
        type(acceptance).__name__,
        implied(acceptance, rewards, keys, drop_without_signal=drop_without_signal),
    )
