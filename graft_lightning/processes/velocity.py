"""Euler's method in the process's own time."""

from graft_lightning.processes.noise import Noise
from graft_lightning.processes.process import Process
from graft_lightning.processes.resampled import Predict
from graft_lightning.processes.samplers import Sampler
from graft_lightning.types import State


class EulerInTime(Sampler):
    """x moves by dx/dt = alpha' x_0 + sigma' eps times the step, alpha' and sigma' the derivatives in t.

    For a rectified flow this is `Euler`. For the variance-preserving path (`Trigonometric`) it differs: `Euler` and
    `DDIM` take the predicted x_0 for the image that they end at, so that with few steps the prediction's blur shrinks
    what they make; where the velocity is zero this sampler moves nothing. A corrector of noise, whose velocity is
    nearly zero, is therefore sampled by this one.
    """

    def stochastic(self, process: Process) -> bool:
        return False

    def step(
        self, process: Process, predict: Predict, x: State, t: float, t_next: float, noise: Noise, within: bool
    ) -> State:
        fields = predict(x, t)
        return x | {
            name: x[name] + (t_next - t) * path.drift(x[name], fields[name], t) for name, path in process.paths.items()
        }
