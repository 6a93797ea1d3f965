"""How fast a fit goes, its learning rate and the norm of its gradient: on logging steps alone."""

import time
from typing import Any

import lightning as L
import torch
from torch import Tensor

from graft_lightning.callbacks.loggers import log_curves


class Pace(L.Callback):
    """Logs steps and examples a second, learning rate and gradient norm.

    The seconds are those between steps: validations and new rounds are not in them. The norm is that of all trained
    weights together, before it is clipped.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._seconds, self._batches = 0.0, 0
        self._norm: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._since is None:
            self._since = time.monotonic()

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        groups = getattr(optimizer, "param_groups", ())  # a module may learn without an optimiser
        if groups and _due(trainer, trainer.global_step + 1):
            self._norm = gradient_norm(pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        self._seconds += now - (now if self._since is None else self._since)
        self._since, self._batches = now, self._batches + 1
        if self._norm is None or not _due(trainer, trainer.global_step):
            return  # with accumulated gradients most batches are no step
        steps = self._batches / trainer.accumulate_grad_batches
        curves = {
            "train/learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "train/gradient_norm": self._norm,
            "speed/steps_per_second": steps / max(self._seconds, 1e-9),
        }
        size = getattr(trainer.datamodule, "batch_size", None)  # type: ignore[attr-defined]
        if isinstance(size, int):
            examples = self._batches * size * trainer.world_size
            curves["speed/examples_per_second"] = examples / max(self._seconds, 1e-9)
        log_curves(trainer, curves, trainer.global_step - 1)  # as Lightning counts the step of a loss
        self._seconds, self._batches, self._norm = 0.0, 0, None


def gradient_norm(module: torch.nn.Module) -> float:
    """The norm of the gradient of all weights that have one. Collective where weights are sharded."""
    found = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    norm: Any = torch.nn.utils.get_total_norm(found) if found else torch.zeros(())
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return float(whole)


def _due(trainer: L.Trainer, step: int) -> bool:
    every = getattr(trainer, "log_every_n_steps", 50)
    return bool(every) and step % every == 0
