"""The data of fine-tuning: accepted trajectories, streamed from the pool that the reference filled."""

from typing import Any, Literal

import torch

from graft_lightning.datamodules.evaluation import HeldOutConditions
from graft_lightning.datamodules.stream import Positions, StreamLoader, noise_seeds
from graft_lightning.domains.base import Conditions
from graft_lightning.domains.base.shuffles import Shuffles
from graft_lightning.processes.noise import hashed_seed
from graft_lightning.rejection.acceptance import Acceptance
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.selection import Selection, select
from graft_lightning.types import Batch


class AcceptedTrajectories(HeldOutConditions):
    """Streams x_s (or x_0) of accepted trajectories: first a condition, then one of its accepted trajectories.

    Args:
        conditions: what the reference is asked for, and what is trained on.
        acceptance: the rule; it is applied when the pool is read, never when it is filled.
        pool: folder of the trajectory pool; made if absent, used again if it was made by the same reference.
        batch_size: examples per process and step.
        steps_per_epoch: steps that count as an epoch (validation, rounds).
        reward: name of the reward to accept by; the first collected by default.
        drop_without_signal: leave out conditions whose rewards are all equal.
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
        **evaluation: Any,
    ) -> None:
        super().__init__(**evaluation)
        self.conditions, self.acceptance, self.pool = conditions, acceptance, pool
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.reward, self.drop_without_signal = reward, drop_without_signal
        self.selection: Selection | None = None
        self._members: list[list[tuple[int, float]]] = []
        self._round: Round | None = None
        self._field: str = "x_0"
        self._shuffles: dict[tuple[str, int, int], Shuffles] = {}

    def use(self, pool_round: Round, reward: str, state: int | Literal["x_0"]) -> Selection:
        """Selects from a filled round what is trained on from now on.

        Args:
            pool_round: a complete round.
            reward: name of the reward to accept by.
            state: index N_I of the states to stream, or "x_0".
        """
        self.selection = select(
            pool_round.rewards(reward),
            pool_round.column("key"),
            pool_round.column("seed"),
            self.acceptance,
            self.drop_without_signal,
        )
        self._members = [
            list(zip(indices.tolist(), weights.tolist(), strict=True))
            for indices, weights in zip(self.selection.members, self.selection.weights, strict=True)
        ]
        self._round = pool_round
        self._field = "x_0" if state == "x_0" or state == 0 else f"states/{state}"
        self._shuffles = {}
        return self.selection

    def read(self, positions: Positions) -> Batch:
        """The examples at positions of the training stream.

        Raises:
            RuntimeError: before a round has been selected.
        """
        if self.selection is None or self._round is None:
            raise RuntimeError("no round has been collected yet: the callback `collect` fills the pool")
        indices, weights = zip(*map(self._member, positions), strict=True)
        data = self._round.read(indices, ["condition", self._field])
        texts = [self._round.conditions[i] for i in data["condition"].tolist()]
        x = data[tuple(self._field.split("/"))]
        return Batch(x, texts, noise_seeds(self.seed, positions), torch.tensor(weights))

    def _member(self, position: int) -> tuple[int, float]:
        number = position // len(self._members)
        condition = self._shuffle("conditions", 0, len(self._members))[position]
        members = self._members[condition]
        return members[self._shuffle("members", condition, len(members))[number]]

    def _shuffle(self, what: str, which: int, length: int) -> Shuffles:
        key = (what, which, length)
        if key not in self._shuffles:
            assert self._round is not None
            self._shuffles[key] = Shuffles(length, hashed_seed(what, which, self.seed, self._round.index))
        return self._shuffles[key]

    def train_dataloader(self) -> StreamLoader:
        return StreamLoader(self.read, self.batch_size, self.steps_per_epoch, *self.place)
