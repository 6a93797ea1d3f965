"""The solver that measures: plain iteration first, and more only for the samples that show that they need it."""

from collections import deque

import torch
from torch import Tensor

from graft_lightning.inversion.anderson import Anderson
from graft_lightning.inversion.newton_krylov import NewtonKrylov
from graft_lightning.inversion.solvers import History, Increment, Problem, Progress, Solution, Solver
from graft_lightning.ranges import Natural
from graft_lightning.types import broadcast

NEWTON_STALL = 5
"""Newton iterations in which the residual must halve; at a singular step it does not, and each costs dozens."""


class Automatic(Solver):
    """Plain iteration, then Anderson, then Newton-Krylov, each for the samples that need it.

    A sample whose residual has not shrunk to ``rate`` of the one before goes over to Anderson, which finds the plain
    iterates in its history: its contraction is slow, absent or a cycle. Where the best residual has not halved within
    ``stall`` iterations, or the iterations are used up, Newton-Krylov starts from the best iterate. What it does not
    solve is flagged.

    The default rate is measured: on flows of handwritten digits, plain iteration needs as few evaluations as Anderson
    where it contracts by 0.1, and a third more where it contracts by 0.3.

    Args:
        tolerance: residual at which a sample has converged; None for 1.2e-6 in float32 and 1e-12 in float64.
        max_iterations: of plain iteration and Anderson together.
        rate: the slowest contraction left to plain iteration; 0 is Anderson from the start.
        stall: iterations in which the residual must halve.
        depth: of Anderson.
        newton_iterations: 0 leaves Newton-Krylov out.
        krylov: dimension of GMRES's space.

    Raises:
        ValueError: if ``rate`` is not in [0, 1], ``stall`` is below 1, or a solver refuses its part.
    """

    STAGES = ("fixed point", "Anderson", "Newton-Krylov")

    def __init__(
        self,
        tolerance: float | None = None,
        max_iterations: int = 100,
        rate: float = 0.2,
        stall: Natural = 10,
        depth: int = 5,
        newton_iterations: Natural = 20,
        krylov: int = 40,
    ) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"rate={rate}; it lies in [0, 1]")
        if stall < 1:
            raise ValueError(f"stall={stall}; it is a count of iterations, at least 1")
        self.stall = stall
        self.watched = _Watched(rate, tolerance, max_iterations, depth)
        self.newton = NewtonKrylov(tolerance, newton_iterations, krylov) if newton_iterations else None

    @torch.no_grad()
    def solve(self, increment: Increment, y: Tensor, initial: Tensor | None = None) -> Solution:
        """The inverse step of every sample; `Solution.stage` says which solver of `STAGES` ended it."""
        found = self.watched.solve(increment, y, initial, _Stalled(self.stall))
        failed = (~found.converged).nonzero().squeeze(1)
        if self.newton is None or not len(failed):
            return found
        rest = self.newton.solve(increment, y[failed], found.x[failed], _Stalled(NEWTON_STALL))
        return _merged(found, rest, failed)


class _Watched(Anderson):
    """Plain iteration while it contracts by ``rate``, Anderson from then on, sample by sample."""

    def __init__(self, rate: float, tolerance: float | None, max_iterations: int, depth: int) -> None:
        super().__init__(tolerance, max_iterations, depth)
        self.rate = rate

    def propose(self, problem: Problem, history: History, progress: Progress) -> Tensor:
        if len(history.norm) > 1:
            slow = ~(history.norm[-1] < self.rate * history.norm[-2])
            progress.stage[progress.open[slow]] = 1
        x = history.x[-1] + history.r[-1]
        accelerated = progress.stage[progress.open] == 1
        if accelerated.any():
            x = torch.where(broadcast(accelerated, x), super().propose(problem, history, progress), x)
        return x


class _Stalled:
    """Whether the best residual of a sample has not halved within so many iterations."""

    def __init__(self, iterations: int) -> None:
        self.marks: deque[Tensor] = deque(maxlen=iterations + 1)

    def __call__(self, progress: Progress, history: History) -> Tensor:
        self.marks.append(progress.residual.clone())
        if len(self.marks) < (self.marks.maxlen or 0):
            return torch.zeros_like(progress.open, dtype=torch.bool)
        return ~(progress.residual < 0.5 * self.marks[0])[progress.open]


def _merged(found: Solution, rest: Solution, rows: Tensor) -> Solution:
    """``found`` with the samples ``rows`` taken on by Newton-Krylov."""

    def put(name: str, value: Tensor) -> Tensor:
        return getattr(found, name).index_copy(0, rows, value)

    return Solution(
        x=put("x", rest.x),
        residual=put("residual", rest.residual),
        iterations=put("iterations", found.iterations[rows] + rest.iterations),
        evaluations=put("evaluations", found.evaluations[rows] + rest.evaluations),
        converged=put("converged", rest.converged),
        eta_L=put("eta_L", torch.fmax(found.eta_L[rows], rest.eta_L)),
        stage=put("stage", torch.full_like(rest.stage, 2)),
    )
