"""The trainer, with the commands that are no method of Lightning's."""

import contextlib
import shutil
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from graft_lightning.callbacks.board import with_boards
from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.evaluate import Evaluate
from graft_lightning.callbacks.failures import TellOthers
from graft_lightning.callbacks.invert import Invert
from graft_lightning.callbacks.pace import Pace
from graft_lightning.callbacks.ranks import on_all_processes, ready
from graft_lightning.callbacks.spent import Spent
from graft_lightning.checkpoints import DurableCheckpoints
from graft_lightning.domains.base import Examples
from graft_lightning.durable import replacing
from graft_lightning.processes.weightings import CappedInverseAlpha, Weighting
from graft_lightning.reports.costs import loop_of
from graft_lightning.reports.diagnose import diagnose
from graft_lightning.reports.placebo import placebo
from graft_lightning.reports.plan import make_plan
from graft_lightning.reports.pool_facts import told_of_pool
from graft_lightning.reports.short_runs import ShortRuns
from graft_lightning.reports.tuning import Tuned, tune
from graft_lightning.runs import checkpoints, newest_intact
from graft_lightning.types import SettingsError


class GraftTrainer(L.Trainer):
    """Lightning's Trainer with `plan`, `diagnose`, `collect`, `placebo`, `tune`, and checkpoints that survive."""

    tuned: Tuned | None = None
    caps: dict[str, float] = {}  # noqa: RUF012 (Lightning's Trainer has no place for annotations of instances)

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.callbacks[:0] = [TellOthers(), Spent(), Pace()]  # type: ignore[attr-defined]
        with contextlib.suppress(NotImplementedError):  # strategies that write a folder of their own
            if type(self.strategy.checkpoint_io) is TorchCheckpointIO:
                self.strategy.checkpoint_io = DurableCheckpoints()
        _keep_checkpoints_with_the_run(self)
        with_boards(self)

    def _run(self, model: Any, *arguments: Any, **options: Any) -> Any:
        """Lightning's; in processes that were forked or spawned the callbacks are not told of a failure otherwise."""
        try:
            return super()._run(model, *arguments, **options)
        except BaseException as error:
            for callback in self.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, TellOthers) and self.world_size > 1:
                    callback.on_exception(self, model, error)  # once: what follows finds nothing left to tell
            raise

    def plan(self, model: L.LightningModule, datamodule: Any = None, measure: bool = True) -> None:
        """Says what a configuration will cost before anything runs.

        Args:
            model: the module.
            datamodule: its data.
            measure: time a few steps of sampling, reward and training on this machine.
        """
        if not hasattr(model, "stages"):
            raise SettingsError(
                f"model is {type(model).__name__}, which declares no stages: plan needs a module that derives from "
                "modules.sampled.SampledModule"
            )
        model.draw_as(self)  # type: ignore[operator]
        callbacks: list[L.Callback] = self.callbacks  # type: ignore[attr-defined]
        if self.collector.reward is not None:
            with contextlib.suppress(FileNotFoundError):  # what is not here yet is told in the plan
                self.collector.refuse(model, datamodule)  # type: ignore[arg-type]
        evaluate = next(callback for callback in callbacks if isinstance(callback, Evaluate))
        evaluate.lead_with_trained(self, datamodule)
        invert = next((callback for callback in callbacks if isinstance(callback, Invert)), None)
        loop = loop_of(self, datamodule, evaluate, getattr(model, "has_base", False))
        device: torch.device = self.strategy.root_device
        rewards = evaluate.rewards if loop.validations or loop.baseline else []
        print(make_plan(model, datamodule, self.collector, loop, invert, measure, device, rewards))  # type: ignore[arg-type]

    def diagnose(
        self,
        model: L.LightningModule,
        datamodule: Any = None,
        states: int = 160,
        continuations: int = 8,
        real: Examples | None = None,
    ) -> None:
        """Finds the level at which the reward is decided, from a pool: E[Var(r | X_t)], and two hand-off metrics.

        Args:
            model: the module.
            datamodule: its data; the pool is filled first if it is not.
            states: stored states per kept level from which the sampler continues.
            continuations: fresh continuations of each of them.
            real: real data, noised to each level and finished by the reference; left out by default.

        Raises:
            SettingsError: if the module collects nothing.
        """
        if not getattr(model, "collects", False):
            raise SettingsError(
                f"model is {type(model).__name__}, which is not trained on collected samples: diagnose needs PGraft or "
                "Graft"
            )
        print(diagnose(self, model, datamodule, self.collector, states, continuations, real))  # type: ignore[arg-type]

    def collect(self, model: L.LightningModule, datamodule: Any = None) -> None:
        """Fills a pool, or completes one, and trains nothing: what is there already stays as it is.

        Args:
            model: the module; its reference is what is sampled.
            datamodule: names pool and conditions.

        Raises:
            SettingsError: if the module collects nothing, or no reward is set.
        """
        if not getattr(model, "collects", False):
            raise SettingsError(f"model is {type(model).__name__}, which is not trained on collected samples: collect "
                                "needs PGraft or Graft")  # fmt: skip
        if self.collector.reward is None:
            raise SettingsError("collect.reward is not set; Unscored is one where a person is to judge")

        def work() -> None:
            ready(self, model)
            module: Any = model
            filled = self.collector.fill(self, module, datamodule, 0, module.opened().frozen)
            if self.is_global_zero:
                print(f"newly drawn: {filled.drawn}\n{told_of_pool(Path(datamodule.pool))}")

        on_all_processes(self, work)

    def placebo(
        self,
        model: L.LightningModule,
        datamodule: Any = None,
        steps: int = 100,
        rates: list[float] | None = None,
        averages: list[float] | None = None,
        samples: int | None = None,
    ) -> None:
        """Shows what fine-tuning does to any samples: the same steps on unselected samples of the same pool.

        What moves here moves whatever the reward is, and cannot be gained or blamed on selection. Nothing is kept of
        these runs but placebo.json and placebo.png; a report of the folder shows them beside the real run.

        Args:
            model: the module.
            datamodule: its data; the pool is filled first if it is not.
            steps: gradient steps at each learning rate.
            rates: learning rates; the configuration's own, a third and a tenth of it by default.
            averages: decays of moving averages that are evaluated beside each other; 0 is none. 0 and 0.97 by default.
            samples: of the validation draws that are drawn at each evaluation, at most; all by default.

        Raises:
            SettingsError: if the module collects nothing.
        """
        runs = self._short_runs("placebo", model, datamodule, samples)
        print(placebo(self, runs, rates, averages or [0.0, 0.97], steps))

    def tune(
        self,
        model: L.LightningModule,
        datamodule: Any = None,
        budget: int = 800,
        rates: list[float] | None = None,
        averages: list[float] | None = None,
        caps: list[float] | None = None,
        baselines: list[Literal["own", "unselected"]] | None = None,
        samples: int | None = None,
    ) -> None:
        """Chooses learning rate, weighting, average and number of steps, and writes tuned.yaml: fit --config it.

        By placebo and by validation reward, within a budget of gradient steps; what was tried is in tuned.json.

        Args:
            model: the module.
            datamodule: its data; the pool is filled first if it is not.
            budget: gradient steps in all.
            rates: learning rates; 3, 1, 1/3 and 1/10 of the configuration's own by default.
            averages: decays of moving averages; 0 is none. 0, 0.97 and 0.99 by default.
            caps: also tries the weightings min(1 / alpha^2, cap) of these caps; none by default.
            baselines: "own", and "unselected" to try the loss less that of unselected samples too; own by default.
            samples: of the validation draws that are drawn at each evaluation, at most; all by default.

        Raises:
            SettingsError: if the module collects nothing, or the budget is too small.
        """
        self.caps = {f"capped at {cap:g}": cap for cap in caps or []}
        weightings: dict[str, Weighting] = {name: CappedInverseAlpha(cap) for name, cap in self.caps.items()}
        runs = self._short_runs("tune", model, datamodule, samples, weightings)
        self.tuned = tune(self, runs, budget, rates, averages or [0.0, 0.97, 0.99], baselines or ["own"])
        print(self.tuned.text)

    def _short_runs(
        self,
        command: str,
        model: Any,
        data: Any,
        samples: int | None,
        weightings: dict[str, Weighting] | None = None,
    ) -> ShortRuns:
        if not getattr(model, "collects", False):
            raise SettingsError(
                f"model is {type(model).__name__}, which is not trained on collected samples: {command} needs PGraft "
                "or Graft"
            )
        evaluate = next(callback for callback in self.callbacks if isinstance(callback, Evaluate))  # type: ignore[attr-defined]
        return ShortRuns(self, model, data, self.collector, evaluate, samples, weightings or {})

    @property
    def collector(self) -> Collect:
        """The callback that fills pools."""
        return next(callback for callback in self.callbacks if isinstance(callback, Collect))  # type: ignore[attr-defined]


