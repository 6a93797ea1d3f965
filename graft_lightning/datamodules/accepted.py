"""The data of fine-tuning: accepted trajectories, streamed from the pool that the reference filled."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from graft_lightning.datamodules.stream import Positions
from graft_lightning.datamodules.streamed import StreamedExamples
from graft_lightning.domains.base import Conditions
from graft_lightning.rejection.acceptance import Acceptance
from graft_lightning.rejection.accepted import AcceptedStream
from graft_lightning.rejection.chains import ChainStream
from graft_lightning.rejection.grouped import GroupStream, group_size
from graft_lightning.rejection.objectives import PolicyObjective, WeighedObjective
from graft_lightning.rejection.pool import Round, TrajectoryPool
from graft_lightning.rejection.selection import Selection
from graft_lightning.types import Batch


class AcceptedTrajectories(StreamedExamples):
    """Streams x_s (or x_0) of accepted trajectories: first a condition, then one of its accepted trajectories.

    Args:
        conditions: what the reference is asked for, and what is trained on.
        acceptance: the rule; it is applied when the pool is read, never when it is filled.
        pool: folder of the trajectory pool; made if absent, used again if it was made by the same reference.
        batch_size: examples per process and step.
        steps_per_epoch: steps that count as an epoch (validation, rounds).
        reward: name of the reward to accept by; the first collected by default.
        drop_without_signal: leave out conditions whose rewards are all equal.
        rescore: where a reward was changed since it scored the pool, put the old scores aside, under a name of their
            own, and score anew; refused otherwise.
        group: draws of a group, where the objective looks at whole groups; it divides the batch. By default the largest
            number that does, and is no more than the draws of a condition.
        evaluation: held-out conditions and the run's seed; arguments of `HeldOutConditions`.
    """

    def __init__(
        self,
        conditions: Conditions,
        acceptance: Acceptance,
        pool: str,
        batch_size: int = 64,
        steps_per_epoch: int = 100,
        reward: str | None = None,
        drop_without_signal: bool = True,
        rescore: bool = False,
        group: int | None = None,
        **evaluation: Any,
    ) -> None:
        super().__init__(**evaluation)
        self.conditions, self.acceptance, self.pool = conditions, acceptance, pool
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.reward, self.drop_without_signal, self.rescore = reward, drop_without_signal, rescore
        self.group = group
        if group is not None and (group < 1 or batch_size % group):
            raise ValueError(f"data.group={group} does not divide data.batch_size={batch_size} into whole groups")
        self._stream: AcceptedStream | GroupStream | ChainStream | None = None

    @property
    def selection(self) -> Selection | None:
        """What was accepted of the round in use."""
        return None if self._stream is None else self._stream.selection

    def use(
        self,
        pool_round: Round,
        reward: str,
        state: int | Literal["x_0"],
        objective: WeighedObjective | None = None,
        steps: Sequence[int] = (),
    ) -> Selection:
        """Selects from a filled round what is trained on from now on.

        Args:
            pool_round: a complete round.
            reward: name of the reward to accept by.
            state: index N_I of the states to stream, or "x_0".
            objective: over whole groups, which are then streamed, rejected draws and all.
            steps: state indices of the sampler's steps that a policy gradient is taken of.
        """
        chosen = AcceptedStream(pool_round, self.acceptance, reward, state, self.seed, self.drop_without_signal)
        if objective is None:
            self._stream = chosen
            return chosen.selection
        weights = self._weights(pool_round, reward, chosen.selection, objective)
        if isinstance(objective, PolicyObjective):
            block = self.batch_size * self.place[1]
            self._stream = ChainStream(
                pool_round, chosen.selection, weights, steps, objective.batches_of(len(steps)), block, self.seed
            )
        else:
            self._stream = self.grouped(pool_round, chosen.selection, state, objective, weights)
        return self._stream.selection

    def _weights(self, pool_round: Round, reward: str, selection: Selection, objective: WeighedObjective) -> Tensor:
        """What each draw counts, ``(conditions, draws)``."""
        before = selection.rewards[:, :0]
        if pool_round.index and not objective.within_conditions:
            pool = TrajectoryPool.open(self.pool, verify=False)
            rounds = [pool.round(i, pool_round.conditions, pool_round.draws) for i in range(pool_round.index)]
            before = torch.cat([one.rewards(reward) for one in rounds], 1)
        weights = objective.weights_after(selection, before)
        if self.drop_without_signal and objective.within_conditions and pool_round.draws > 1:
            weights = weights.index_fill(0, torch.tensor(selection.without_signal, dtype=torch.int64), 0.0)
        return weights

    def grouped(
        self,
        pool_round: Round,
        selection: Selection,
        state: int | Literal["x_0"],
        objective: WeighedObjective,
        weights: Tensor,
    ) -> GroupStream:
        """Whole groups of a round, weighted by an objective; arguments as in `use`."""
        fixed = objective.group
        if fixed and (self.group or fixed) != fixed:
            raise ValueError(
                f"data.group={self.group}: {type(objective).__name__} is about groups of {fixed}; leave it out"
            )
        if fixed and self.batch_size % fixed:
            raise ValueError(f"data.batch_size={self.batch_size} is not divisible by {fixed}, a group of the objective")
        size = self.group or fixed or group_size(self.batch_size, pool_round.draws)
        return GroupStream(pool_round, selection, weights, size, state, self.seed, objective.weighted_only)

    def read(self, positions: Positions) -> Batch:
        """The examples at positions of the training stream.

        Raises:
            RuntimeError: before a round has been selected.
        """
        if self._stream is None:
            raise RuntimeError("no round has been collected yet: the callback `collect` fills the pool")
        return self._stream.read(positions)
