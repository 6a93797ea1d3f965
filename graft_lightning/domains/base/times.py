"""Times as inputs of a network: of one field, or of several that are noised by different amounts."""

import math

import torch
from torch import Tensor, nn


def fourier(t: Tensor, count: int, longest: float, shortest: float) -> Tensor:
    """Cosines, then sines, of times ``(...)``: float32 ``(..., 2 count)``.

    Args:
        t: in [0, 1], from data to noise.
        count: of wavelengths, evenly spaced in their logarithm.
        longest: the first of them, in units of t.
        shortest: the last.
    """
    # Worked out anew, in float32: a buffer would lose its digits where a network is cast to a narrower type.
    exponents = torch.linspace(math.log(1 / longest), math.log(1 / shortest), count, device=t.device)
    angle = t.float()[..., None] * (2 * math.pi * torch.exp(exponents))
    return torch.cat([angle.cos(), angle.sin()], -1)


class Times(nn.Sequential):
    """The times of all fields as one vector a sample.

    Args:
        count: of times.
        width: of the vector.
        frequencies: of each time's Fourier features.
        longest: wavelength, in units of t.
        shortest: wavelength.
    """

    def __init__(
        self, count: int, width: int, frequencies: int = 16, longest: float = 4.0, shortest: float = 1 / 32
    ) -> None:
        super().__init__(nn.Linear(2 * count * frequencies, width), nn.SiLU(), nn.Linear(width, width))
        self.frequencies, self.longest, self.shortest = frequencies, longest, shortest

    def forward(self, *times: Tensor) -> Tensor:
        """A vector ``(batch, width)`` of times ``(batch,)`` each."""
        features = fourier(torch.stack(times, -1), self.frequencies, self.longest, self.shortest)
        return super().forward(features.flatten(1).to(next(self.parameters()).dtype))


class TimedTypes(nn.Module):
    """The types of a sample's elements as one vector an element, and the times of its fields as one vector.

    Every field's time is an input of its own, because an interleaved sampler moves one field at a time; the vector of
    all times is shown to every element.

    Args:
        classes: of elements, an absorbing class included where the process has one.
        width: of the vectors.
        times: fields that are noised.
        frequencies: of each time's Fourier features.
    """

    def __init__(self, classes: int, width: int, times: int = 2, frequencies: int = 16) -> None:
        super().__init__()
        self.types = nn.Linear(classes, width)
        self.times = Times(times, width, frequencies)

    def forward(self, types: Tensor, *times: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of the elements ``(batch, elements, width)`` and of the times ``(batch, width)``, not yet added.

        Args:
            types: int64 ``(batch, elements)``, or noisy one-hot codes ``(batch, elements, classes)``.
            times: ``(batch,)`` each, in [0, 1], from data to noise.
        """
        if not types.is_floating_point():
            types = nn.functional.one_hot(types, self.types.in_features)
        return self.types(types.to(self.types.weight.dtype)), self.times(*times)
