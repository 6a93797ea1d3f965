"""A process: one path per field of the state, and the distribution of the levels that a model was trained at."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.grids import Grid, Uniform
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import Noised, Path, Shape
from graft_lightning.processes.schedules import Schedule
from graft_lightning.processes.times import TimeDistribution, UniformTime
from graft_lightning.types import FIELD, MASK, State, StateLike, as_state, bare

__all__ = ["Process", "Shape"]


class Process:
    """One path per field.

    Args:
        paths: a path, where the state is a tensor; or paths by field. Fields of a state that have no path (a mask) are
            carried along unchanged.
        times: the distribution of the levels that the reference was trained at.
        grid: what samplers without a grid of their own visit; uniform by default.
    """

    def __init__(
        self,
        paths: Path[Any] | Mapping[str, Path[Any]],
        times: TimeDistribution | None = None,
        grid: Grid | None = None,
    ) -> None:
        self.paths: dict[str, Path[Any]] = dict(paths) if isinstance(paths, Mapping) else {FIELD: paths}
        self.times = times or UniformTime()
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
    def gaussian(self) -> Path[Any]:
        """The only path, where it moves continuously and the state is a tensor.

        Raises:
            TypeError: for mixed or categorical processes.
        """
        if self.paths.keys() != {FIELD} or self.paths[FIELD].discrete:
            raise TypeError("this needs a Gaussian process on a tensor state")
        return self.paths[FIELD]

    def prior(self, shape: Shape | Mapping[str, Shape], noise: Noise, static: StateLike | None = None) -> Any:
        """A draw at t = T: a tensor, or fields.

        Args:
            shape: of one sample, by field for mixed states.
            noise: one stream per sample.
            static: fields without path (a mask), taken over.
        """
        along: State = {} if static is None else as_state(static)
        shapes = shape if isinstance(shape, Mapping) else {FIELD: tuple(shape)}
        mask = along.get(MASK)
        fields = {name: path.prior(shapes[name], noise, mask) for name, path in self.paths.items()}
        return bare({**{name: along[name] for name in along if name not in fields}, **fields})

    def noised(self, x_s: State, s: float, levels: Tensor, noise: Noise) -> dict[str, Noised]:
        """Every field moved from level s to its own in ``levels`` (Eq. 2, 3).

        Args:
            x_s: state at s.
            s: level.
            levels: ``(batch,)``, or one for each field, ``(batch, fields)``; none below s.
            noise: one stream per sample.
        """
        mask = x_s.get(MASK)
        each = [levels] * len(self.paths) if levels.ndim == 1 else levels.unbind(1)
        return {
            name: path.diffuse(x_s[name], s, t, noise, mask)
            for (name, path), t in zip(self.paths.items(), each, strict=True)
        }

    def diffuse(self, x_s: StateLike, s: float, t: float | Tensor, noise: Noise) -> Any:
        """Draws x_t | x_s, a tensor or fields as ``x_s`` is.

        Args:
            x_s: state at s, ``(batch, *shape)``.
            s: its level.
            t: level, or levels as in `noised`.
            noise: one stream per sample.

        Raises:
            ValueError: if a level lies below s, or outside [0, T].
        """
        state = as_state(x_s)
        first = next(iter(state.values()))
        if isinstance(t, Tensor):
            levels = t
            within = s >= 0 and bool(((t >= s) & (t <= self.t_max)).all())
        else:  # a level that the host knows need not be read back
            levels = torch.full((len(first),), t, dtype=torch.float64, device=first.device)
            within = 0 <= s <= t <= self.t_max
        if not within:
            asked = t.tolist() if isinstance(t, Tensor) else t
            raise ValueError(f"a kernel goes towards noise, within [0, {self.t_max:g}]: s={s}, t={asked}")
        noised = self.noised(state, s, levels.to(first.device), noise)
        return bare({**state, **{name: found.x_t for name, found in noised.items()}})
