"""The training objective, Eq. 6, 6b and 7. Pre-training, GRAFT and P-GRAFT are three ranges of the same loss.

With x known at level s (x_s), a level t in (s, T] is drawn, x_t is drawn from the kernel s -> t, and the network
regresses the conditional score. At s = 0 this is the ordinary loss, so pre-training and GRAFT are P-GRAFT at N_I = 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import LossSettings
from graft_lightning.processes.process import Process
from graft_lightning.processes.weightings import Weighting
from graft_lightning.types import StateLike, as_state, bare, batch_of, device_of


@dataclass(frozen=True)
class Loss:
    """The loss of each example and the level at which it was taken, ``(batch,)`` each."""

    value: Tensor
    t: Tensor


class Objective:
    """The losses of all fields, each as its path defines it: Eq. 6 for Gaussian ones, Eq. 7 for categorical ones.

    Args:
        weighting: lambda(t) of the Gaussian fields; by default 1, or for a flow's velocity its own output.
        field_weights: factor of each field's loss in a mixed state; 1 where absent.
        categorical_target: "c_0", Eq. 7, where the head predicts the clean class; "c_s", where it predicts the class at
            the level of training directly.
    """

    def __init__(
        self,
        weighting: Weighting | None = None,
        field_weights: Mapping[str, float] | None = None,
        categorical_target: Literal["c_0", "c_s"] = "c_0",
    ) -> None:
        self.weighting = weighting
        self.field_weights = dict(field_weights or {})
        self.categorical_target = categorical_target

    def loss(
        self,
        denoiser: Denoiser,
        process: Process,
        x: StateLike,
        condition: Any,
        noise: Noise,
        level: float = 0.0,
        low: float | None = None,
        high: float | None = None,
    ) -> Loss:
        """The loss of a batch.

        Args:
            denoiser: the model that is trained.
            process: its process.
            x: states at ``level``, ``(batch, *shape)``.
            condition: encoded condition.
            noise: one stream per example.
            level: the level s of ``x``; 0 is data.
            low: levels are drawn above this one; ``level`` by default. ``states: x_0`` has level 0 and low = s.
            high: levels are drawn up to this one; T by default.

        Raises:
            ValueError: if ``low`` lies below ``level``, or ``field_weights`` names a field that is not there.
        """
        low = level if low is None else low
        if low < level:
            raise ValueError(f"low={low}: states at level {level} cannot be noised to a lower level")
        if unknown := self.field_weights.keys() - process.paths.keys():
            raise ValueError(f"field_weights names {sorted(unknown)}; the fields are {sorted(process.paths)}")
        x_s = as_state(x)
        levels = process.times.draw(noise, low, process.t_max if high is None else high, process.schedule)
        noised = process.noised(x_s, level, levels, noise)
        x_t = bare({**x_s, **{name: field.x_t for name, field in noised.items()}})
        raw = as_state(denoiser(x_t, levels, condition))
        settings = LossSettings(self.weighting, self.categorical_target)
        total = torch.zeros(batch_of(x), device=device_of(x))
        for name, path in process.paths.items():
            field = noised[name]
            value = path.loss(raw[name], field, denoiser.output_of(name), settings)
            moved = field.t > level  # a field that has not moved has nothing to teach
            total = total + self.field_weights.get(name, 1.0) * torch.where(moved, value, 0.0)
        return Loss(total, levels if levels.ndim == 1 else levels.amax(1))
