"""The trainer, with the commands that are no method of Lightning's."""

import contextlib
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.evaluate import Evaluate
from graft_lightning.callbacks.failures import TellOthers
from graft_lightning.callbacks.invert import Invert
from graft_lightning.checkpoints import DurableCheckpoints
from graft_lightning.domains.base import Examples
from graft_lightning.reports.costs import loop_of
from graft_lightning.reports.diagnose import diagnose
from graft_lightning.reports.plan import make_plan
from graft_lightning.runs import checkpoints, newest_intact
from graft_lightning.types import SettingsError


class GraftTrainer(L.Trainer):
    """Lightning's Trainer with `plan` and `diagnose`, and checkpoints that survive what may happen to them."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.callbacks.insert(0, TellOthers())  # type: ignore[attr-defined]
        with contextlib.suppress(NotImplementedError):  # strategies that write a folder of their own
            if type(self.strategy.checkpoint_io) is TorchCheckpointIO:
                self.strategy.checkpoint_io = DurableCheckpoints()

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
        callbacks: list[L.Callback] = self.callbacks  # type: ignore[attr-defined]
        evaluate = next(callback for callback in callbacks if isinstance(callback, Evaluate))
        invert = next((callback for callback in callbacks if isinstance(callback, Invert)), None)
        loop = loop_of(self, datamodule, evaluate, getattr(model, "has_base", False))
        device: torch.device = self.strategy.root_device
        print(make_plan(model, datamodule, self.collector, loop, invert, measure, device))  # type: ignore[arg-type]

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

    @property
    def collector(self) -> Collect:
        """The callback that fills pools."""
        return next(callback for callback in self.callbacks if isinstance(callback, Collect))  # type: ignore[attr-defined]


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
