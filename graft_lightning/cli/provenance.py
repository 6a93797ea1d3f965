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
            if found is None or not self._goes_on(trainer):
                found = self._begin(folder)
        self._run: str = trainer.strategy.broadcast(found)
        pl_module.run = self._run  # type: ignore[assignment]
        super().setup(trainer, pl_module, stage)

    def _goes_on(self, trainer: L.Trainer) -> bool:
        """Whether there is a checkpoint; ``last`` has been replaced by one where a run has left some."""
        preempted = getattr(trainer, "_checkpoint_connector", None)
        return self.config.get("ckpt_path") not in (None, "last") or bool(
            getattr(preempted, "_hpc_resume_path", None)  # which SLURM's next start of a job takes by itself
        )

    def _begin(self, folder: Path) -> str:
        (folder / HYPER_PARAMETERS).unlink(missing_ok=True)  # of what never came to a checkpoint
        retire_records(folder)
        asked = self.config.get("ckpt_path")
        return begin_run(folder, **({} if asked in (None, "last") else {"from": str(asked)}))

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.run = self._run  # a checkpoint of another run, from which this one goes on, has said otherwise

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.run = self._run
