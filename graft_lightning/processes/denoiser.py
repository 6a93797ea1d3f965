"""Denoisers: what a network predicts, converted at this edge and nowhere else.

A denoiser is called as ``denoiser(x_t, t, condition)`` with t ``(batch,)`` in the process's own levels, and answers
in its own output type. `predict` turns that answer into x_0 and eps for samplers; objectives compare in the output type
itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from graft_lightning.processes.paths import CategoricalPath, GaussianPath, Path
from graft_lightning.processes.process import Process
from graft_lightning.types import State, broadcast, field_of, level_of

Output = Literal["epsilon", "sample", "v_prediction", "flow", "logits"]
"""The words of diffusers; "flow" is eps - x_0, "logits" those of the clean class of a categorical field."""


class Denoiser(ABC):
    """A model of the reverse process.

    Attributes:
        output: its output type, or one by field for mixed states.
        boundaries: levels at which the denoiser changes; a sampler puts them on its grid.
        origin: the level whose class a categorical head predicts; 0 is the data.
    """

    output: Output | dict[str, Output]
    boundaries: tuple[float, ...] = ()
    origin: float = 0.0

    @abstractmethod
    def __call__(self, x_t: State, t: Tensor, condition: Any) -> State:
        """The raw prediction, of the shape of ``x_t`` (logits: one axis more).

        Args:
            x_t: state ``(batch, *shape)``.
            t: level ``(batch,)``; or ``(batch, fields)``, in the process's order, where a sampler moves one field at a
                time.
            condition: what the reference's ``encode`` made of the conditions.
        """

    def origin_at(self, t: Tensor) -> float:
        """The `origin` of the model that answers at levels ``t``."""
        return self.origin

    def output_of(self, field: str | None) -> Output:
        """The output type of a field."""
        return self.output if isinstance(self.output, str) else self.output[field]  # type: ignore[index]


@dataclass(frozen=True)
class Prediction:
    """A Gaussian field's prediction, both ways: ``(batch, *shape)`` each."""

    x_0: Tensor
    epsilon: Tensor


def convert(
    output: Output, raw: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, clip: float | None = None
) -> Prediction:
    """x_0 and eps from a raw prediction.

    Args:
        output: the type of ``raw``.
        raw: prediction ``(batch, *shape)``.
        x_t: state ``(batch, *shape)``.
        alpha: ``(batch,)``.
        sigma: ``(batch,)``.
        clip: bound of |x_0|, where the data has one; eps then follows from the clipped x_0.
    """
    a, b = broadcast(alpha, x_t).to(x_t), broadcast(sigma, x_t).to(x_t)
    if output == "epsilon":
        x_0, epsilon = (x_t - b * raw) / a.clamp_min(torch.finfo(x_t.dtype).tiny), raw
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


@dataclass(frozen=True)
class Classes:
    """A categorical field's prediction.

    Attributes:
        probabilities: of the class at ``level``, ``(batch, *shape, classes)``, float64.
        level: 0 is the data, where most heads predict.
    """

    probabilities: Tensor
    level: float = 0.0


Fields = dict[str | None, "Prediction | Classes"]
"""The predictions by field."""


def predict(
    denoiser: Denoiser, process: Process, x_t: State, t: Tensor, condition: Any, clip: float | None = None
) -> Fields:
    """Calls the denoiser and converts every field.

    Args:
        denoiser: any denoiser of the process.
        process: the process of the state.
        x_t: state ``(batch, *shape)``.
        t: level ``(batch,)``, or ``(batch, fields)``.
        condition: the encoded condition.
        clip: bound of |x_0| of the Gaussian fields.
    """
    raw = denoiser(x_t, t, condition)
    fields: Fields = {}
    for place, (name, path) in enumerate(process.paths.items()):
        level, output = level_of(t, place), denoiser.output_of(name)
        fields[name] = _field(
            path, output, field_of(raw, name), field_of(x_t, name), level, clip, denoiser.origin_at(t)
        )
    return fields


def _field(
    path: Path, output: Output, raw: Tensor, x_t: Tensor, t: Tensor, clip: float | None, origin: float
) -> Prediction | Classes:
    if isinstance(path, CategoricalPath):
        return Classes(raw.double().softmax(-1), origin)
    assert isinstance(path, GaussianPath)
    alpha, sigma = path.alpha_sigma(t)
    return convert(output, raw, x_t, alpha, sigma, clip)


class Guided(Denoiser):
    """Classifier-free guidance: ``u + scale (c - u)``, in the output type that both share.

    Args:
        conditional: the conditional denoiser.
        unconditional: the denoiser of the null condition, often the same network; with a fine-tuned ``conditional``
            and the frozen reference here, guidance is *composed*: training starts at the guided reference.
        scale: guidance scale g; 1 is no guidance.
        null: gives the encoded null condition, one row, on a device; it is repeated over the batch.
        joint: one call of twice the batch in place of two, where both are the same network.
    """

    def __init__(
        self,
        conditional: Denoiser,
        unconditional: Denoiser,
        scale: float,
        null: Callable[[torch.device], Any],
        joint: bool = False,
    ) -> None:
        if conditional.output != unconditional.output:
            raise ValueError(f"outputs differ: {conditional.output} and {unconditional.output}")
        self.conditional, self.unconditional = conditional, unconditional
        self.scale, self.null, self.joint = scale, null, joint
        self.output = conditional.output
        self.boundaries = conditional.boundaries
        self.origin = conditional.origin

    def __call__(self, x_t: State, t: Tensor, condition: Any) -> State:
        if self.scale == 1:
            return self.conditional(x_t, t, condition)
        null = self.null(t.device)
        null = null.expand(len(t), *null.shape[1:])
        if self.joint:
            both = self.conditional(
                torch.cat([x_t, x_t]),
                torch.cat([t, t]),
                torch.cat([null, condition]),
            )
            unconditional, conditional = both.chunk(2)
        else:
            with torch.no_grad():
                unconditional = self.unconditional(x_t, t, null)
            conditional = self.conditional(x_t, t, condition)
        return unconditional + self.scale * (conditional - unconditional)
