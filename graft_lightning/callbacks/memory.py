"""What a phase of a run has freed does not stay beside what the next one holds."""

import lightning as L

from graft_lightning.allocator import give_back_freed_memory


class GiveBackMemory(L.Callback):
    """Gives freed memory back as collection, training and evaluation follow each other.

    The peak of a fit is then that of its largest phase. Stands after all callbacks that sample.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After the first collection and the base's evaluation."""
        give_back_freed_memory()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After the collection of a later round."""
        give_back_freed_memory()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After training steps."""
        give_back_freed_memory()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before training steps."""
        give_back_freed_memory()
