"""The control that costs nothing: a Gaussian in place of the neural corrector, through the same command line."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from graft_lightning.inversion.gaussian import GaussianCorrector
from graft_lightning.modules.corrected import CorrectedFlow, prior_noise
from graft_lightning.modules.stages import Stage
from graft_lightning.rejection.reference import Reference
from graft_lightning.types import Batch, Draws, SettingsError

PREFIX = "corrector."


class GaussianNoise(CorrectedFlow):
    """Noise with the mean and covariance of the inverse noise; fitted in closed form when a fit starts.

    One "step" of training is enough to write the checkpoint; it changes nothing.

    Args:
        flow: the frozen flow.
        covariance: "full", "diagonal", "low_rank", or "mean", which moves the mean and leaves the covariance at I.
        rank: of "low_rank".
        shrinkage: "ledoit_wolf", or a share between 0 and 1.
        limit: at most so many samples of inverse noise are fitted.
    """

    untrained = "the Gaussian is fitted in closed form"

    def __init__(
        self,
        flow: Reference,
        covariance: Literal["full", "diagonal", "low_rank", "mean"] = "full",
        rank: int | None = None,
        shrinkage: Literal["ledoit_wolf"] | float = "ledoit_wolf",
        limit: int = 20_000,
    ) -> None:
        super().__init__(flow=flow)
        self.save_hyperparameters()
        self.covariance, self.rank, self.shrinkage, self.limit = covariance, rank, shrinkage, limit
        self.corrector: GaussianCorrector | None = None

    @property
    def method(self) -> str:
        return f"gaussian_{self.covariance}"

    def stages(self) -> list[Stage]:
        return [self.flow_stage()]

    def closed_form_bytes(self, samples: int) -> tuple[int, int]:
        """Mean, variances and directions in the float32 of the noise; the noise itself in the float64 of the fit."""
        shape = self.flow.shape([""])
        assert not isinstance(shape, Mapping)  # only a flow of tensors is inverted
        elements, fitted = math.prod(shape), min(samples, self.limit)
        if self.covariance in ("mean", "diagonal"):
            numbers = 2 * elements
        else:
            wanted = self.rank if self.covariance == "low_rank" and self.rank else elements
            rank = min(wanted, elements, fitted - 1)  # the mean takes one direction
            numbers = elements + rank * (elements + 1)
        return 4 * (numbers + 1), 8 * elements * fitted

    def on_fit_start(self) -> None:
        """Fits the Gaussian; callbacks have filled the pool by now."""
        self.fit_noise(self.trainer.datamodule.noise(self.limit))  # type: ignore[attr-defined]

    def fit_noise(self, noise: Tensor) -> None:
        """Takes mean and covariance from converged inverse noise ``(samples, *shape)``."""
        if self.covariance == "mean":
            count = math.prod(noise.shape[1:])
            fitted = GaussianCorrector(noise.mean(0), None, torch.ones(count, dtype=noise.dtype))
        else:
            fitted = GaussianCorrector.fit(noise, self.covariance, self.rank, self.shrinkage)
        self.corrector = fitted.to(self.device)

    def fitted(self) -> GaussianCorrector:
        """The corrector.

        Raises:
            RuntimeError: before `fit_noise`, or a checkpoint, has made it.
        """
        if self.corrector is None:
            raise RuntimeError("the Gaussian corrector is not fitted: run `fit`, or give --ckpt_path")
        return self.corrector

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Makes the buffers from what was saved: their shapes follow from the data that were inverted."""
        found = {name.removeprefix(PREFIX): value for name, value in state_dict.items() if name.startswith(PREFIX)}
        if found:
            if lacking := sorted({"mean", "variance", "rest"} - found.keys()):
                raise SettingsError(f"the checkpoint lacks {PREFIX}{lacking[0]}: it is none of a GaussianNoise")
            if wrong := sorted(name for name, value in found.items() if not bool(value.isfinite().all())):
                raise SettingsError(f"the checkpoint's {PREFIX}{wrong[0]} is not finite; fit the Gaussian again")
            self.corrector = GaussianCorrector(
                found["mean"], found.get("directions"), found["variance"], float(found["rest"])
            ).to(self.device)
        return super().load_state_dict(state_dict, strict, assign)

    def correct(self, draws: Draws) -> Tensor:
        return self.fitted()(prior_noise(self.flow, draws, self.device))

    def log_density(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        value = self.fitted().log_density(noise)
        return value, value.isfinite()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the negative log density of the batch in nats per dimension; nothing is left to train."""
        density, _ = self.log_density(batch.x)
        self.log("train/loss", -density.mean() / batch.x[0].numel(), prog_bar=True, batch_size=len(batch.x))

    def configure_optimizers(self) -> None:
        """None: nothing is trained by gradients."""
