"""A flow sampled by an SDE with the same marginals: the sampler of Flow-GRPO (arXiv 2505.05470)."""

import math

from graft_lightning.processes.grids import Grid
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.outputs import Prediction
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import Predict, Sampler
from graft_lightning.processes.transitions import Transition
from graft_lightning.types import MASK, SettingsError, State


class FlowSDE(Sampler):
    """dx = [flow + g_t^2 / (2 sigma_t) eps] dt + g_t dw towards the data, g_t = noise sqrt(sigma_t / alpha_t).

    Beside the flow's own dx/dt there is noise, and as much of the score as takes it out again: the marginals are those
    of the flow whatever the noise, and each step is Gaussian, which policy gradients need. At t = T, where no signal is
    left, alpha is that of the next level. For states without classes, on paths in continuous time (`RectifiedFlow`).

    Euler's step (Euler-Maruyama) errs by its length: with few steps samples keep a little of the noise that is added
    last. `DDPM` on a flow draws no noise in the last step; it is the other sampler with a density.

    Args:
        steps: N.
        noise: 0.7 in Flow-GRPO.
        grid: which levels are visited; the process's own grid by default.
        clip_sample: bound of |x_0|.
    """

    def __init__(
        self, steps: int = 50, noise: float = 0.7, grid: Grid | None = None, clip_sample: float | None = None
    ) -> None:
        super().__init__(steps, grid, clip_sample)
        if not 0 < noise < math.inf:
            raise ValueError(f"noise={noise}; it must be positive: without it this is Euler's method, EulerInTime")
        self.noise = noise

    def drawn_steps(self, process: Process) -> list[int]:
        self._refuse_unfit(process)
        return list(range(1, self.steps + 1))

    def transitions(
        self, process: Process, predict: Predict, x: State, x_next: State, t: float, t_next: float
    ) -> dict[str, Transition]:
        self._refuse_unfit(process)
        fields, mask = predict(x, t), x.get(MASK)
        moved: dict[str, Transition] = {}
        for name, path in process.paths.items():
            assert isinstance(path, GaussianPath)  # classes are refused above
            found: Prediction = fields[name]
            (alpha, sigma), after = path.schedule.at(t), path.schedule.at(t_next)[0]
            squared = self.noise**2 * sigma / (alpha or after)
            back = t - t_next
            drift = path.drift(x[name], found, t) + squared / (2 * sigma) * found.epsilon
            moved[name] = path.gaussian(x[name] - back * drift, math.sqrt(squared * back), mask)
        return moved

    def step(
        self, process: Process, predict: Predict, x: State, t: float, t_next: float, noise: Noise, within: bool
    ) -> State:
        moved = self.transitions(process, predict, x, x, t, t_next)
        return x | {name: transition.draw(noise) for name, transition in moved.items()}

    def _refuse_unfit(self, process: Process) -> None:
        if classes := [name for name, path in process.paths.items() if path.discrete]:
            raise SettingsError(f"FlowSDE moves no classes, and {', '.join(classes)} has some; choose DDPM")
        if process.schedule.discrete:
            raise SettingsError(
                f"FlowSDE steps in a flow's own time; {type(process.schedule).__name__} has levels one by one: choose "
                "DDPM, or DDIM with eta above 0"
            )
