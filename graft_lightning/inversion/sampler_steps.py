"""The step maps of a sampler: what is inverted is the very step that sampling takes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from graft_lightning.inversion.steps import FlowSteps
from graft_lightning.processes.denoiser import Denoiser, Fields, Level, predict
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import Sampler
from graft_lightning.types import State, as_state, bare


class SamplerSteps(FlowSteps):
    """A deterministic sampler of a Gaussian process with t in [0, 1], one step at a time, on its own grid.

    For a rectified flow these are the steps of `FlowSteps`; for another path (a variance-preserving corrector) they are
    what its sampler does, and densities and inverses are those of that map.

    Args:
        sampler: deterministic, without clipping.
        process: one Gaussian path.
        denoiser: differentiable: not the frozen view of a reference.
        condition: gives the encoded condition of so many samples; one for all of them, because a solver calls the
            model on those that are still open.

    Raises:
        ValueError: if the sampler draws noise or clips, or its grid does not run from 0 to 1.
    """

    def __init__(self, sampler: Sampler, process: Process, denoiser: Denoiser, condition: Callable[[int], Any]) -> None:
        name = type(sampler).__name__
        if sampler.stochastic(process):
            raise ValueError(f"sampler={name} draws noise; only a deterministic one (Euler, Heun) has inverses")
        if sampler.clip_sample is not None:
            raise ValueError(f"sampler.clip_sample={sampler.clip_sample}; a step that clips has no inverse")
        self.path = process.gaussian
        super().__init__(self._refuse, sampler.levels(process), "heun" if sampler.order == 2 else "euler")
        self.sampler, self.process, self.denoiser, self.condition = sampler, process, denoiser, condition

    def _refuse(self, x: Tensor, t: Tensor) -> Tensor:
        raise TypeError("a sampler is known by its steps; the velocity of its model is the denoiser's own output")

    def increment(self, x_k: Tensor, k: int) -> Tensor:
        self.check_step(k)
        return x_k - self._stepped(x_k, k)

    def step(self, x_k: Tensor, k: int) -> Tensor:
        self.check_step(k)
        return self._stepped(x_k, k)

    def _stepped(self, x_k: Tensor, k: int) -> Tensor:
        condition = self.condition(len(x_k))

        def model(x_t: State, t: Level) -> Fields:
            return predict(self.denoiser, self.process, x_t, t, condition)

        nothing = Noise(torch.zeros(0, dtype=torch.int64))  # a deterministic sampler draws none
        high, low = self.levels[k], self.levels[k - 1]
        stepped: Tensor = bare(self.sampler.step(self.process, model, as_state(x_k), high, low, nothing, k > 1))
        return stepped
