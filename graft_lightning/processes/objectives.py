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
from graft_lightning.processes.paths import LossSettings, Noised
from graft_lightning.processes.process import Process
from graft_lightning.processes.weightings import Weighting
from graft_lightning.ranges import NonNegative
from graft_lightning.types import SettingsError, State, StateLike, as_state, bare


@dataclass(frozen=True)
class Loss:
    """The loss of each example and the level at which it was taken, ``(batch,)`` each."""

    value: Tensor
    t: Tensor


@dataclass(frozen=True)
class Noisy:
    """Training examples at the levels at which they are trained.

    Attributes:
        x_t: what a denoiser sees, ``(batch, *shape)`` or by field.
        levels: what it is told, ``(batch,)``, or ``(batch, fields)``.
        fields: how each field got there.
        level: where all fields stood before.
    """

    x_t: Any
    levels: Tensor
    fields: dict[str, Noised]
    level: float

    @property
    def t(self) -> Tensor:
        """The level of each example, ``(batch,)``; of several fields the highest."""
        return self.levels if self.levels.ndim == 1 else self.levels.amax(1)


def noisy(
    process: Process,
    x: StateLike,
    noise: Noise,
    level: float = 0.0,
    low: float | None = None,
    high: float | None = None,
) -> Noisy:
    """Draws levels, and states at them. Arguments as in `Objective.loss`.

    Raises:
        ValueError: if ``low`` lies below ``level``.
    """
    low = level if low is None else low
    if low < level:
        raise ValueError(f"low={low}: states at level {level} cannot be noised to a lower level")
    x_s = as_state(x)
    levels = process.times.draw(noise, low, process.t_max if high is None else high, process.schedule)
    fields = process.noised(x_s, level, levels, noise)
    x_t = bare({**x_s, **{name: field.x_t for name, field in fields.items()}})
    return Noisy(x_t, levels, fields, level)


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
        field_weights: Mapping[str, NonNegative] | None = None,
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
        self.check(process)
        seen = noisy(process, x, noise, level, low, high)
        return Loss(self.of(as_state(denoiser(seen.x_t, seen.levels, condition)), seen, denoiser, process), seen.t)

    def check(self, process: Process) -> None:
        """Refuses weights of fields that are not there.

        Raises:
            SettingsError: naming them, and those that are.
        """
        if unknown := self.field_weights.keys() - process.paths.keys():
            raise SettingsError(
                f"model.objective.field_weights names {sorted(unknown)}; the fields are {sorted(process.paths)}"
            )

    def of(self, raw: State, seen: Noisy, denoiser: Denoiser, process: Process) -> Tensor:
        """The loss of an answer to what was seen, ``(batch,)``.

        Args:
            raw: the answer, by field.
            seen: the examples at their levels.
            denoiser: who answered; says the output types.
            process: its process.
        """
        settings = LossSettings(self.weighting, self.categorical_target)
        total = torch.zeros(len(seen.levels), device=seen.levels.device)
        for name, path in process.paths.items():
            field = seen.fields[name]
            value = path.loss(raw[name], field, denoiser.output_of(name), settings)
            moved = field.t > seen.level  # a field that has not moved has nothing to teach
            total = total + self.field_weights.get(name, 1.0) * torch.where(moved, value, 0.0)
        return total
