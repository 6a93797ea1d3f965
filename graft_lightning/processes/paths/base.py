"""A path: everything that one field's noise process is (Eq. 1 to 3), whatever kind of field it is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from graft_lightning.processes.noise import Noise
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.schedules import Schedule
from graft_lightning.processes.transitions import Transition
from graft_lightning.processes.weightings import Weighting
from graft_lightning.types import broadcast

Shape = tuple[int, ...]

P = TypeVar("P")
"""What a network predicts of the field: `Prediction` or `Classes`."""


@dataclass(frozen=True)
class Noised:
    """One field of training examples, moved from level s to level t.

    Attributes:
        x_s: field at s, ``(batch, *shape)``.
        x_t: the same at t.
        random: the numbers that moved it: standard normal e of Eq. 2, or uniform ones, like ``x_s``.
        s: level of ``x_s``.
        t: levels ``(batch,)``.
        mask: which elements are real, bool ``(batch, n)``; None where all are.
    """

    x_s: Tensor
    x_t: Tensor
    random: Tensor
    s: float
    t: Tensor
    mask: Tensor | None


@dataclass(frozen=True)
class LossSettings:
    """What an objective chooses; each path takes what concerns it.

    Attributes:
        weighting: lambda(t) of Gaussian fields; the output's own by default.
        categorical_target: "c_0", Eq. 7, where the head predicts the clean class; "c_s", where it predicts the class at
            the level of training directly.
    """

    weighting: Weighting | None = None
    categorical_target: Literal["c_0", "c_s"] = "c_0"


class Path(ABC, Generic[P]):
    """One field's noise process.

    Args:
        schedule: signal and noise by level.

    Attributes:
        discrete: True if the field has classes, whose every step draws; False if it moves in small steps, which a
            sampler may take without noise.
    """

    discrete: bool

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t), float64, the shape of ``t``."""
        return self.schedule.alpha_sigma(t)

    @abstractmethod
    def kernel(self, s: Tensor, t: Tensor) -> Any:
        """The distribution of the field at level t given the field at level s <= t, both ``(batch,)``."""

    @abstractmethod
    def prior(self, shape: Shape, noise: Noise, mask: Tensor | None = None) -> Tensor:
        """A draw at t = T, ``(batch, *shape)``.

        Args:
            shape: of one sample.
            noise: of the samples.
            mask: bool ``(batch, n)``, n the first axis of the shape; what it leaves out is zero.
        """

    @abstractmethod
    def diffuse(self, x_s: Tensor, s: float, t: Tensor, noise: Noise, mask: Tensor | None = None) -> Noised:
        """Draws x_t | x_s.

        Args:
            x_s: field at s, ``(batch, *shape)``.
            s: its level.
            t: levels ``(batch,)``, none below s.
            noise: of the samples.
            mask: as in `prior`.
        """

    @abstractmethod
    def predict(
        self,
        raw: Tensor,
        x_t: Tensor,
        t: float,
        output: Output,
        clip: float | None = None,
        origin: float = 0.0,
    ) -> P:
        """A network's answer in the terms of samplers.

        Args:
            raw: the answer.
            x_t: field at t, ``(batch, *shape)``.
            t: level of the whole batch.
            output: the type of ``raw``.
            clip: bound of |x_0| of a Gaussian field.
            origin: the level whose class a categorical head predicts.
        """

    def data_of(self, prediction: P, mask: Tensor | None = None) -> Tensor:
        """The field at t = 0 as it is predicted, ``(batch, *shape)``: its mean, or the likeliest class.

        Args:
            prediction: what `predict` made of a network's answer.
            mask: as in `prior`.
        """
        raise TypeError(f"{type(self).__name__} does not say what data a prediction stands for (data_of)")

    @abstractmethod
    def transition(
        self,
        x_t: Tensor,
        prediction: P,
        t: float,
        t_next: float,
        mask: Tensor | None = None,
        eta: float = 1.0,
    ) -> Transition:
        """The distribution of the field at t_next < t, with the predicted data summed or put in.

        Args:
            x_t: field at t, ``(batch, *shape)``.
            prediction: what `predict` made of it.
            t: its level.
            t_next: level of the result.
            mask: as in `prior`.
            eta: share of the ancestral noise of a continuous field; nothing is drawn of it at 0.
        """

    def reverse(
        self,
        x_t: Tensor,
        prediction: P,
        t: float,
        t_next: float,
        noise: Noise,
        mask: Tensor | None = None,
        eta: float = 1.0,
    ) -> Tensor:
        """A draw of the field at t_next < t, from `transition`.

        Args:
            x_t: as there.
            prediction: as there.
            t: as there.
            t_next: as there.
            noise: of the samples; none is drawn where a continuous field moves with ``eta`` 0.
            mask: as there.
            eta: as there.
        """
        return self.transition(x_t, prediction, t, t_next, mask, eta).draw(noise)

    def draws(self, t: float, t_next: float, eta: float = 1.0) -> bool:
        """Whether the step from t to t_next draws anything, so that it has a density."""
        return True

    @abstractmethod
    def loss(self, raw: Tensor, noised: Noised, output: Output, settings: LossSettings) -> Tensor:
        """Eq. 6 or 7 of each example, the mean over its real elements, ``(batch,)``."""

    def apart(self, one: Tensor, other: Tensor, noised: Noised, output: Output, settings: LossSettings) -> Tensor:
        """The squared distance of two answers, ``(batch,)``, on the scale of `loss`."""
        raise TypeError(self._jumps())

    def clean(self, raw: Tensor, noised: Noised, output: Output) -> tuple[Tensor, Tensor]:
        """The data that an answer predicts, and what it should be (Eq. 6b), both times kappa, ``(batch, *shape)``."""
        raise TypeError(self._jumps())

    def transport(self, x_t: Tensor, predictions: Sequence[P], t: float, t_next: float) -> Tensor:
        """The field at t_next along the mean of the predicted velocities, in the coordinates of `samplers.Euler`."""
        raise TypeError(self._jumps())

    def drift(self, x_t: Tensor, prediction: P, t: float) -> Tensor:
        """The predicted dx/dt in the process's own time."""
        raise TypeError(self._jumps())

    def excess(self, x_t: Tensor, prediction: P, t: float) -> Tensor | None:
        """How far the predicted eps is from what it would be if the data were N(0, I); None where there is no score."""
        return None

    def _jumps(self) -> str:
        return f"{type(self).__name__} jumps from class to class; a solver of an ODE (Euler, Heun) cannot move it"


def weight_of(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as a factor of ``like``: 1 where an element is real, 0 where it is padding."""
    return broadcast(mask, like).to(like.dtype)


def squared_error(one: Tensor, other: Tensor) -> Tensor:
    """(one - other)^2, element by element, in the wider of their types; one pass over the state, and one back."""
    kind = torch.promote_types(one.dtype, other.dtype)
    return nn.functional.mse_loss(one.to(kind), other.to(kind), reduction="none")


def mean_over_real(error: Tensor, mask: Tensor | None) -> Tensor:
    """The mean ``(batch,)`` of ``(batch, *shape)``, over the real elements where there is a mask ``(batch, n)``."""
    if mask is None:
        flat = error.flatten(1)
        # of half precision a sum may overflow where the mean does not; of others it spares a pass over the state back
        return flat.mean(1) if error.dtype.itemsize < 4 else flat.sum(1) / flat.shape[1]
    weight = weight_of(mask, error).expand_as(error)
    return (error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1)
