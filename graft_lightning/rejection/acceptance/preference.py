import torch
from torch import Tensor

from graft_lightning.rejection.acceptance import settings
from graft_lightning.rejection.acceptance.base import Acceptance
from graft_lightning.rejection.acceptance.groups import finite_rewards

BLOCK = 256
"""Draws that all others of the group are compared with at a time."""


class Preference(Acceptance):
    """Exactly one of each pair of consecutive draws, i with probability sigmoid((r_i - r_j) / beta) (Bradley-Terry).

    E[A | r] = E_j sigmoid((r - r_j) / beta), j an independent draw.

    Where one reward of a pair is not finite the other is accepted, as if compared with -inf (and as the best of two
    would be); where neither is, none.

    Args:
        preference_scale: beta, in the reward's units; towards 0 it is the best of two.
    """

    positional = True

    def __init__(self, preference_scale: float) -> None:
        self.preference_scale = settings.positive("Preference", "preference_scale", preference_scale)

    def check(self, draws: int) -> None:
        super().check(draws)
        settings.multiple("Preference", "compares consecutive pairs", 2, draws)

    def most(self, draws: int) -> int:
        return draws // 2

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        lead, finite = self._lead(rewards)
        chance = lead.sigmoid()
        return torch.stack((chance, 1 - chance), -1).reshape(rewards.shape).masked_fill(~finite, 0.0)

    def expected(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        values, finite = finite_rewards(rewards)
        self.check(values.shape[-1])
        values = values.masked_fill(~finite, 0.0)
        total = torch.zeros_like(values)
        for others, real in zip(values.split(BLOCK, -1), finite.split(BLOCK, -1), strict=True):
            chance = ((values.unsqueeze(-1) - others.unsqueeze(-2)) / self.preference_scale).sigmoid()
            total += (chance * real.unsqueeze(-2)).sum(-1)
        return (total / finite.sum(-1, keepdim=True).clamp(min=1)).masked_fill(~finite, 0.0)

    def accept(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        # the difference of two Gumbel variables is logistic: both draws' own uniforms decide, in either order
        smallest = torch.finfo(torch.float64).tiny
        gumbel = -(-uniforms.to(torch.float64).clamp(min=smallest).log()).log()
        lead, finite = self._lead(rewards)
        first = lead + gumbel[..., 0::2] - gumbel[..., 1::2] >= 0
        return torch.stack((first, ~first), -1).reshape(rewards.shape) & finite

    def _lead(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """(r_1 - r_2) / beta of each pair ``(groups, pairs)``, infinite where one is not finite; the finite mask."""
        values, finite = finite_rewards(rewards)
        self.check(values.shape[-1])
        return ((values[..., 0::2] - values[..., 1::2]) / self.preference_scale), finite
