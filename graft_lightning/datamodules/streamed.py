"""What datamodules of training share: a stream of examples, whose place they keep themselves."""

from abc import abstractmethod
from typing import Any

from graft_lightning.datamodules.evaluation import HeldOutConditions
from graft_lightning.datamodules.stream import Positions, StreamLoader
from graft_lightning.types import Batch


class StreamedExamples(HeldOutConditions):
    """Streams training examples, and goes on where a checkpoint was written.

    Lightning gives a loader its state back in the middle of an epoch, or where ``max_steps`` is set, and nowhere else:
    a run that counts epochs alone would see its first batches again.

    Attributes:
        batch_size: examples per process and step.
        steps_per_epoch: steps that count as an epoch, unless the trainer ends it earlier.

    Args:
        evaluation: arguments of `HeldOutConditions`.
    """

    batch_size: int
    steps_per_epoch: int

    def __init__(self, **evaluation: Any) -> None:
        super().__init__(**evaluation)
        self._loader: StreamLoader | None = None
        self._given = 0

    @abstractmethod
    def read(self, positions: Positions) -> Batch:
        """The examples at positions of the training stream."""

    def setup(self, stage: str) -> None:
        """Begins the stream anew with a fit; the state of a checkpoint comes afterwards."""
        super().setup(stage)
        if stage == "fit":
            self._loader, self._given = None, 0

    def train_dataloader(self) -> StreamLoader:
        """A loader that begins where the one before it has ended, if there was one in this fit."""
        given = self.state_dict()
        self._loader = StreamLoader(self.read, self.batch_size, self.steps_per_epoch, *self.place, self._epoch)
        self._loader.load_state_dict(given)
        return self._loader

    def state_dict(self) -> dict[str, Any]:
        return {"steps_done": self._given} if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._given = int(state_dict.get("steps_done", 0))
        if self._loader is not None:
            self._loader.load_state_dict({"steps_done": self._given})

    def _epoch(self) -> tuple[int, int] | None:
        """How many batches of the trainer's epoch are over, and how many it has; None where no trainer trains."""
        trainer = self.trainer
        if trainer is None or not trainer.training:
            return None
        over = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return over, int(min(self.steps_per_epoch, trainer.num_training_batches))
