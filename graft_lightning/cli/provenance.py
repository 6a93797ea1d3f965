"""What `fit`, and no other command, writes about a run: its configuration, its id."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.cli import SaveConfigCallback

from graft_lightning.runs import begin_run, retire_records, run_folder, run_in

HYPER_PARAMETERS = "hparams.yaml"
"""What TensorBoard's logger writes once a folder, whatever is run there first."""


class Provenance(SaveConfigCallback):
    """Writes the configuration of a fit to its folder, and says in every checkpoint which fit it is of."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Begins the run, or finds the one that goes on; collective."""
        if stage != "fit":
            return
        folder = run_folder(trainer)
        found = None
        if trainer.is_global_zero:
            found = run_in(folder)
            if found is None or trainer.ckpt_path is None:
                found = self._begin(trainer, folder)
        self._run: str = trainer.strategy.broadcast(found)
        pl_module.run = self._run  # type: ignore[assignment]
        super().setup(trainer, pl_module, stage)

    @staticmethod
    def _begin(trainer: L.Trainer, folder: Path) -> str:
        (folder / HYPER_PARAMETERS).unlink(missing_ok=True)  # of what never came to a checkpoint
        retire_records(folder)
        further = {} if trainer.ckpt_path in (None, "last") else {"from": str(trainer.ckpt_path)}
        return begin_run(folder, **further)

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.run = self._run  # a checkpoint of another run, from which this one goes on, has said otherwise

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.run = self._run
