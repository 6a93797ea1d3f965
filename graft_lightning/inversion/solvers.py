"""Solvers of ``x = y + increment(x)``, the inverse of one sampler step (Eq. 8), sample by sample.

The base class owns the loop: it evaluates the residual of every sample that is still open, remembers the best iterate
of each, closes those that have converged or blown up, and counts. A solver only proposes the next iterate.

The residual is that of the step itself, ``y - step(x)``, so it is the error that the forward step would make; it is
given as a root mean square, in units of the state's own or of the noise's standard deviation, whichever is larger. It
is never below the rounding of x itself: where a step is nearly singular, there are x so large that y drowns in them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from graft_lightning.inversion.differential import Linearised

Increment = Callable[[Tensor], Tensor]
BLOW_UP = 1e4
"""A sample whose residual exceeds its first by this factor has diverged."""


def default_tolerance(dtype: torch.dtype) -> float:
    """The residual that counts as converged: some ten roundings of a state in ``dtype``, some thousand in float64."""
    return 1e-12 if dtype == torch.float64 else 10 * torch.finfo(dtype).eps


def root_mean_square(x: Tensor) -> Tensor:
    """``(batch,)``."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1) / math.prod(x.shape[1:]) ** 0.5


@dataclass(frozen=True)
class Solution:
    """What a solver found.

    Attributes:
        x: the best iterate of each sample ``(batch, *shape)``.
        residual: its residual ``(batch,)``; infinite where not even the first was finite.
        iterations: residuals looked at, int64 ``(batch,)``.
        evaluations: of the increment, a product with its derivative counted as one, int64 ``(batch,)``.
        converged: bool ``(batch,)``.
        eta_L: the largest ``|increment(x') - increment(x)| / |x' - x|`` of successive iterates ``(batch,)``, a lower
            bound of the increment's Lipschitz constant that costs nothing; NaN where fewer than two are distinct.
        stage: which solver of a chain ended the sample, int64 ``(batch,)``; 0 for a single solver.
    """

    x: Tensor
    residual: Tensor
    iterations: Tensor
    evaluations: Tensor
    converged: Tensor
    eta_L: Tensor
    stage: Tensor


