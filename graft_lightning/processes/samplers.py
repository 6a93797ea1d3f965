"""Samplers: one loop, owned by the base class; a sampler writes its step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Classes, Denoiser, Fields, Prediction, predict
from graft_lightning.processes.grids import Grid
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import CategoricalPath, GaussianPath, Path, real_classes, sample_classes
from graft_lightning.processes.process import Process, Shape
from graft_lightning.types import State, Trajectory, batch_of, mask_of

Level = float | Mapping[str | None, float]
"""The level of a whole state, or one for each of its fields."""

Predict = Callable[[State, Level], Fields]
"""(x_t, t) -> prediction by field, denoiser and condition already inside."""


class Sampler(ABC):
    """Runs a denoiser from noise to data.

    Args:
        steps: N, the number of steps.
        grid: which levels are visited; the process's own grid by default.
        clip_sample: bound of the predicted |x_0| (1 for pictures in [-1, 1]); none by default.

    Attributes:
        stochastic: True if the sampler draws noise on the way; nested sampling needs it.
    """

    stochastic: bool = True

    def __init__(self, steps: int = 50, grid: Grid | None = None, clip_sample: float | None = None) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps}; a sampler needs at least one step")
        self.steps = steps
        self.grid = grid
        self.clip_sample = clip_sample

    @abstractmethod
    def step(
        self, process: Process, predict: Predict, x: State, t: float, t_next: float, noise: Noise, within: bool
    ) -> State:
        """One step from level t down to t_next.

        Args:
            process: the noise process.
            predict: (x, level) -> prediction by field.
            x: state at t, ``(batch, *shape)``.
            t: level of ``x``.
            t_next: level of the result.
            noise: one generator per sample.
            within: False if the step ends at the data or at a boundary of the denoiser, where the model of ``x`` must
                not be evaluated.
        """

    def evaluations(self, within: bool) -> int:
        """How often a step calls the denoiser; ``within`` as in `step`."""
        return 1

    def levels(self, process: Process) -> list[float]:
        """The level of every state n = 0 .. N; n = 0 is the data."""
        return (self.grid or process.grid).levels(process.schedule, self.steps)

    def sample(
        self,
        denoiser: Denoiser,
        process: Process,
        condition: Any,
        noise: Noise,
        shape: Shape | Mapping[str, Shape],
        keep: Collection[float] = (),
        carried: State | None = None,
    ) -> Trajectory:
        """Whole trajectories from pure noise.

        Args:
            denoiser: the model, stitched or not.
            process: its noise process.
            condition: encoded condition of the batch.
            noise: one generator per sample.
            shape: of one sample, by field for mixed states.
            keep: levels whose states are kept; they must lie on the grid.
            carried: fields without path (a mask), for mixed states.
        """
        start = process.prior(shape, noise, carried)
        return self.resume(denoiser, process, condition, noise, start, self.levels(process)[-1], keep)

    def resume(
        self,
        denoiser: Denoiser,
        process: Process,
        condition: Any,
        noise: Noise,
        x: State,
        level: float,
        keep: Collection[float] = (),
    ) -> Trajectory:
        """Trajectories finished from states at ``level``. Arguments as in `sample`.

        Raises:
            ValueError: if a level to keep is not on the grid; it names the levels that are.
        """
        grid = self.levels(process)
        missing = [t for t in keep if t not in grid]
        if missing:
            raise ValueError(f"levels {missing} are not on the grid of this sampler: {grid}")
        boundaries = {t for t in denoiser.boundaries if t < level}
        descent = [level, *sorted({t for t in grid if t < level} | boundaries, reverse=True)]
        states = {level: x} if level in keep else {}
        count, calls = batch_of(x), 0

        def model(x_t: State, t: Level) -> Fields:
            nonlocal calls
            calls += 1
            each = [t[name] for name in process.paths] if isinstance(t, Mapping) else [t]
            times = torch.tensor(each, dtype=torch.float64, device=x_t.device).expand(count, -1)
            times = times if isinstance(t, Mapping) else times[:, 0]
            return predict(denoiser, process, x_t, times, condition, self.clip_sample)

        with torch.no_grad():
            for t, t_next in pairwise(descent):
                within = t_next != descent[-1] and t_next not in boundaries
                x = self.step(process, model, x, t, t_next, noise, within)
                if t_next in keep:
                    states[t_next] = x
        return Trajectory(x, states, calls)


def update_fields(
    process: Process,
    x: State,
    fields: Fields,
    update: Callable[[Any, Tensor, Any], Tensor],
    only: type[Path] = Path,
) -> State:
    """A new state from ``update(path, field, prediction)`` of every field that has a path, of the kind ``only``."""
    if None in process.paths:
        assert isinstance(x, Tensor)
        return update(process.paths[None], x, fields[None])
    result = x.clone(recurse=False)  # type: ignore[call-arg]
    for name, path in process.paths.items():
        if not isinstance(path, only):
            continue
        result[name] = update(path, x[name], fields[name])  # type: ignore[index]
    return result


def _times(x: Tensor, *levels: float) -> tuple[Tensor, ...]:
    return tuple(torch.full((x.shape[0],), level, dtype=torch.float64, device=x.device) for level in levels)


def reverse_categorical(
    path: CategoricalPath, x: Tensor, classes: Classes, t: float, t_next: float, noise: Noise, mask: Tensor | None
) -> Tensor:
    """A draw of c_s | c_t with the class at the predicted level summed out (Eq. 3 reversed)."""
    high, low = _times(x, t, t_next)
    posterior = path.posterior(x, classes.probabilities, low, high, classes.level)
    return real_classes(sample_classes(posterior, noise.uniform(*x.shape[1:])), mask)


class DDIM(Sampler):
    """DDIM (arXiv 2010.02502) with any eta: 0 is deterministic, 1 is ancestral sampling.

    Args:
        steps: N.
        eta: share of the ancestral noise.
        grid: which levels are visited.
        clip_sample: bound of |x_0|.
    """

    def __init__(
        self, steps: int = 50, eta: float = 0.0, grid: Grid | None = None, clip_sample: float | None = None
    ) -> None:
        super().__init__(steps, grid, clip_sample)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta={eta}; it must lie in [0, 1]")
        self.eta = eta
        self.stochastic = eta > 0

    def step(
        self, process: Process, predict: Predict, x: State, t: float, t_next: float, noise: Noise, within: bool
    ) -> State:
        return update_fields(process, x, predict(x, t), self.reversal(t, t_next, noise, mask_of(x)))

    def reversal(
        self, t: float, t_next: float, noise: Noise, mask: Tensor | None
    ) -> Callable[[Any, Tensor, Any], Tensor]:
        """The step of one field from t down to t_next, as `update_fields` takes it."""

        def update(path: GaussianPath | CategoricalPath, field: Tensor, prediction: Prediction | Classes) -> Tensor:
            if isinstance(path, CategoricalPath):
                return reverse_categorical(path, field, prediction, t, t_next, noise, mask)  # type: ignore[arg-type]
            return self._gaussian(path, field, prediction, t, t_next, noise, mask)  # type: ignore[arg-type]

        return update

    def _gaussian(
        self,
        path: GaussianPath,
        x: Tensor,
        prediction: Prediction,
        t: float,
        t_next: float,
        noise: Noise,
        mask: Tensor | None,
    ) -> Tensor:
        high, low = _times(x[:1], t, t_next)
        kernel = path.kernel(low, high)
        alpha_s, sigma_s = path.alpha_sigma(low)
        _, sigma_t = path.alpha_sigma(high)
        posterior_std = float(self.eta * kernel.sigma * sigma_s / sigma_t)
        direction = float((sigma_s**2 - posterior_std**2).clamp_min(0).sqrt())
        mean = float(alpha_s) * prediction.x_0 + direction * prediction.epsilon
        if posterior_std == 0:
            return mean
        return mean + posterior_std * path.project(noise.normal(*x.shape[1:]), mask)


class DDPM(DDIM):
    """Ancestral sampling (arXiv 2006.11239) with the posterior's own variance; for flows, its analogue.

    The law of each step is the Gaussian posterior q(x_s | x_t, x_0) at the predicted x_0, which is DDIM at eta = 1.
    """

    def __init__(self, steps: int = 50, grid: Grid | None = None, clip_sample: float | None = None) -> None:
        super().__init__(steps, 1.0, grid, clip_sample)


class Euler(DDIM):
    """Euler's method on the probability-flow equation.

    In the coordinates x / (alpha + sigma) over sigma / (alpha + sigma) the velocity is eps - x_0, for diffusion and
    flow alike, and Euler's step there is DDIM at eta = 0; for a rectified flow it is plain Euler in t.
    """

    def __init__(self, steps: int = 50, grid: Grid | None = None, clip_sample: float | None = None) -> None:
        super().__init__(steps, 0.0, grid, clip_sample)


class Heun(Euler):
    """Heun's second-order method in the coordinates of `Euler`; two evaluations a step.

    A step that ends at the data or at a hand-off is Euler's, so that no model is evaluated outside its range.
    """

    def evaluations(self, within: bool) -> int:
        return 2 if within else 1

    def step(
        self, process: Process, predict: Predict, x: State, t: float, t_next: float, noise: Noise, within: bool
    ) -> State:
        if not within:
            return super().step(process, predict, x, t, t_next, noise, within)
        path = process.gaussian
        assert isinstance(x, Tensor)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = (path.alpha_sigma(level) for level in _times(x[:1], t, t_next))
        scale_t, scale_s = float(alpha_t + sigma_t), float(alpha_s + sigma_s)
        change = float(sigma_s / (alpha_s + sigma_s) - sigma_t / (alpha_t + sigma_t))
        here = _velocity(predict(x, t))
        there = _velocity(predict(scale_s * (x / scale_t + change * here), t_next))
        return scale_s * (x / scale_t + change * (here + there) / 2)


def _velocity(fields: Fields) -> Tensor:
    prediction = fields[None]
    assert isinstance(prediction, Prediction)
    return prediction.epsilon - prediction.x_0
