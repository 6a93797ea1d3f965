"""What networks predict, and the conversion of one output into another: made at this edge and nowhere else."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from graft_lightning.types import broadcast

Output = Literal["epsilon", "sample", "v_prediction", "flow", "logits"]
"""The words of diffusers; "flow" is eps - x_0, "logits" those of the clean class of a categorical field."""


@dataclass(frozen=True)
class Prediction:
    """A Gaussian field's prediction, both ways: ``(batch, *shape)`` each."""

    x_0: Tensor
    epsilon: Tensor

    def rows(self, index: Tensor) -> "Prediction":
        """That of some samples, ``(batch,)`` positions, with repetitions."""
        return Prediction(self.x_0[index], self.epsilon[index])


@dataclass(frozen=True)
class Classes:
    """A categorical field's prediction.

    Attributes:
        probabilities: of the class at ``level``, ``(batch, *shape, classes)``, float64.
        level: 0 is the data, where most heads predict.
    """

    probabilities: Tensor
    level: float = 0.0

    def rows(self, index: Tensor) -> "Classes":
        """That of some samples, ``(batch,)`` positions, with repetitions."""
        return Classes(self.probabilities[index], self.level)


def convert(
    output: Output,
    raw: Tensor,
    x_t: Tensor,
    alpha: Tensor | float,
    sigma: Tensor | float,
    clip: float | None = None,
) -> Prediction:
    """x_0 and eps from a raw prediction.

    Args:
        output: the type of ``raw``.
        raw: prediction ``(batch, *shape)``.
        x_t: state ``(batch, *shape)``.
        alpha: ``(batch,)``, or a number for the whole batch.
        sigma: like ``alpha``.
        clip: bound of |x_0|, where the data has one; eps then follows from the clipped x_0.
    """
    a = broadcast(alpha, x_t).to(x_t) if isinstance(alpha, Tensor) else alpha
    b = broadcast(sigma, x_t).to(x_t) if isinstance(sigma, Tensor) else sigma
    if output == "epsilon":
        x_0, epsilon = (x_t - b * raw) / at_least(a, torch.finfo(x_t.dtype).tiny), raw
    elif output == "sample":
        x_0, epsilon = raw, (x_t - a * raw) / b
    elif output == "v_prediction":
        norm = a**2 + b**2
        x_0, epsilon = (a * x_t - b * raw) / norm, (a * raw + b * x_t) / norm
    elif output == "flow":
        x_0, epsilon = (x_t - b * raw) / (a + b), (x_t + a * raw) / (a + b)
    else:
        raise ValueError(f"output={output!r} is not that of a Gaussian field")
    if clip is not None:
        clipped = x_0.clamp(-clip, clip)
        epsilon = torch.where(clipped == x_0, epsilon, (x_t - a * clipped) / b)
        x_0 = clipped
    return Prediction(x_0, epsilon)


def epsilon_factor(output: Output, alpha: Tensor, sigma: Tensor) -> Tensor:
    """|d eps / d output| at fixed x_t: an error of the output, times this, is an error of eps. Shape of ``alpha``."""
    if output == "epsilon":
        return torch.ones_like(alpha)
    if output == "sample":
        return alpha / sigma
    if output == "v_prediction":
        return alpha / (alpha**2 + sigma**2)
    if output == "flow":
        return alpha / (alpha + sigma)
    raise ValueError(f"output={output!r} is not that of a Gaussian field")


def at_least(value: Tensor | float, floor: float) -> Tensor | float:
    """``value``, or the floor where it lies below."""
    return value.clamp_min(floor) if isinstance(value, Tensor) else max(value, floor)
