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

    Attributes:
        members: for every condition with accepted trajectories, their global indices.
        weights: for every condition, the loss weight of each member.
        accepted: decisions ``(conditions, draws)``.
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
    probability: Tensor
    rewards: Tensor
    without_signal: list[int]
    not_finite: int
    rule: str
    implied: Implied

    def __len__(self) -> int:
        return sum(len(member) for member in self.members)

    @property
    def acceptance_rate(self) -> float:
        """Accepted share of all draws."""
        return float(self.accepted.float().mean())

    def mean_reward(self) -> tuple[float, float]:
        """Mean finite reward of all draws, and of the accepted ones by weight: where a round starts, and its ceiling.

        Both are means over conditions, the second over those that accepted anything.
        """
        finite = torch.where(self.rewards.isfinite(), self.rewards, torch.nan)
        flat = finite.flatten()
        of_accepted = [
            (weights * flat[members]).nansum() / weights[flat[members].isfinite()].sum()
            for members, weights in zip(self.members, self.weights, strict=True)
        ]
        return float(finite.nanmean(1).nanmean()), float(torch.stack(of_accepted).nanmean())


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
    members, weights = [], []
    for condition, row in enumerate(accepted):
        draws = row.nonzero().squeeze(1)
        if len(draws):
            members.append(condition * rewards.shape[1] + draws)
            weights.append(decision.weight[condition, draws])
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
        decision.probability,
        rewards,
        silent.nonzero().squeeze(1).tolist(),
        int((~finite).sum()),
        type(acceptance).__name__,
        implied(acceptance, rewards, keys, drop_without_signal=drop_without_signal),
    )
