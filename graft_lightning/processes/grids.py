"""Grids: which levels a sampler visits, ``levels[n]`` being the level of state n, n = 0 the data."""

from abc import ABC, abstractmethod
from itertools import pairwise

import torch

from graft_lightning.processes.schedules import Schedule
from graft_lightning.ranges import Natural


class Grid(ABC):
    """The levels of ``steps + 1`` states, increasing from the data to t_max or close below it."""

    @abstractmethod
    def levels(self, schedule: Schedule, steps: int) -> list[float]:
        """``steps + 1`` increasing levels.

        Args:
            schedule: gives t_max, and whether levels are integers.
            steps: N.
        """


def checked(levels: list[float], schedule: Schedule, steps: int) -> list[float]:
    """The levels, if they increase.

    Raises:
        ValueError: if two of ``steps + 1`` levels coincide.
    """
    if any(low >= high for low, high in pairwise(levels)):
        raise ValueError(f"steps={steps} is too many for the {schedule.t_max:g} levels of this schedule")
    return levels


class Uniform(Grid):
    """n T / N: "trailing" in diffusers' words for discrete schedules, plain for flows.

    Args:
        power: levels are T (n / N)^power; above 1 they crowd near the data.
    """

    def __init__(self, power: float = 1.0) -> None:
        if power <= 0:
            raise ValueError(f"power={power}; it must be positive")
        self.power = power

    def levels(self, schedule: Schedule, steps: int) -> list[float]:
        levels = [schedule.t_max * (n / steps) ** self.power for n in range(steps + 1)]
        return checked([float(round(t)) for t in levels] if schedule.discrete else levels, schedule, steps)


class Powered(Grid):
    """first + (T - first) ((n - 1) / (N - 1))^power for n >= 1: crowded near the data, but never nearer than ``first``.

    Args:
        first: the level of state 1, as a share of T.
        power: 1 is even; the higher, the more of the steps are near the data.
    """

    def __init__(self, first: float = 0.012, power: float = 2.0) -> None:
        if not 0 < first < 1 or power <= 0:
            raise ValueError(f"first={first} must lie in (0, 1), and power={power} be positive")
        self.first, self.power = first, power

    def levels(self, schedule: Schedule, steps: int) -> list[float]:
        shares = [((n - 1) / max(steps - 1, 1)) ** self.power if steps > 1 else 1.0 for n in range(1, steps + 1)]
        levels = [0.0, *(schedule.t_max * (self.first + (1 - self.first) * share) for share in shares)]
        return checked([float(round(t)) for t in levels] if schedule.discrete else levels, schedule, steps)


class Leading(Grid):
    """Stable Diffusion's grid: timesteps n (T // N) + steps_offset, never quite pure noise.

    Args:
        steps_offset: as in the pipeline's scheduler config.
        set_alpha_to_one: False ends at the schedule's own first level and takes it for the data, as the config of
            Stable Diffusion asks.
    """

    def __init__(self, steps_offset: Natural = 1, set_alpha_to_one: bool = False) -> None:
        self.steps_offset, self.set_alpha_to_one = steps_offset, set_alpha_to_one

    def levels(self, schedule: Schedule, steps: int) -> list[float]:
        ratio = int(schedule.t_max) // steps
        first = 0.0 if self.set_alpha_to_one else 1.0
        if self.steps_offset + 1.0 <= first:
            raise ValueError(
                f"steps_offset={self.steps_offset} starts at the level {first:g} that takes the place of the data; "
                "with set_alpha_to_one=False it must be at least 1"
            )
        return checked([first, *(n * ratio + self.steps_offset + 1.0 for n in range(steps))], schedule, steps)


class Linspace(Grid):
    """Timesteps spread evenly from the schedule's first to its last ("linspace" in diffusers' words)."""

    def levels(self, schedule: Schedule, steps: int) -> list[float]:
        timesteps = torch.linspace(0, schedule.t_max - 1, steps, dtype=torch.float64).round()
        return checked([0.0, *(timesteps + 1).tolist()], schedule, steps)


class Shifted(Grid):
    """shift t / (1 + (shift - 1) t) of a uniform grid on [0, 1]: the grid of Stable Diffusion 3 (arXiv 2403.03206)."""

    def __init__(self, shift: float = 3.0) -> None:
        if shift <= 0:
            raise ValueError(f"shift={shift}; it must be positive")
        self.shift = shift

    def levels(self, schedule: Schedule, steps: int) -> list[float]:
        if schedule.discrete:
            raise ValueError("a shifted grid needs a continuous schedule")
        return [self.shift * (n / steps) / (1 + (self.shift - 1) * n / steps) for n in range(steps + 1)]


class Explicit(Grid):
    """Levels given one by one.

    Args:
        values: ``steps + 1`` increasing levels, the data first.
    """

    def __init__(self, values: list[float]) -> None:
        self.values = [float(value) for value in values]
        if any(low >= high for low, high in pairwise(self.values)):
            raise ValueError(f"values={values}; levels must increase, the data first")

    def levels(self, schedule: Schedule, steps: int) -> list[float]:
        if len(self.values) != steps + 1:
            raise ValueError(f"values holds {len(self.values)} levels; steps={steps} needs {steps + 1}")
        return checked(self.values, schedule, steps)
