"""What both networks do with their inputs: two times, atom types, masks."""

import math

import torch
from torch import Tensor, nn


class Inputs(nn.Module):
    """Types and times of the atoms as one vector an atom.

    The positions' time and the types' time are separate inputs, because an interleaved sampler moves one block at a
    time; both are shown to every atom.

    Args:
        classes: of atoms, an absorbing class included where the process has one.
        width: of the vectors.
        frequencies: of each time's Fourier features.
    """

    def __init__(self, classes: int, width: int, frequencies: int = 16) -> None:
        super().__init__()
        self.types = nn.Linear(classes, width)
        self.times = nn.Sequential(nn.Linear(4 * frequencies, width), nn.SiLU(), nn.Linear(width, width))
        self.register_buffer("frequency", _frequencies(frequencies), persistent=False)

    frequency: Tensor

    def forward(self, types: Tensor, t_positions: Tensor, t_types: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of the atoms ``(batch, atoms, width)`` and of the times ``(batch, width)``, not yet added.

        Args:
            types: int64 ``(batch, atoms)``, or noisy one-hot codes ``(batch, atoms, classes)``.
            t_positions: ``(batch,)`` in [0, 1], from data to noise.
            t_types: ``(batch,)`` likewise.
        """
        dtype = self.types.weight.dtype
        if not types.is_floating_point():
            types = nn.functional.one_hot(types, self.types.in_features)
        times = torch.stack([t_positions, t_types], -1).float()[..., None] * self.frequency
        features = torch.cat([times.cos(), times.sin()], -1).flatten(1).to(dtype)
        return self.types(types.to(dtype)), self.times(features)


def _frequencies(count: int) -> Tensor:
    """Angular frequencies of wavelengths from 4 down to 1/32."""
    return 2 * math.pi * torch.exp(torch.linspace(math.log(1 / 4), math.log(32), count))
