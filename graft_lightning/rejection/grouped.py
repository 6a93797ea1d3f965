"""All draws of a pool in groups, rejected ones too, as an endless stream: for objectives that compare draws."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from graft_lightning.processes.noise import hashed_seed, place_seeds
from graft_lightning.rejection.accepted import Stream
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.selection import Selection
from graft_lightning.rejection.stored import StoredStates
from graft_lightning.shuffles import Shuffles
from graft_lightning.types import Groups


class GroupStream(Stream):
    """First a condition, then a group of its draws, accepted or not; conditions count alike.

    The draws of a condition are shuffled anew for every pass and cut into groups; what is left over at the end of a
    pass waits for another one. A group never holds a draw twice. Draws without a weight are members of groups too, to
    be compared with, unless ``weighted_only`` leaves them out.

    Attributes:
        selection: what a rule accepts of the round.
        size: draws in a group.
        level: of the streamed states; 0 of x_0.

    Args:
        pool_round: a complete round.
        selection: of this round.
        weights: what each draw counts, ``(conditions, draws)``; conditions without any weight are left out.
        size: draws in a group.
        state: index N_I of the states to stream, or "x_0".
        seed: of the run; with the round it gives the order, and of each position the training noise.
        weighted_only: leave out draws whose weight is 0.

    Raises:
        ValueError: if a condition has fewer draws than a group, no draw has a weight, or a weight is not finite.
    """

    def __init__(
        self,
        pool_round: Round,
        selection: Selection,
        weights: Tensor,
        size: int,
        state: int | Literal["x_0"] = "x_0",
        seed: int = 0,
        weighted_only: bool = False,
    ) -> None:
        draws = pool_round.draws
        if not 1 <= size <= draws:
            raise ValueError(f"size={size}: a group has 1 to {draws} draws, as many as there are of a condition")
        if weights.shape != selection.rewards.shape or not weights.isfinite().all():
            raise ValueError(
                f"weights are {tuple(weights.shape)}, {int((~weights.isfinite()).sum())} of them not finite; each of "
                f"the {tuple(selection.rewards.shape)} draws needs one"
            )
        weighted = weights != 0
        self._conditions = weighted.any(1).nonzero().squeeze(1).tolist()
        if not self._conditions:
            raise ValueError("no draw has a weight other than 0: there is nothing to train on")
        kept = weighted if weighted_only else torch.ones_like(weighted)
        self._kept = {condition: kept[condition].nonzero().squeeze(1).tolist() for condition in self._conditions}
        if (fewest := min(map(len, self._kept.values()))) < size:
            raise ValueError(f"size={size}: a condition has {fewest} draws with a weight other than 0, no whole group")
        self.selection, self.size, self.seed = selection, size, seed
        self._round, self._stored = pool_round, StoredStates(pool_round, state)
        self.level = self._stored.level
        self._weights, self._rewards = weights.flatten().float(), selection.rewards.flatten().float()
        self._order = Shuffles(len(self._conditions), hashed_seed("groups", seed, pool_round.index))
        self._members: dict[int, Shuffles] = {}

    def read(self, positions: Sequence[int]) -> Groups:
        """The groups at positions of the stream.

        Raises:
            ValueError: if the positions cut a group in two.
        """
        groups = positions[:: self.size]
        whole = [group + i for group in groups for i in range(self.size)]
        if whole != list(positions) or any(group % self.size for group in groups):
            raise ValueError(f"positions of whole groups are asked for, which begin at multiples of {self.size}")
        return self.at(self.indices(groups), place_seeds("noise", self.seed, positions))

    def indices(self, groups: Sequence[int]) -> list[int]:
        """Global indices of the draws of the groups that begin at these positions."""
        return [index for group in groups for index in self._group(group // self.size)]

    def at(self, indices: list[int], seeds: Tensor) -> Groups:
        """Draws by their global indices, one group after the other.

        Args:
            indices: of whole groups.
            seeds: one for each.
        """
        x, texts = self._stored.read(indices)
        return Groups(x, texts, seeds, self._weights[indices], self._rewards[indices], self.size)

    def _group(self, number: int) -> list[int]:
        """Global indices of the draws of a group."""
        visit = number // len(self._conditions)
        condition = self._conditions[self._order[number]]
        kept = self._kept[condition]
        one_pass, part = divmod(visit, len(kept) // self.size)
        start = one_pass * len(kept) + part * self.size
        if condition not in self._members:
            seed = hashed_seed("draws", condition, self.seed, self._round.index)
            self._members[condition] = Shuffles(len(kept), seed)
        order = self._members[condition]
        return [condition * self._round.draws + kept[order[start + i]] for i in range(self.size)]


def group_size(batch_size: int, draws: int) -> int:
    """The largest size of a group that divides a batch and is no more than the draws of a condition."""
    return max(size for size in range(1, min(batch_size, draws) + 1) if batch_size % size == 0)
