"""Samplers: one loop, owned by the base class; a sampler writes its step."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch

from graft_lightning.processes.denoiser import Denoiser, Fields, Level, predict
from graft_lightning.processes.grids import Grid
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.process import Process, Shape
from graft_lightning.processes.resampled import Choose, Predict, chosen
from graft_lightning.processes.times import Levels
from graft_lightning.processes.transitions import Transition
from graft_lightning.types import MASK, SettingsError, State, StateLike, Trajectory, as_state, bare


class Sampler(ABC):
    """Runs a denoiser from noise to data.

    Args:
        steps: N, the number of steps.
        grid: which levels are visited; the process's own grid by default.
        clip_sample: bound of the predicted |x_0| (1 for images in [-1, 1]); none by default.

    Attributes:
        order: of a solver of the probability-flow equation.
        is_ddim: whether every step is DDIM's, which schedulers of diffusers repeat.
    """

    order: int = 1
    is_ddim: bool = False

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
            x: state at t, fields ``(batch, *shape)``.
            t: level of ``x``.
            t_next: level of the result.
            noise: one stream per sample.
            within: False if the step ends at the data or at a boundary of the denoiser, where the model of ``x`` must
                not be evaluated.
        """

    def stochastic(self, process: Process) -> bool:
        """Whether states of this process are moved with fresh noise on the way; nested sampling needs it."""
        return True

    def drawn_steps(self, process: Process) -> list[int]:
        """The state indices n whose step to n - 1 draws with a density: what a policy gradient can be taken of."""
        return []

    def transitions(
        self, process: Process, predict: Predict, x: State, x_next: State, t: float, t_next: float
    ) -> dict[str, Transition]:
        """The distribution of every field of ``x_next`` given ``x``, and given the fields that move before it.

        Args:
            process: the noise process.
            predict: as in `step`.
            x: state at t, fields ``(batch, *shape)``.
            x_next: state at t_next.
            t: level of ``x``.
            t_next: level of ``x_next``.

        Raises:
            SettingsError: of samplers whose steps have no density.
        """
        raise SettingsError(without_density(self))

    def evaluations(self, within: bool) -> int:
        """How often a step calls the denoiser; ``within`` as in `step`."""
        return 1

    def levels(self, process: Process) -> list[float]:
        """The level of every state n = 0 .. N; n = 0 is the data."""
        return (self.grid or process.grid).levels(process.schedule, self.steps)

    def training_levels(self, process: Process, descent: Sequence[float] | None = None) -> list[Levels]:
        """The levels of the fields, in the order of the paths, at every call of the denoiser: what it must have learnt.

        A sampler that moves one field before the other says so here: `sample` refuses a call that is not listed.

        Args:
            process: the noise process.
            descent: the levels of the states, from noise to data; those of the sampler's grid by default.
        """
        descent = self.levels(process)[::-1] if descent is None else descent
        return [(t,) * len(process.paths) for t in descent[:-1]]

    def sample(
        self,
        denoiser: Denoiser,
        process: Process,
        condition: Any,
        noise: Noise,
        shape: Shape | Mapping[str, Shape],
        keep: Collection[float] = (),
        static: StateLike | None = None,
        choose: Choose | None = None,
    ) -> Trajectory:
        """Whole trajectories from pure noise.

        Args:
            denoiser: the model, stitched or not.
            process: its noise process.
            condition: encoded condition of the batch.
            noise: one stream per sample.
            shape: of one sample, by field for mixed states.
            keep: levels whose states are kept; they must lie on the grid.
            static: fields without path (a mask), for mixed states.
            choose: chooses among the trajectories before every step; all go on by default.
        """
        start = process.prior(shape, noise, static)
        return self.resume(denoiser, process, condition, noise, start, self.levels(process)[-1], keep, choose)

    def resume(
        self,
        denoiser: Denoiser,
        process: Process,
        condition: Any,
        noise: Noise,
        x: StateLike,
        level: float,
        keep: Collection[float] = (),
        choose: Choose | None = None,
    ) -> Trajectory:
        """Trajectories finished from states at ``level``. Arguments as in `sample`.

        Raises:
            ValueError: if a level to keep is not on the grid; it names the levels that are.
            RuntimeError: if a step calls the denoiser at levels that `training_levels` does not list.
        """
        grid = self.levels(process)
        missing = [t for t in keep if t not in grid]
        if missing:
            raise ValueError(f"levels {missing} are not on the grid of this sampler: {grid}")
        boundaries = {t for t in denoiser.boundaries if t < level}
        descent = [level, *sorted({t for t in grid if t < level} | boundaries, reverse=True)]
        known = set(self.training_levels(process, descent))
        state, calls = as_state(x), 0
        states = {level: x} if level in keep else {}

        def model(x_t: State, t: Level) -> Fields:
            nonlocal calls
            calls += 1
            asked = tuple(t[name] if isinstance(t, Mapping) else t for name in process.paths)
            if asked not in known:
                levels = dict(zip(process.paths, asked, strict=True))
                raise RuntimeError(
                    f"{type(self).__name__}.step calls its model at levels {levels}, which training_levels() does not "
                    "list: a model is not trained there"
                )
            return predict(denoiser, process, x_t, t, condition, self.clip_sample)

        with torch.no_grad():
            for t, t_next in pairwise(descent):
                within = t_next != descent[-1] and t_next not in boundaries
                state, asked = (state, model) if choose is None else chosen(choose, model, state, t)
                state = self.step(process, asked, state, t, t_next, noise, within)
                if t_next in keep:
                    states[t_next] = bare(state)
        return Trajectory(bare(state), states, calls)


