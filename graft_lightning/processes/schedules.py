"""Schedules: how much signal and how much noise a level holds (Eq. 1).

Published tables are read from diffusers, so that their constants are its constants.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor


class Schedule(ABC):
    """alpha_t and sigma_t over the levels ``0 .. t_max``.

    Attributes:
        t_max: the level of pure noise, T.
        discrete: True if levels are integers.
    """

    t_max: float
    discrete: bool

    @abstractmethod
    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t) in float64, the shape of ``t``, unchecked.

        A loop that made the levels itself need not wait until they are read back from a device.
        """

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha_t, sigma_t) in float64, the shape of ``t``.

        Raises:
            ValueError: if a level lies outside [0, T].
        """
        t = torch.as_tensor(t)
        if t.numel() and bool(((t < 0) | (t > self.t_max)).any()):
            raise ValueError(f"level t={t.tolist()} outside [0, {self.t_max:g}]")
        return self.coefficients(t)

    def at(self, t: float) -> tuple[float, float]:
        """(alpha_t, sigma_t) of one level as plain numbers, computed once.

        Raises:
            ValueError: if the level lies outside [0, T].
        """
        return self._once("_known", self.alpha_sigma, t)

    def derivatives_at(self, t: float) -> tuple[float, float]:
        """`derivatives` at one level as plain numbers, computed once."""
        return self._once("_known_derivatives", self.derivatives, t)

    def _once(self, name: str, pair: Callable[[Tensor], tuple[Tensor, Tensor]], t: float) -> tuple[float, float]:
        """Both values of ``pair`` at one level, kept under ``name``."""
        known: dict[float, tuple[float, float]] = self.__dict__.setdefault(name, {})
        if t not in known:
            first, second = pair(torch.tensor(t, dtype=torch.float64))
            known[t] = float(first), float(second)
        return known[t]

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(d alpha / dt, d sigma / dt) in float64, the shape of ``t``.

        Raises:
            TypeError: for schedules without a continuous time.
        """
        raise TypeError(f"{type(self).__name__} has no derivative in t; RectifiedFlow and Trigonometric have")

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha_t / sigma_t), the half log signal-to-noise ratio; infinite at the data."""
        alpha_t, sigma_t = self.alpha_sigma(t)
        return alpha_t.log() - sigma_t.log()


class TableSchedule(Schedule):
    """A discrete variance-preserving schedule, alpha_t^2 = table[t - 1] for t >= 1, and 1 at the data t = 0."""

    discrete = True

    def __init__(self, num_train_timesteps: int = 1000) -> None:
        if num_train_timesteps < 1:
            raise ValueError(f"num_train_timesteps={num_train_timesteps}; it must be at least 1")
        self.t_max = float(num_train_timesteps)
        self._cumulative: dict[torch.device, Tensor] = {}

    @abstractmethod
    def table(self) -> Tensor:
        """alpha^2 at the levels 1 .. T, float64 ``(T,)``."""

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        level = t.round().long()
        if level.device not in self._cumulative:
            squared = torch.cat([torch.ones(1, dtype=torch.float64), self.table().double()])
            self._cumulative[level.device] = squared.to(level.device)
        alpha_squared = self._cumulative[level.device][level]
        return alpha_squared.sqrt(), (1 - alpha_squared).sqrt()


@lru_cache(maxsize=8)
def _published(beta_schedule: str, num_train_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    from diffusers import DDPMScheduler  # heavy, and needed only where a schedule is really used

    scheduler = DDPMScheduler(
        num_train_timesteps=num_train_timesteps,
        beta_schedule=beta_schedule,
        beta_start=beta_start,
        beta_end=beta_end,
    )
    return scheduler.alphas_cumprod.double()


class Linear(TableSchedule):
    """The schedule of DDPM (arXiv 2006.11239): beta rises linearly."""

    def __init__(self, num_train_timesteps: int = 1000, beta_start: float = 0.0001, beta_end: float = 0.02) -> None:
        super().__init__(num_train_timesteps)
        self.beta_start, self.beta_end = beta_start, beta_end

    def table(self) -> Tensor:
        return _published("linear", int(self.t_max), self.beta_start, self.beta_end)


class ScaledLinear(TableSchedule):
    """The schedule of Stable Diffusion: sqrt(beta) rises linearly."""

    def __init__(self, num_train_timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> None:
        super().__init__(num_train_timesteps)
        self.beta_start, self.beta_end = beta_start, beta_end

    def table(self) -> Tensor:
        return _published("scaled_linear", int(self.t_max), self.beta_start, self.beta_end)


class Cosine(TableSchedule):
    """The squared-cosine schedule (arXiv 2102.09672), beta capped at 0.999 as published."""

    def table(self) -> Tensor:
        return _published("squaredcos_cap_v2", int(self.t_max), 0.0001, 0.02)


class Polynomial2(TableSchedule):
    """EDM's polynomial schedule (arXiv 2203.17003): alpha_t^2 = (1 - (t/T)^2)^2, ratios clipped, then squeezed.

    Args:
        num_train_timesteps: T.
        precision: alpha_t^2 is squeezed into [precision, 1 - precision].
    """

    def __init__(self, num_train_timesteps: int = 1000, precision: float = 1e-5) -> None:
        super().__init__(num_train_timesteps)
        self.precision = precision

    def table(self) -> Tensor:
        steps = torch.arange(int(self.t_max) + 1, dtype=torch.float64)
        alpha_squared = (1 - (steps / self.t_max) ** 2) ** 2
        previous = torch.cat([torch.ones(1, dtype=torch.float64), alpha_squared[:-1]])
        clipped = (alpha_squared / previous).clamp(0.001, 1).cumprod(0)
        return ((1 - 2 * self.precision) * clipped + self.precision)[1:]


class FromTable(TableSchedule):
    """A schedule given by its own alpha^2 at the levels 1 .. T, e.g. a pipeline's ``scheduler.alphas_cumprod``.

    Args:
        alphas_cumprod: alpha^2, decreasing, in [0, 1].
    """

    def __init__(self, alphas_cumprod: list[float]) -> None:
        super().__init__(len(alphas_cumprod))
        values = torch.tensor(alphas_cumprod, dtype=torch.float64)
        if (values.diff() >= 0).any() or values.max() > 1 or values.min() < 0:
            raise ValueError("alphas_cumprod must decrease within [0, 1]")
        self.alphas_cumprod = values  # public: it is what tells two such schedules apart

    def table(self) -> Tensor:
        return self.alphas_cumprod


class RectifiedFlow(Schedule):
    """The linear path of flow matching (arXiv 2209.03003): alpha_t = 1 - t, sigma_t = t, t in [0, 1]."""

    t_max = 1.0
    discrete = False

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        return 1 - t, t

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        one = torch.ones_like(torch.as_tensor(t).double())
        return -one, one


class Trigonometric(Schedule):
    """The variance-preserving path alpha_t = cos(pi t / 2), sigma_t = sin(pi t / 2), t in [0, 1].

    Its velocity dx/dt is pi / 2 times the v-prediction. Between N(0, I) and N(0, I) that velocity is zero, where the
    linear path's is not: a few steps along this path keep the norm of what is nearly standard normal noise.
    """

    t_max = 1.0
    discrete = False

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t.double()
        angle = t * (torch.pi / 2)
        # cos(pi / 2) is 6e-17 in floating point; at t = 1 nothing is left of the signal
        return torch.where(t == 1, torch.zeros_like(t), angle.cos()), angle.sin()

    def derivatives(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.alpha_sigma(t)
        return -torch.pi / 2 * sigma, torch.pi / 2 * alpha
