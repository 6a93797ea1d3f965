"""A process: one path per field of the state, and the law of the levels that a model was trained on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.processes.grids import Grid, Uniform
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import CategoricalPath, GaussianPath, Path, real_classes, sample_classes
from graft_lightning.processes.schedules import Schedule
from graft_lightning.types import State, broadcast, field_of, level_of, mask_of

Shape = tuple[int, ...]


class TimeLaw(ABC):
    """The law of training levels, restricted to an interval by inversion of its distribution function."""

    @abstractmethod
    def draw(self, uniform: Tensor, low: float, high: float, schedule: Schedule) -> Tensor:
        """Levels in (low, high], float64 ``(batch,)``.

        Args:
            uniform: ``(batch,)`` in [0, 1).
            low: excluded lower end.
            high: included upper end.
            schedule: decides whether levels are integers.
        """


class UniformTime(TimeLaw):
    """Every level alike: the law of DDPM, Stable Diffusion and plain flow matching."""

    def draw(self, uniform: Tensor, low: float, high: float, schedule: Schedule) -> Tensor:
        uniform = uniform.double()
        if schedule.discrete:
            return torch.floor(uniform * (high - low)).clamp_max(high - low - 1) + low + 1
        return high - uniform * (high - low)


class GridTime(TimeLaw):
    """The levels that a sampler visits, each alike: what is trained is exactly what is asked for.

    Args:
        grid: of the sampler.
        steps: of the sampler, N.
        interleaved: for `Interleaved` sampling of a mixed state: with probability 1/2 the categorical fields are one
            step ahead of the others, as they are at the second call of a step.
    """

    def __init__(self, grid: Grid, steps: int, interleaved: bool = False) -> None:
        self.grid, self.steps, self.interleaved = grid, steps, interleaved

    def draw(self, uniform: Tensor, low: float, high: float, schedule: Schedule) -> Tensor:
        levels = torch.tensor([t for t in self.grid.levels(schedule, self.steps) if low < t <= high])
        if not len(levels):
            raise ValueError(f"no level of the grid lies in ({low:g}, {high:g}]")
        return levels.double()[(uniform.double().cpu() * len(levels)).long()].to(uniform.device)

    def ahead(self, t: Tensor, uniform: Tensor, schedule: Schedule) -> Tensor:
        """The levels of the categorical fields beside ``t``: the same, or the next one down with probability 1/2.

        Args:
            t: levels of the grid above 0, ``(batch,)``.
            uniform: ``(batch,)`` in [0, 1).
            schedule: of the process.
        """
        levels = torch.tensor(self.grid.levels(schedule, self.steps), dtype=torch.float64, device=t.device)
        following = levels[torch.searchsorted(levels, t.double()) - 1]
        return torch.where(uniform.to(t.device) < 0.5, following, t) if self.interleaved else t


class LogitNormalTime(TimeLaw):
    """logit(t) ~ N(mean, std^2): the law of Stable Diffusion 3 (arXiv 2403.03206); continuous levels in [0, 1]."""

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        self.mean, self.std = mean, std

    def draw(self, uniform: Tensor, low: float, high: float, schedule: Schedule) -> Tensor:
        if schedule.discrete:
            raise ValueError("a logit-normal law of levels needs a continuous schedule")
        ends = (torch.tensor([low, high], dtype=torch.float64).logit() - self.mean) / self.std
        below, above = torch.special.ndtr(ends).to(uniform.device)
        quantile = below + (1 - uniform.double()) * (above - below)
        return torch.sigmoid(torch.special.ndtri(quantile) * self.std + self.mean).clamp(low, high)


class Process:
    """One path per field.

    Args:
        paths: a path, where the state is a tensor; or paths by field, where it is a TensorDict. Fields of a state that
            have no path (a mask) are carried along unchanged.
        time_law: the law of the levels that the reference was trained on.
        grid: what samplers without a grid of their own visit; uniform by default.
    """

    def __init__(
        self, paths: Path | Mapping[str, Path], time_law: TimeLaw | None = None, grid: Grid | None = None
    ) -> None:
        fields: Mapping[Any, Path] = {None: paths} if isinstance(paths, Path) else paths
        self.paths: dict[str | None, Path] = dict(fields)
        self.time_law = time_law or UniformTime()
        self.grid = grid or Uniform()
        t_max = {path.schedule.t_max for path in self.paths.values()}
        discrete = {path.schedule.discrete for path in self.paths.values()}
        if len(t_max) != 1 or len(discrete) != 1:
            raise ValueError(f"all fields must share their levels, found T={sorted(t_max)} and discrete={discrete}")

    @property
    def schedule(self) -> Schedule:
        """The schedule of the first field; all share t_max and whether levels are integers."""
        return next(iter(self.paths.values())).schedule

    @property
    def t_max(self) -> float:
        """The level of pure noise."""
        return self.schedule.t_max

    @property
    def gaussian(self) -> GaussianPath:
        """The only path, where it is Gaussian and the state a tensor.

        Raises:
            TypeError: for mixed or categorical processes.
        """
        path = self.paths.get(None)
        if not isinstance(path, GaussianPath):
            raise TypeError("this sampler needs a Gaussian process on a tensor state")
        return path

    def levels_by_field(self, t: Tensor, noise: Noise) -> Tensor:
        """The levels at which the fields of a training example stand, when the state's is ``t`` ``(batch,)``.

        Returns:
            ``t`` itself; or ``(batch, fields)``, in the order of the paths, where the time law has the categorical
            fields ahead of the others.
        """
        if not (isinstance(self.time_law, GridTime) and self.time_law.interleaved):
            return t
        ahead = self.time_law.ahead(t, noise.uniform(), self.schedule)
        return torch.stack([ahead if isinstance(p, CategoricalPath) else t for p in self.paths.values()], 1)

    def prior(self, shape: Shape | Mapping[str, Shape], noise: Noise, carried: State | None = None) -> State:
        """A draw at t = T.

        Args:
            shape: of one sample, by field for mixed states.
            noise: one generator per sample.
            carried: a TensorDict of fields without path (a mask), taken over.
        """
        if None in self.paths:
            return self._prior(self.paths[None], tuple(shape), noise, None)  # type: ignore[arg-type]
        mask = None if carried is None else mask_of(carried)
        fields = {name: self._prior(path, shape[name], noise, mask) for name, path in self.paths.items()}  # type: ignore
        if carried is not None:
            fields = {**{k: carried[k] for k in carried.keys() if k not in fields}, **fields}  # type: ignore # noqa: SIM118
        return TensorDict(fields, batch_size=[len(noise)], device=noise.device)

    def _prior(self, path: Path, shape: Shape, noise: Noise, mask: Tensor | None) -> Tensor:
        if isinstance(path, GaussianPath):
            # Data of unit variance have variance alpha^2 + sigma^2 here: N(0, I), where pipelines start too, also with
            # a table that keeps a little signal at T.
            return path.project(noise.normal(*shape), mask) * float(
                torch.hypot(*path.alpha_sigma(torch.tensor(self.t_max)))
            )
        assert isinstance(path, CategoricalPath)
        uniform = noise.uniform(*shape)
        return real_classes(sample_classes(path.target.to(uniform.device).expand(*uniform.shape, -1), uniform), mask)

    def diffuse(self, x_s: State, s: Tensor, t: Tensor, noise: Noise) -> tuple[State, dict[str | None, Tensor]]:
        """Draws x_t | x_s (Eq. 2, 3).

        Args:
            x_s: state at s.
            s: level ``(batch,)``.
            t: level ``(batch,)``, or one for each field, ``(batch, fields)``.
            noise: one generator per sample.

        Returns:
            x_t, and by Gaussian field the standard normal e that made it.
        """
        drawn: dict[str | None, Tensor] = {}
        fields: dict[str | None, Tensor] = {}
        mask = mask_of(x_s)
        for place, (name, path) in enumerate(self.paths.items()):
            field = field_of(x_s, name)
            kernel = path.kernel(s, level_of(t, place))
            if isinstance(path, GaussianPath):
                e = path.project(noise.normal(*field.shape[1:]), mask)
                alpha = broadcast(kernel.alpha, field).to(field)  # type: ignore[union-attr]
                sigma = broadcast(kernel.sigma, field).to(field)  # type: ignore[union-attr]
                fields[name], drawn[name] = alpha * field + sigma * e, e
            else:
                probabilities = kernel.probabilities(field)  # type: ignore[union-attr]
                fields[name] = real_classes(sample_classes(probabilities, noise.uniform(*field.shape[1:])), mask)
        if None in fields:
            return fields[None], drawn
        x_t = x_s.clone(recurse=False)  # type: ignore[call-arg]
        for name, field in fields.items():
            x_t[name] = field  # type: ignore[index]
        return x_t, drawn
