"""The trainer, with the commands that are no method of Lightning's."""

from pathlib import Path
from typing import Any

import lightning as L
import torch

from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.evaluate import Evaluate
from graft_lightning.callbacks.invert import Invert
from graft_lightning.callbacks.ranks import on_all_processes, ready
from graft_lightning.domains.base import Examples
from graft_lightning.reports.costs import loop_of
from graft_lightning.reports.diagnose import diagnose
from graft_lightning.reports.plan import make_plan
from graft_lightning.reports.pool_facts import told_of_pool
from graft_lightning.types import SettingsError


class GraftTrainer(L.Trainer):
    """Lightning's Trainer with `plan`, `diagnose` and `collect`."""

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

    @property
    def collector(self) -> Collect:
        """The callback that fills pools."""
        return next(callback for callback in self.callbacks if isinstance(callback, Collect))  # type: ignore[attr-defined]
