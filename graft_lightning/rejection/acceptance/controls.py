"""Selections that ignore the reward: what a gain has to be compared with before it is credited to selection."""

import torch
from torch import Tensor

from graft_lightning.rejection.acceptance import settings
from graft_lightning.rejection.acceptance.base import Acceptance
from graft_lightning.rejection.acceptance.groups import finite_rewards, order, places


class Always(Acceptance):
    """Every draw with a finite reward: fine-tuning on unselected samples."""

    pointwise = True

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        return finite_rewards(rewards)[1].double()


class RandomK(Acceptance):
    """Any K of the M draws, as many as `TopK` accepts: exactly min(K, number of finite rewards).

    Args:
        k: how many to accept per condition, at most M.
    """

    def __init__(self, k: int) -> None:
        self.k = settings.whole_number("RandomK", "k", k)

    def check(self, draws: int) -> None:
        super().check(draws)
        settings.enough("RandomK", self.k, draws)

    def most(self, draws: int) -> int:
        return min(self.k, draws)

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        _, finite = finite_rewards(rewards)
        size = finite.sum(-1, keepdim=True).clamp(min=1).to(torch.float64)
        return (self.k / size).clamp(max=1) * finite

    def accept(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        _, finite = finite_rewards(rewards)
        return finite & (places(order((~finite).long(), uniforms.to(torch.float64))) < self.k)

    def expected(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        return self.probability(rewards)