class Problem:
    """``x = y + increment(x)`` for the samples that are still open; counts what it evaluates."""

    def __init__(self, increment: Increment, y: Tensor) -> None:
        self.increment = increment
        self.y = y
        self.calls = 0

    def residual(self, x: Tensor) -> Tensor:
        """``y + increment(x) - x`` ``(batch, *shape)``."""
        self.calls += 1
        return self.y + self.increment(x) - x

    def derivative(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """The derivative of ``x - increment(x)`` at x, as a map from directions to directions."""
        linear = Linearised(self.increment, x)
        self.calls += Linearised.SETUP_COST

        def along(direction: Tensor) -> Tensor:
            self.calls += 1
            return direction - linear.along(direction)

        return along

    def keep(self, mask: Tensor) -> None:
        """Forget the other samples."""
        self.y = self.y[mask]


class History:
    """The last iterates and residuals of the open samples, oldest first."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.x: list[Tensor] = []
        self.r: list[Tensor] = []
        self.norm: list[Tensor] = []

    def append(self, x: Tensor, r: Tensor) -> None:
        for row, value in ((self.x, x), (self.r, r), (self.norm, root_mean_square(r))):
            row.append(value)
            del row[: -self.depth - 1]

    def keep(self, mask: Tensor) -> None:
        for row in (self.x, self.r, self.norm):
            row[:] = [value[mask] for value in row]


class Progress:
    """What is known of every sample of the batch; `open` are the indices still being solved."""

    def __init__(self, y: Tensor, tolerance: float) -> None:
        batch, device = len(y), y.device
        self.tolerance = tolerance
        self.scale = root_mean_square(y).clamp_min(1)
        self.x = y.clone()
        self.open = torch.arange(batch, device=device)
        self.residual = torch.full((batch,), torch.inf, dtype=y.dtype, device=device)
        self.first = self.residual.clone()
        self.eta_L = torch.full_like(self.residual, torch.nan)
        self.iterations = torch.zeros(batch, dtype=torch.int64, device=device)
        self.evaluations = torch.zeros_like(self.iterations)
        self.stage = torch.zeros_like(self.iterations)

    def record(self, history: History) -> Tensor:
        """Take in the newest iterate of the open samples; which of them go on, bool ``(open,)``."""
        x, scale = history.x[-1], self.scale[self.open]
        rounding = torch.finfo(x.dtype).eps * root_mean_square(x)
        residual = torch.nan_to_num(torch.maximum(history.norm[-1], rounding) / scale, nan=torch.inf)
        self.iterations[self.open] += 1
        better = residual < self.residual[self.open]
        self.x[self.open[better]] = x[better]
        self.residual[self.open[better]] = residual[better]
        self.first[self.open] = torch.where(self.first[self.open].isinf(), residual, self.first[self.open])
        self._bound(history, scale)
        return (residual > self.tolerance) & (residual < BLOW_UP * self.first[self.open]) & residual.isfinite()

    def _bound(self, history: History, scale: Tensor) -> None:
        """Raise eta_L to what the last two iterates show, unless they differ by rounding alone."""
        if len(history.x) < 2:
            return
        moved = history.x[-1] - history.x[-2]
        length = root_mean_square(moved)
        ratio = root_mean_square(moved + history.r[-1] - history.r[-2]) / length
        seen = (length > 100 * torch.finfo(moved.dtype).eps * scale) & ratio.isfinite()
        self.eta_L[self.open] = torch.where(seen, torch.fmax(self.eta_L[self.open], ratio), self.eta_L[self.open])

    def solution(self) -> Solution:
        return Solution(
            self.x,
            self.residual,
            self.iterations,
            self.evaluations,
            self.residual <= self.tolerance,
            self.eta_L,
            self.stage,
        )


GiveUp = Callable[[Progress, History], Tensor]
"""Which open samples are not worth another iteration, bool ``(open,)``."""


class Solver(ABC):
    """Solves ``x = y + increment(x)``."""

    @abstractmethod
    def solve(self, increment: Increment, y: Tensor, initial: Tensor | None = None) -> Solution:
        """The inverse step of every sample.

        Args:
            increment: ``x - step(x)`` of any subset of the samples.
            y: the states that the step must reach ``(batch, *shape)``.
            initial: first iterate; ``y`` by default.
        """


class Iteration(Solver):
    """A solver that goes from one iterate to the next.

    Args:
        tolerance: residual at which a sample has converged; None for 1.2e-6 in float32 and 1e-12 in float64.
        max_iterations: residuals looked at per sample, at most.

    Raises:
        ValueError: if either is not positive.
    """

    depth = 1
    """How many earlier iterates `propose` looks at; at least 1."""

    def __init__(self, tolerance: float | None = None, max_iterations: int = 100) -> None:
        if tolerance is not None and not tolerance > 0:
            raise ValueError(f"tolerance={tolerance}; it is a positive residual, or None for the default")
        if max_iterations < 1:
            raise ValueError(f"max_iterations={max_iterations}; it must be at least 1")
        self.tolerance = tolerance
        self.max_iterations = max_iterations

    @abstractmethod
    def propose(self, problem: Problem, history: History, progress: Progress) -> Tensor:
        """The next iterate of the open samples, from the history, whose last entries are the current ones."""

    @torch.no_grad()
    def solve(
        self, increment: Increment, y: Tensor, initial: Tensor | None = None, give_up: GiveUp | None = None
    ) -> Solution:
        """The inverse step of every sample; ``give_up`` closes samples before their time."""
        problem, history = Problem(increment, y), History(self.depth)
        progress = Progress(y, self.tolerance or default_tolerance(y.dtype))
        x = y if initial is None else initial
        for iteration in range(self.max_iterations if len(y) else 0):
            history.append(x, problem.residual(x))
            on = progress.record(history)
            if give_up is not None:
                on = on & ~give_up(progress, history)
            progress.evaluations[progress.open] += problem.calls
            problem.calls = 0
            if not on.any() or iteration == self.max_iterations - 1:
                break
            problem.keep(on)
            history.keep(on)
            progress.open = progress.open[on]
            x = self.propose(problem, history, progress)
        return progress.solution()


class FixedPoint(Iteration):
    """``x <- x + damping (y + increment(x) - x)``; plain iteration at damping 1.

    Plain iteration contracts by eta L, the increment's Lipschitz constant, and converges for every start where that is
    below 1. Damping d turns an eigenvalue ``z`` of the increment's derivative into ``1 - d (1 - z)``: with d = 1/2 it
    converges for real z in (-3, 1) and ends limit cycles, and takes twice as long where nothing cycled.

    Raises:
        ValueError: if ``damping`` is not in (0, 1].
    """

    def __init__(self, tolerance: float | None = None, max_iterations: int = 100, damping: float = 1.0) -> None:
        super().__init__(tolerance, max_iterations)
        if not 0 < damping <= 1:
            raise ValueError(f"damping={damping}; it lies in (0, 1], 1 being the plain iteration")
        self.damping = damping

    def propose(self, problem: Problem, history: History, progress: Progress) -> Tensor:
        return history.x[-1] + self.damping * history.r[-1]
