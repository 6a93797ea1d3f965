"""A validation that was due when a checkpoint was saved: a run that is killed inside it makes up for it."""

import math
from typing import Any

import lightning as L

from graft_lightning.runs import read_records, run_folder

DUE = "validation_due"
"""Key of checkpoints: the step at which a validation was about to begin."""


class DueValidation:
    """Which validation a checkpoint says is to come next, and whether a run that goes on from it has had it."""

    def __init__(self) -> None:
        self._validated = -1  # at which step
        self._owed: int | None = None  # the step of a checkpoint after which a validation was due

    def note(self, trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
        """Writes into a checkpoint that a validation follows, where one does."""
        if _validation_follows(trainer) and self._validated != trainer.global_step:
            checkpoint[DUE] = trainer.global_step

    def take_up(self, checkpoint: dict[str, Any]) -> None:
        """Reads what `note` has written."""
        self._owed = checkpoint.get(DUE)

    def done(self, trainer: L.Trainer) -> None:
        """A validation has taken place."""
        self._validated, self._owed = trainer.global_step, None

    def forget(self) -> None:
        """Training goes on: nothing is owed any more."""
        self._owed = None

    def owed_by(self, trainer: L.Trainer, method: str) -> bool:
        """Whether the records of the run lack the validation of this method that was due. Collective."""
        if self._owed is None:
            return False
        wanted = ("validate", method, self._owed)
        folder = run_folder(trainer)
        recorded = any((r["stage"], r["method"], r["step"]) == wanted for r in read_records(folder))
        return not trainer.strategy.broadcast(recorded)

    @staticmethod
    def make_up(trainer: L.Trainer) -> None:
        """Runs the trainer's validation between two batches."""
        logged: Any = trainer._logger_connector
        first = logged._first_loop_iter  # kept, as Lightning itself keeps it around a validation
        trainer.validating = True
        trainer.fit_loop.epoch_loop.val_loop.run()
        logged._first_loop_iter, trainer.training = first, True


def _validation_follows(trainer: L.Trainer) -> bool:
    """Whether Lightning's loop validates after the batch that it has just trained on."""
    loop = trainer.fit_loop.epoch_loop
    every, interval = trainer.check_val_every_n_epoch, trainer.val_check_batch
    if not trainer.enable_validation or (every is not None and (trainer.current_epoch + 1) % every):
        return False
    if interval is None or math.isinf(interval):
        return bool(loop.batch_progress.is_last_batch)
    done = loop.total_batch_idx if every is None else loop.batch_idx
    return (done + 1) % int(interval) == 0
