"""Euler's method in the process's own time."""

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Prediction
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import Predict, Sampler
from graft_lightning.types import State


class EulerInTime(Sampler):
    """x moves by dx/dt = alpha' x_0 + sigma' eps times the step, alpha' and sigma' the derivatives in t.

    For a rectified flow this is `Euler`. For the variance-preserving path (`Trigonometric`) it differs: `Euler` and
    `DDIM` take the predicted x_0 for the picture that they end at, so that with few steps the prediction's blur shrinks
    what they make; where the velocity is zero this sampler moves nothing. A corrector of noise, whose velocity is
    nearly zero, is therefore sampled by this one.
    """

    stochastic = False

    def step(
        self, process: Process, predict: Predict, x: State, t: float, t_next: float, noise: Noise, within: bool
    ) -> State:
        assert isinstance(x, Tensor)
        prediction = predict(x, t)[None]
        assert isinstance(prediction, Prediction)
        derivatives = process.gaussian.schedule.derivatives(torch.tensor(t, dtype=torch.float64))
        of_signal, of_noise = (float(value) for value in derivatives)
        return x + (t_next - t) * (of_signal * prediction.x_0 + of_noise * prediction.epsilon)
