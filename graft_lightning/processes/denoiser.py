"""Denoisers: models of the reverse process.

A denoiser is called as ``denoiser(x_t, t, condition)`` with t ``(batch,)`` in the process's own levels, and answers
in its own output type. `predict` turns that answer into x_0 and eps for samplers; objectives compare in the output type
itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.outputs import Output
from graft_lightning.processes.process import Process
from graft_lightning.types import State, StateLike, as_state, bare, batch_of, concatenate, device_of, map_fields

Level = float | Mapping[str, float]
"""The level of a whole state, or one for each of its fields."""

Fields = dict[str, Any]
"""The predictions by field: `Prediction` or `Classes`, as the field's path makes them."""


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
    def __call__(self, x_t: Any, t: Tensor, condition: Any) -> Any:
        """The raw prediction, of the shape of ``x_t`` (logits: one axis more).

        Args:
            x_t: state ``(batch, *shape)``; a mapping of fields where the process has several.
            t: level ``(batch,)``; or ``(batch, fields)``, in the process's order, where a sampler moves one field at a
                time.
            condition: what the reference's ``encode`` made of the conditions.
        """

    def at(self, t: float) -> "Denoiser":
        """The model that answers when the highest level of the state's fields is ``t``: itself, unless stitched."""
        return self

    def output_of(self, field: str) -> Output:
        """The output type of a field."""
        return self.output[field] if isinstance(self.output, dict) else self.output


def predict(
    denoiser: Denoiser, process: Process, x_t: StateLike, t: Level, condition: Any, clip: float | None = None
) -> Fields:
    """Calls the denoiser and converts every field.

    Args:
        denoiser: any denoiser of the process.
        process: the process of the state.
        x_t: state ``(batch, *shape)``.
        t: level of the whole batch, or of each field that has a path.
        condition: the encoded condition.
        clip: bound of |x_0| of the Gaussian fields.
    """
    x = as_state(x_t)
    by_field = t if isinstance(t, Mapping) else dict.fromkeys(process.paths, t)
    model = denoiser.at(max(by_field.values()))
    raw = as_state(model(bare(x), _times(x, t, process), condition))
    return {
        name: path.predict(raw[name], x[name], by_field[name], denoiser.output_of(name), clip, model.origin)
        for name, path in process.paths.items()
    }


def _times(x: State, t: Level, process: Process) -> Tensor:
    """Levels as networks get them: filled on the device, so that nothing is copied there."""
    shape, device = (batch_of(x),), device_of(x)
    if not isinstance(t, Mapping):
        return torch.full(shape, t, dtype=torch.float64, device=device)
    return torch.stack([torch.full(shape, t[name], dtype=torch.float64, device=device) for name in process.paths], 1)


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

    def __call__(self, x_t: Any, t: Tensor, condition: Any) -> Any:
        if self.scale == 1:
            return self.conditional(x_t, t, condition)
        null = self.null(t.device)
        null = null.expand(len(t), *null.shape[1:])
        if self.joint:
            both = self.conditional(concatenate([x_t, x_t]), torch.cat([t, t]), torch.cat([null, condition]))
            half = len(t)
            return map_fields(lambda raw: self._combined(raw[:half], raw[half:]), both)
        with torch.no_grad():
            unconditional = self.unconditional(x_t, t, null)
        return map_fields(self._combined, unconditional, self.conditional(x_t, t, condition))

    def at(self, t: float) -> Denoiser:
        conditional, unconditional = self.conditional.at(t), self.unconditional.at(t)
        if conditional is self.conditional and unconditional is self.unconditional:
            return self
        return Guided(conditional, unconditional, self.scale, self.null, self.joint)

    def _combined(self, unconditional: Tensor, conditional: Tensor) -> Tensor:
        return unconditional + self.scale * (conditional - unconditional)
