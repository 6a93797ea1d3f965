"""Means over a rule's own randomness, and over the other draws of a group, for rules without a closed form.

The numbers used are a group's own, drawn from its rewards and keys, and fixed for good: what a rule implies for a group
is a function of that group alone, whatever other groups or padding stand in the table. With the same numbers for every
group their errors would not average out over conditions.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from graft_lightning.rejection.acceptance.groups import finite_rewards
from graft_lightning.rejection.acceptance.uniforms import seeds_of_groups, uniforms_of_places

RESAMPLES = 256
"""A simulated probability p has the standard error sqrt(p (1 - p) / 256), at most 0.031.

In bootstrap groups a draw occurs in about 160 of them, so that there it is sqrt(p (1 - p) / 160)."""

Sampled = Callable[[Tensor, Tensor | None, Tensor], Tensor]
"""``(rewards, keys, uniforms) -> table``: `Acceptance.sampled`."""


def simulated_mean(sampled: Sampled, rewards: Tensor, keys: Tensor | None) -> Tensor:
    """A of the groups as they are, averaged over a rule's own randomness."""
    seeds = seeds_of_groups(*finite_rewards(rewards), keys)
    total = torch.zeros(rewards.shape, dtype=torch.float64, device=rewards.device)
    for resample in range(RESAMPLES):
        total += sampled(rewards, keys, uniforms_of_places(rewards, seeds, resample))
    return total / RESAMPLES


def mean_over_resamples(sampled: Sampled, rewards: Tensor, keys: Tensor | None) -> Tensor:
    """A averaged over groups re-drawn with replacement from the finite draws of each group.

    Given that a draw stands in some place of such a group, the others are independent draws of the empirical
    distribution: its mean A over all its occurrences estimates E[A | x] under that distribution.
    """
    values, finite = finite_rewards(rewards)
    seeds = seeds_of_groups(values, finite, keys)
    # finite draws first, so that place < size picks one of them
    candidates = (~finite).long().argsort(dim=-1, stable=True)
    size = finite.sum(-1, keepdim=True)
    filled = torch.arange(rewards.shape[-1], device=rewards.device) < size
    total = torch.zeros(rewards.shape, dtype=torch.float64, device=rewards.device)
    seen = torch.zeros_like(total)
    for resample in range(RESAMPLES):
        picked = candidates.gather(-1, (uniforms_of_places(rewards, seeds, 2 * resample) * size).long())
        table = rewards.gather(-1, picked).to(torch.float64).masked_fill(~filled, torch.nan)
        table_keys = None if keys is None else keys.gather(-1, picked)
        probability = sampled(table, table_keys, uniforms_of_places(rewards, seeds, 2 * resample + 1))
        total.scatter_add_(-1, picked, probability.masked_fill(~filled, 0.0))
        seen.scatter_add_(-1, picked, filled.double())
    return total / seen.clamp(min=1)
