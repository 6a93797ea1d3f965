"""What `fit`, and no other command, writes about a run: its configuration, its id."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback

from graft_lightning.callbacks.collect import Collect
from graft_lightning.cli.secrets import unresolved
from graft_lightning.durable import write_text
from graft_lightning.identity import describe, differences, digest_of
from graft_lightning.runs import begin_run, read_run, retire_records, run_folder, run_in
from graft_lightning.types import SettingsError

HYPER_PARAMETERS = "hparams.yaml"
"""What TensorBoard's logger writes once a folder, whatever is run there first."""

RULE = "acceptance"


class Provenance(SaveConfigCallback):
    """Writes the configuration of a fit to its folder, and says in every checkpoint which fit it is of.

    What came from the environment is written as the reference that it was.

    Attributes:
        plain: the configuration in plain values, which it is given before a run.
    """

    plain: Mapping[str, Any]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.save_to_log_dir = False  # Lightning's own way of writing it leaves part of a file where the disk is full

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Begins the run, or finds the one that goes on. Collective.

        Raises:
            SettingsError: if the folder is another run's, and could not be changed before the logger was built; of an
                evaluation, if the reward was edited that the run was trained on.
        """
        if stage in ("validate", "test"):
            self._refuse_edited(trainer)
        if stage != "fit":
            return
        folder = run_folder(trainer)
        self._decision = decision_of(trainer)  # now, for a reward may become another object by its first call
        found: Any = None
        if trainer.is_global_zero:
            found, goes_on = run_in(folder), self._goes_on(trainer)
            if found is not None and not goes_on and any((folder / "checkpoints").rglob("*.ckpt")):
                found = SettingsError(
                    f"{folder} holds the checkpoints of another run, and this logger has no folder of its own to give "
                    "(trainer.logger, trainer.default_root_dir): set another one, go on with --ckpt_path FILE, or "
                    "delete that run"
                )
            elif found is None or not goes_on:
                found = self._begin(folder, self._decision)
        found = trainer.strategy.broadcast(found)
        if isinstance(found, SettingsError):
            raise found
        self._run: str = found
        pl_module.run = self._run
        self._folder = folder
        super().setup(trainer, pl_module, stage)

    def _refuse_edited(self, trainer: L.Trainer) -> None:
        """An evaluation by another reward of the same name would stand beside those that the run has."""
        before, now = read_run(run_folder(trainer)).get("decision", {}), decision_of(trainer)
        shared = [name for name in before if name in now and name != RULE]
        if edited := differences({n: before[n] for n in shared}, {n: now[n] for n in shared}, "in the run"):
            raise SettingsError(
                f"{run_folder(trainer)} was trained on another reward of the same name and settings:\n  "
                + "\n  ".join(edited)
                + "\nPut it back as it was, or give the present one another name and evaluate it too "
                "(evaluate.rewards)"
            )

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Writes the configuration to the run's folder, of the first process.

        Raises:
            OSError: if it cannot be written; that of an earlier start is untouched.
        """
        text = yaml.safe_dump(unresolved(dict(self.plain)), sort_keys=False, allow_unicode=True)
        write_text(self._folder / self.config_filename, text)

    def _goes_on(self, trainer: L.Trainer) -> bool:
        """Whether there is a checkpoint; ``last`` has been replaced by one where a run has left some."""
        preempted = getattr(trainer, "_checkpoint_connector", None)
        return self.config.get("ckpt_path") not in (None, "last") or bool(
            getattr(preempted, "_hpc_resume_path", None)  # which SLURM's next start of a job takes by itself
        )

    def _begin(self, folder: Path, decision: dict[str, str]) -> str:
        (folder / HYPER_PARAMETERS).unlink(missing_ok=True)  # of what never came to a checkpoint
        retire_records(folder)
        asked = self.config.get("ckpt_path")
        return begin_run(folder, decision=decision, **({} if asked in (None, "last") else {"from": str(asked)}))

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """A checkpoint of another run, from which this one goes on, says otherwise; records are written from now on."""
        if trainer.state.fn == "fit":
            pl_module.run = self._run

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Refuses to go on by another reward or rule than the run was begun with.

        After `Collect`, where the pool says it better, if it knows.
        """
        before = read_run(run_folder(trainer)).get("decision", {})
        if edited := differences(before, self._decision, "when it was begun", "now"):
            raise SettingsError(
                "this run was begun with another reward or rule of the same name and settings:\n  "
                + "\n  ".join(edited)
                + "\nA run goes on as it was begun: name another folder for a fresh one, or delete this one"
            )
        pl_module.run = self._run

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        pl_module.run = self._run  # weights alone may have been loaded, of which no callback is told


def decision_of(trainer: L.Trainer) -> dict[str, str]:
    """Digests of all that decides what is accepted, source text included: by name, the rewards, and the rule."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    found = {
        f"reward {name}": digest_of(describe(reward, evidence=True))
        for callback in callbacks
        if isinstance(callback, Collect)
        for name, reward in callback.rewards.items()
    }
    rule = getattr(trainer.datamodule, "acceptance", None)  # type: ignore[attr-defined]
    return found if rule is None else {**found, RULE: digest_of(describe(rule, evidence=True))}
