"""The data of a noise corrector: the inverse noise of training data, streamed from the pool that inversion filled."""

from typing import Any

import torch
from torch import Tensor

from graft_lightning.datamodules.stream import Positions, noise_seeds
from graft_lightning.datamodules.streamed import StreamedExamples
from graft_lightning.domains.base import Examples
from graft_lightning.processes.noise import hashed_seed
from graft_lightning.rejection.pool import Round
from graft_lightning.shuffles import Shuffles
from graft_lightning.types import Batch, SettingsError


class InverseNoise(StreamedExamples):
    """Streams the inverse noise of the samples that converged, and of no others.

    Args:
        examples: the flow's training data; datum k is position k of their stream.
        pool: folder of the pool; made if absent, used again if the same flow was inverted on the same data.
        count: how many positions are inverted; all examples once by default.
        examples_seed: of the stream of examples.
        batch_size: per process and step.
        steps_per_epoch: steps that count as an epoch.
        evaluation: conditions of samples and the run's seed; arguments of `HeldOutConditions`.
    """

    def __init__(
        self,
        examples: Examples,
        pool: str,
        count: int | None = None,
        examples_seed: int = 0,
        batch_size: int = 256,
        steps_per_epoch: int = 100,
        **evaluation: Any,
    ) -> None:
        super().__init__(**evaluation)
        if count is not None and count < 2:
            raise ValueError(f"data.count={count}; a distribution is learned from at least 2 samples")
        self.examples, self.pool, self.count, self.examples_seed = examples, pool, count, examples_seed
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.converged: Tensor | None = None
        self._round: Round | None = None
        self._field = ""
        self._shuffles: Shuffles | None = None

    @property
    def positions(self) -> int:
        """How many positions of the examples are inverted.

        Raises:
            SettingsError: if neither ``count`` nor the examples say so.
        """
        if self.count is not None:
            return self.count
        try:
            return len(self.examples)  # type: ignore[arg-type]
        except TypeError:
            name = type(self.examples).__name__
            raise SettingsError(f"data.count is not set, and {name} has no length: say how many are inverted") from None

    def use(self, pool_round: Round) -> Tensor:
        """Takes a filled round; from now on its converged samples are streamed.

        Returns:
            Which samples converged, bool ``(positions,)``.

        Raises:
            SettingsError: if fewer than 2 did.
        """
        converged = pool_round.column("converged")[0].bool()
        if converged.sum() < 2:
            raise SettingsError(
                f"of {len(converged)} samples in {pool_round.path}, {int(converged.sum())} converged: start the "
                "inversion at a higher level (invert.start_level), take more steps, or another solver"
            )
        self._round, self.converged = pool_round, converged.nonzero().squeeze(1)
        (state,) = pool_round.kept_levels
        self._field = f"states/{state}"
        self._shuffles = Shuffles(len(self.converged), hashed_seed("inverse noise", self.seed))
        return converged

    def noise(self, limit: int | None = None) -> Tensor:
        """Converged inverse noise ``(samples, *shape)``, in the order of the data, at most ``limit``.

        Raises:
            RuntimeError: before a round is filled.
        """
        opened, converged = self._opened()
        return self._states(opened, converged[:limit])

    def read(self, positions: Positions) -> Batch:
        """The examples at positions of the training stream: every converged sample once in each stretch."""
        opened, converged = self._opened()
        assert self._shuffles is not None
        chosen = converged[torch.tensor([self._shuffles[position] for position in positions])]
        x = self._states(opened, chosen)
        return Batch(x, [""] * len(chosen), noise_seeds(self.seed, positions), torch.ones(len(chosen)))

    def _states(self, opened: Round, indices: Tensor) -> Tensor:
        return opened.read(indices, [self._field])[tuple(self._field.split("/"))]

    def _opened(self) -> tuple[Round, Tensor]:
        if self._round is None or self.converged is None:
            raise RuntimeError("nothing is inverted yet: the callback Invert fills the pool when a fit starts")
        return self._round, self.converged
