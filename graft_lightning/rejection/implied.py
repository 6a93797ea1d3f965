"""What an acceptance rule implies for a table of rewards, before anything is trained.

The closed forms that the metrics can be held against are in `acceptance.closed_forms` and re-exported here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from graft_lightning.rejection.acceptance import Acceptance
from graft_lightning.rejection.acceptance.closed_forms import (
    expected_acceptance_best_of_n,
    expected_acceptance_deduplicated,
    expected_acceptance_quantile,
    expected_acceptance_top_k,
    kl_best_of_n,
    kl_top_k,
)
from graft_lightning.rejection.acceptance.groups import finite_rewards

__all__ = [
    "KL_ESTIMATOR",
    "Implied",
    "expected_acceptance_best_of_n",
    "expected_acceptance_deduplicated",
    "expected_acceptance_quantile",
    "expected_acceptance_top_k",
    "implied",
    "kl_best_of_n",
    "kl_top_k",
    "without_signal",
]

KL_ESTIMATOR = (
    "plug-in: sum_i v_i log(M v_i) per condition, v_i = E[A | x_i] / sum_j E[A | x_j] with the condition's M finite "
    "draws in place of the reference, averaged over conditions; at most log M, and too low where it comes near that"
)
"""How `Implied.kl` is estimated, for reports."""


@dataclass(frozen=True)
class Implied:
    """What a rule does to a table of rewards. Tensors are float64 ``(groups,)``, one entry per condition and round.

    A condition contributes to `acceptance_rate` and what stands below it if it is not dropped, and to the effective
    sample size, the KL and the rewards if the rule can accept something in it. Figures without any condition are NaN.

    Attributes:
        conditions: number of groups.
        draws: number of draws, padding left out.
        non_finite: how many of them have a NaN or infinite reward.
        without_signal: number of conditions whose finite rewards are all equal (or absent).
        dropped: number of conditions left out for it.
        without_accepted: number of remaining conditions in which nothing can be accepted.
        expected_accepted: expected number of accepted draws; the sum of weights under soft acceptance.
        acceptance_rate: the same over `draws`.
        effective_sample_size: (sum w)^2 / sum w^2 of the weights E[A | x], each condition's normalised to the same sum,
            because training draws the condition first.
        kl: mean over conditions of KL(p_RL || p) in nats, see `KL_ESTIMATOR`.
        kl_cap: the most that `kl` could be, the mean of log M.
        reward_before: mean reward of the finite draws, each condition counting alike.
        reward_after: mean reward weighted by A, each condition counting alike: the ceiling of one round.
        rate_of_condition: expected share of accepted draws; 0 where dropped.
        effective_sample_size_of_condition: 0 where dropped or where nothing can be accepted.
        kl_of_condition: NaN where dropped or where nothing can be accepted.
        diagnostics: what the rule itself adds, such as the share of rewards above the ceiling.
    """

    conditions: int
    draws: int
    non_finite: int
    without_signal: int
    dropped: int
    without_accepted: int
    expected_accepted: float
    acceptance_rate: float
    effective_sample_size: float
    kl: float
    kl_cap: float
    reward_before: float
    reward_after: float
    rate_of_condition: Tensor
    effective_sample_size_of_condition: Tensor
    kl_of_condition: Tensor
    diagnostics: dict[str, float]

    def scalars(self) -> dict[str, float]:
        """The single metrics by name, with the rule's diagnostics, for a log or a report."""
        metrics = {name: value for name, value in vars(self).items() if isinstance(value, int | float)}
        return metrics | self.diagnostics


def without_signal(rewards: Tensor) -> Tensor:
    """Which groups carry no signal, bool ``(groups,)``: all their finite rewards are equal, or they have none."""
    values, finite = finite_rewards(rewards)
    return values.amax(-1) <= values.masked_fill(~finite, torch.inf).amin(-1)


def implied(
    rule: Acceptance,
    rewards: Tensor,
    keys: Tensor | None = None,
    drawn: Tensor | None = None,
    drop_without_signal: bool = True,
) -> Implied:
    """What `rule` implies for the rewards ``(groups, draws)``.

    Args:
        rule: the rule.
        rewards: NaN where the reward failed, and as padding.
        keys: de-duplication keys, as for the rule.
        drawn: bool ``(groups, draws)``, False for padding, which is then not counted as non-finite; default all True.
        drop_without_signal: leave out conditions whose rewards are all equal, where they have more than one draw.
    """
    _, finite = finite_rewards(rewards)
    drawn = torch.ones_like(finite) if drawn is None else drawn
    silent = without_signal(rewards)
    # the only draw of a condition says nothing about its signal
    dropped = silent & (drop_without_signal and rewards.shape[1] > 1)
    probability = rule.table(rewards, keys).masked_fill(dropped.unsqueeze(-1), 0.0)
    weight = rule.expected(rewards, keys).masked_fill(dropped.unsqueeze(-1), 0.0)
    used = (probability.sum(-1) > 0) & (weight.sum(-1) > 0)
    effective, divergence = _effective(weight), _divergence(weight, finite)
    return Implied(
        conditions=rewards.shape[0],
        draws=int(drawn.sum()),
        non_finite=int((drawn & ~finite).sum()),
        without_signal=int(silent.sum()),
        dropped=int(dropped.sum()),
        without_accepted=int((~dropped & ~used).sum()),
        expected_accepted=float(probability.sum()),
        acceptance_rate=float(probability.sum() / drawn.sum()),
        effective_sample_size=float(used.sum() ** 2 / (1 / effective[used]).sum()),
        kl=float(divergence[used].mean()),
        kl_cap=float(finite.sum(-1)[used].double().log().mean()),
        reward_before=_mean_reward(finite.double(), rewards, used),
        reward_after=_mean_reward(probability, rewards, used),
        rate_of_condition=probability.sum(-1) / drawn.sum(-1).clamp(min=1),
        effective_sample_size_of_condition=effective.masked_fill(~used, 0.0),
        kl_of_condition=divergence.masked_fill(~used, torch.nan),
        diagnostics=rule.diagnostics(rewards),
    )


def _effective(weight: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2 of each group; NaN where no weight is positive."""
    return weight.sum(-1) ** 2 / weight.square().sum(-1)


def _divergence(weight: Tensor, finite: Tensor) -> Tensor:
    """KL of the normalised weights from the uniform distribution on the finite draws, per group, in nats."""
    share = weight / weight.sum(-1, keepdim=True)
    return torch.xlogy(share, share * finite.sum(-1, keepdim=True)).sum(-1)


def _mean_reward(weight: Tensor, rewards: Tensor, used: Tensor) -> float:
    """Mean over the used groups of the group's weighted mean reward."""
    values = rewards.double().masked_fill(weight == 0, 0.0)
    return float(((weight * values).sum(-1) / weight.sum(-1))[used].mean())