class DDIM(Sampler):
    """DDIM (arXiv 2010.02502) with any eta: 0 is deterministic, 1 is ancestral sampling.

    Categorical fields are drawn at every eta.

    Args:
        steps: N.
        eta: share of the ancestral noise.
        grid: which levels are visited.
        clip_sample: bound of |x_0|.
    """

    is_ddim = True

    def __init__(
        self, steps: int = 50, eta: float = 0.0, grid: Grid | None = None, clip_sample: float | None = None
    ) -> None:
        super().__init__(steps, grid, clip_sample)
        if not 0 <= eta <= 1:
            raise ValueError(f"eta={eta}; it must lie in [0, 1]")
        self.eta = eta

    def stochastic(self, process: Process) -> bool:
        return self.eta > 0 or any(path.discrete for path in process.paths.values())

    def drawn_steps(self, process: Process) -> list[int]:
        steps = enumerate(pairwise(self.levels(process)), start=1)
        paths = process.paths.values()
        return [n for n, (t_next, t) in steps if any(path.draws(t, t_next, self.eta) for path in paths)]

    def transitions(
        self, process: Process, predict: Predict, x: State, x_next: State, t: float, t_next: float
    ) -> dict[str, Transition]:
        return self.moved(process, x, predict(x, t), t, t_next, process.paths)

    def moved(
        self, process: Process, x: State, fields: Fields, t: float, t_next: float, names: Collection[str]
    ) -> dict[str, Transition]:
        """The distributions of the fields of these names, moved from t down to t_next by their predictions."""
        mask = x.get(MASK)
        return {
            name: path.transition(x[name], fields[name], t, t_next, mask, self.eta)
            for name, path in process.paths.items()
            if name in names
        }

    def step(
        self, process: Process, predict: Predict, x: State, t: float, t_next: float, noise: Noise, within: bool
    ) -> State:
        return self.reversed(process, x, predict(x, t), t, t_next, noise, process.paths)

    def reversed(
        self,
        process: Process,
        x: State,
        fields: Fields,
        t: float,
        t_next: float,
        noise: Noise,
        names: Collection[str],
    ) -> State:
        """``x`` with the fields of these names moved from t down to t_next by their predictions."""
        moved = self.moved(process, x, fields, t, t_next, names)
        return x | {name: transition.draw(noise) for name, transition in moved.items()}


class DDPM(DDIM):
    """Ancestral sampling (arXiv 2006.11239) with the posterior's own variance; for flows, its analogue.

    The distribution of each step is the Gaussian posterior q(x_s | x_t, x_0) at the predicted x_0, which is DDIM at
    eta = 1.
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

    order = 2
    is_ddim = False

    def evaluations(self, within: bool) -> int:
        return 2 if within else 1

    def drawn_steps(self, process: Process) -> list[int]:
        return []  # it moves no classes, and draws nothing

    def transitions(
        self, process: Process, predict: Predict, x: State, x_next: State, t: float, t_next: float
    ) -> dict[str, Transition]:
        raise SettingsError(without_density(self))

    def step(
        self, process: Process, predict: Predict, x: State, t: float, t_next: float, noise: Noise, within: bool
    ) -> State:
        if not within:
            return super().step(process, predict, x, t, t_next, noise, within)
        here = predict(x, t)
        guess = self._transported(process, x, [here], t, t_next)
        return self._transported(process, x, [here, predict(guess, t_next)], t, t_next)

    @staticmethod
    def _transported(process: Process, x: State, found: Sequence[Fields], t: float, t_next: float) -> State:
        return x | {
            name: path.transport(x[name], [fields[name] for fields in found], t, t_next)
            for name, path in process.paths.items()
        }


def without_density(sampler: Sampler) -> str:
    """Why no policy gradient can be taken of a sampler, and of which it can."""
    eta = f" with eta={sampler.eta:g}" if isinstance(sampler, DDIM) else ""
    return (
        f"{type(sampler).__name__}{eta} draws nothing on its way, so that its steps have no density and no policy "
        "gradient: choose DDPM, DDIM with eta above 0 or, for a flow, FlowSDE"
    )
