"""The progress bar of a fit that is counted in steps, of whose epochs no last one is known."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar


def described(trainer: L.Trainer) -> str:
    """What stands before the bar of an epoch: its number, and where the fit ends."""
    epoch = f"Epoch {trainer.current_epoch + 1}"
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        return f"{epoch} of {trainer.max_epochs}"
    return epoch if trainer.max_steps < 0 else f"{epoch}, to step {trainer.max_steps}"


class StepsBar(TQDMProgressBar):
    """Lightning's bar."""

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer, *_)
        self.train_progress_bar.set_description(described(trainer))


class RichStepsBar(RichProgressBar):
    """Lightning's bar, where rich is installed."""

    def _get_train_description(self, current_epoch: int) -> str:
        return described(self.trainer)


def with_plain_bar(trainer: L.Trainer) -> None:
    """Puts a bar of ours in the place of Lightning's own default; one that a configuration names stays."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for place, callback in enumerate(callbacks):
        if type(callback) is TQDMProgressBar:
            callbacks[place] = StepsBar(refresh_rate=callback.refresh_rate)
        elif type(callback) is RichProgressBar:
            callbacks[place] = RichStepsBar(refresh_rate=int(callback.refresh_rate))
