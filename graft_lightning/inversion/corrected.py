"""The corrected sampler: noise, corrector, frozen flow."""

from collections.abc import Callable

import torch
from torch import Tensor

from graft_lightning.inversion.steps import FlowSteps

Corrector = Callable[[Tensor], Tensor]
"""From standard normal noise to the law of the inverse noise, ``(batch, *shape)`` both: a `GaussianCorrector`, or the
`FlowSteps` of a small flow whose "data" are inverse noise."""


class Corrected:
    """Standard normal noise, through the corrector, through all K steps of the frozen flow.

    The flow runs to the data whatever the start level of the inversion was: the inverse noise lives at t = 1.

    Args:
        corrector: what maps the noise.
        flow: the frozen flow and its steps.
    """

    def __init__(self, corrector: Corrector, flow: FlowSteps) -> None:
        self.corrector = corrector
        self.flow = flow

    @torch.no_grad()
    def correct(self, noise: Tensor) -> Tensor:
        """The corrected noise ``(batch, *shape)``.

        Raises:
            ValueError: if the corrector changes the shape.
        """
        corrected = self.corrector(noise)
        if corrected.shape != noise.shape:
            raise ValueError(f"the corrector turned noise of shape {tuple(noise.shape)} into {tuple(corrected.shape)}")
        return corrected

    def __call__(self, noise: Tensor) -> Tensor:
        """Samples at t = 0 from standard normal noise, ``(batch, *shape)``."""
        return self.flow.generate(self.correct(noise))
