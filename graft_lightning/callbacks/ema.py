"""An exponential moving average of the trained parameters."""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from graft_lightning.modules.trained_weights import trained, whole, write
from graft_lightning.ranges import Natural


class TrainableEMA(L.Callback):
    """Averages the trained parameters and evaluates with the average.

    Lightning's own ``EMAWeightAveraging`` copies the whole module, a frozen reference included, does not know sharded
    parameters, and has no warm-up. This one averages in place, works under DDP and FSDP alike, and is saved with the
    checkpoint. Where none of that matters, as in plain pre-training, use Lightning's.

    Args:
        decay: of the average.
        warmup: the decay of step n is at most (1 + n) / (warmup + n), so that a short run is not dominated by its
            start.
    """

    def __init__(self, decay: float = 0.99, warmup: Natural = 10) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}; it must lie in [0, 1)")
        self.decay, self.warmup = decay, warmup
        self.average: dict[str, Tensor] = {}
        self.updates = 0
        self._raw: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the average once parameters are sharded and restored; a resumed run gets its raw parameters back."""
        restored, raw = self.average, self._raw
        self.average, self._raw = {}, {}
        for name, parameter in trained(pl_module):
            self.average[name] = parameter.detach().clone()
            if name in restored:
                write(self.average[name], restored[name])
            if name in raw:
                write(parameter.data, raw[name])

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step <= self.updates:  # in the middle of an accumulation
            return
        self.updates = trainer.global_step
        decay = min(self.decay, (1 + self.updates) / (self.warmup + self.updates))
        for name, parameter in trained(pl_module):
            self.average[name].lerp_(parameter.detach(), 1 - decay)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.swap_in(pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.swap_out(pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leaves the averaged weights in the module, as Lightning's average does; a last checkpoint still gets both."""
        self.swap_in(pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._raw = {}

    @torch.no_grad()
    def swap_in(self, pl_module: L.LightningModule) -> None:
        """Puts the average in place of the parameters."""
        if not self.average:
            return
        for name, parameter in trained(pl_module):
            self._raw[name] = parameter.detach().clone()
            parameter.copy_(self.average[name])

    @torch.no_grad()
    def swap_out(self, pl_module: L.LightningModule) -> None:
        """Puts the parameters back."""
        for name, parameter in trained(pl_module):
            if name in self._raw:
                parameter.copy_(self._raw[name])
        self._raw = {}

    def state_dict(self) -> dict[str, Any]:
        return {"average": {name: whole(value).cpu() for name, value in self.average.items()}, "updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average, self.updates = state_dict["average"], state_dict["updates"]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Saves the average as the module's weights, and the raw parameters beside it for a resume."""
        averaged = {name: whole(value) for name, value in self.average.items()}  # collective: before any way out
        aside = {name: whole(value) for name, value in self._raw.items()}  # while the average is in their place
        state = checkpoint.get("state_dict") or {}
        raw = {name: aside.get(name, state[name]) for name in averaged if name in state}
        if raw:
            checkpoint["raw_parameters"] = raw
            state.update({name: averaged[name].to(value.device) for name, value in raw.items()})

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keeps the raw parameters for a run that goes on; evaluation stays with the average."""
        self._raw = dict(checkpoint.get("raw_parameters", {}))
