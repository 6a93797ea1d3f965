"""All draws of a round, once each, and one step of their way at a time: for policy gradients."""

from collections.abc import Sequence

from torch import Tensor

from graft_lightning.processes.noise import hashed_seed, shuffled
from graft_lightning.rejection.accepted import Stream
from graft_lightning.rejection.grouped import GroupStream
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.selection import Selection
from graft_lightning.types import Chains


class ChainStream(Stream):
    """A block of draws, then as many batches of it as steps are trained, in random order; then the next block.

    Every draw is in one block before any is in a second one. Gradients of all batches of a block are the policy
    gradient of its draws: accumulate them, or as many as are wanted, for an update.

    Attributes:
        selection: what a rule accepts of the round.
        level: of the streamed states, 0.

    Args:
        pool_round: a complete round.
        selection: of this round.
        weights: advantages, ``(conditions, draws)``.
        steps: state indices n of the steps that can be trained.
        of_each: how many of them each block is trained on, chosen at random.
        block: draws in a block: the batch of all processes.
        seed: of the run.
    """

    def __init__(
        self,
        pool_round: Round,
        selection: Selection,
        weights: Tensor,
        steps: Sequence[int],
        of_each: int,
        block: int,
        seed: int = 0,
    ) -> None:
        self._draws = GroupStream(pool_round, selection, weights, 1, "x_0", seed)
        self._seeds = pool_round.column("seed").flatten()
        self._steps, self._block = list(steps), block
        self._of_each = of_each
        self._order = hashed_seed("steps", seed, pool_round.index)
        self.selection, self.level = selection, self._draws.level

    def read(self, positions: Sequence[int]) -> Chains:
        """The draws at positions of the stream, which lie in one block.

        Raises:
            ValueError: if they do not.
        """
        number = positions[0] // self._block
        if positions[-1] // self._block != number:
            raise ValueError(f"positions {positions[0]} to {positions[-1]} are not in one block of {self._block} draws")
        block, batch = divmod(number, self._of_each)
        order = shuffled(len(self._steps), hashed_seed("block", self._order, block))
        indices = self._draws.indices([block * self._block + position % self._block for position in positions])
        groups = self._draws.at(indices, self._seeds[indices])
        return Chains(**vars(groups), step=self._steps[int(order[batch])])