def _keep_checkpoints_with_the_run(trainer: L.Trainer) -> None:
    """Has checkpoints lie where records and config.yaml do, where `ckpt_path=last` looks for them.

    Of loggers without folders of their own (W&B, MLflow) Lightning would put them into one that is new each time.
    """
    first = trainer.loggers[0] if trainer.loggers else None
    if first is None or isinstance(first, TensorBoardLogger | CSVLogger) or not first.save_dir:
        return
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(Path(first.save_dir).resolve() / "checkpoints")


def last_intact(trainer: L.Trainer) -> Path | None:
    """The checkpoint that ``last`` means; where that is damaged the newest intact one beside it. None if there is none.

    Raises:
        SettingsError: if none is intact; names them.
    """
    kept = [c for c in trainer.callbacks if isinstance(c, ModelCheckpoint)]  # type: ignore[attr-defined]
    lasts = checkpoints(Path(path) for callback in kept for path in callback._find_last_checkpoints(trainer))
    if not lasts:
        return None
    others = checkpoints({path for last in lasts for path in last.parent.glob("*.ckpt")} - set(lasts))
    found = newest_intact([*lasts, *others])
    if found is None:
        listed = ", ".join(str(path) for path in [*lasts, *others])
        raise SettingsError(f"ckpt_path=last: every checkpoint is damaged ({listed}); delete them and begin anew")
    return found


def bring_last_up_to_date(trainer: L.Trainer) -> None:
    """Has ``last`` be the checkpoint that a fit went on from, where that is newer and nothing was left to train.

    A run that was killed while it wrote its very last checkpoint goes on from the one beside it, and writes none.
    """
    if trainer.ckpt_path is None:
        return
    used = Path(str(trainer.ckpt_path))
    last = used.with_name("last.ckpt")
    if not (trainer.is_global_zero and used.is_file() and last.is_file()):
        return
    if used.stat().st_mtime_ns > last.stat().st_mtime_ns:
        with replacing(last) as temporary:
            shutil.copyfile(used, temporary)
