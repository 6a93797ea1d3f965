"""The step maps of a flow's sampler on a grid t_0 .. t_K, from the noise (k = K) to the data (k = 0).

Inverting a step means solving ``x - increment(x, k) = y`` with the very same `increment` (Eq. 8): forward and inverse
cannot disagree about the time at which the velocity is read, because there is one place that knows it.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""``v(x, t)``, dx/dt with t = 0 the data: states ``(batch, *shape)``, times ``(batch,)`` in (0, 1] and in float64, as
samplers give them, velocities ``(batch, *shape)``. Samples must not influence each other and carry no memory: a solver
calls it on those samples of a batch that are still open. Newton-Krylov, eta L by power iteration and densities need it
differentiable in x: not wrapped in ``torch.no_grad``, its network not made in ``torch.inference_mode``."""

Method = Literal["euler", "heun"]


class FlowSteps:
    """A flow and its discrete sampler: K steps, of Euler or of Heun.

    Euler: ``x_{k-1} = x_k - eta v(x_k, t_k)`` with eta = t_k - t_{k-1}, which is 1 / K on the uniform grid. Heun: the
    mean of that velocity and of the one at Euler's result, read at t_{k-1}; its last step, k = 1, is Euler's, so that
    v(., 0) is never asked for.

    Args:
        velocity: the flow.
        steps: K, for the levels t_k = k / K; or the K + 1 levels themselves, from 0 up to 1.
        method: "euler" or "heun".

    Attributes:
        levels: t_0 .. t_K.
        steps: K.

    Raises:
        ValueError: if there is no step, the levels do not increase from 0 to 1, or ``method`` is neither.
    """

    def __init__(self, velocity: Velocity, steps: int | Sequence[float], method: Method = "euler") -> None:
        if isinstance(steps, int):
            if steps < 1:
                raise ValueError(f"steps={steps}; a flow's sampler has at least 1")
            steps = [k / steps for k in range(steps + 1)]
        self.levels = tuple(float(t) for t in steps)
        if len(self.levels) < 2 or self.levels[0] != 0 or self.levels[-1] != 1 or list(steps) != sorted(set(steps)):
            raise ValueError(f"levels {self.levels} must increase from 0, the data, to 1, the noise")
        if method not in ("euler", "heun"):
            raise ValueError(f"method={method!r}; it is 'euler' or 'heun'")
        self.velocity = velocity
        self.steps = len(self.levels) - 1
        self.method = method

    def velocity_at(self, x: Tensor, k: int) -> Tensor:
        """The velocity v(x, t_k) ``(batch, *shape)``."""
        t = torch.full((len(x),), self.levels[k], dtype=torch.float64, device=x.device)
        return self.velocity(x, t)

    def increment(self, x_k: Tensor, k: int) -> Tensor:
        """What step k takes away, ``x_k - x_{k-1}``, ``(batch, *shape)``.

        Raises:
            ValueError: if k is not in 1 .. K.
        """
        self.check_step(k)
        eta = self.levels[k] - self.levels[k - 1]
        slope = self.velocity_at(x_k, k)
        if self.two_stage(k):
            slope = (slope + self.velocity_at(x_k - eta * slope, k - 1)) / 2
        return eta * slope

    def check_step(self, k: int) -> None:
        """Refuses a step that is not there.

        Raises:
            ValueError: if k is not in 1 .. K.
        """
        if not 1 <= k <= self.steps:
            raise ValueError(f"k={k}; the steps of this sampler are 1 to {self.steps}")

    def step(self, x_k: Tensor, k: int) -> Tensor:
        """The state x_{k-1} from x_k, ``(batch, *shape)``."""
        return x_k - self.increment(x_k, k)

    def two_stage(self, k: int) -> bool:
        """Whether step k evaluates the velocity twice."""
        return self.method == "heun" and k > 1

    @property
    def evaluations(self) -> int:
        """Calls of the velocity from noise to data: K for Euler, 2 K - 1 for Heun."""
        return self.steps + sum(self.two_stage(k) for k in range(1, self.steps + 1))

    @torch.no_grad()
    def generate(self, noise: Tensor, stop_level: int = 0) -> Tensor:
        """The state at level ``stop_level`` (t_m for m) from the noise at t = 1, ``(batch, *shape)``.

        Raises:
            ValueError: if ``stop_level`` is not in 0 .. K.
        """
        if not 0 <= stop_level <= self.steps:
            raise ValueError(f"stop_level={stop_level}; it lies between 0 (the data) and {self.steps} (the noise)")
        x = noise
        for k in range(self.steps, stop_level, -1):
            x = self.step(x, k)
        return x

    __call__ = generate
