"""Inversion of a flow's whole sampler: from data, or from data noised to a start level, to the noise (Eq. 8)."""

import torch
from torch import Tensor

from graft_lightning.inversion.automatic import Automatic
from graft_lightning.inversion.result import Inversion
from graft_lightning.inversion.solvers import Solution, Solver
from graft_lightning.inversion.steps import FlowSteps


@torch.no_grad()
def invert_state(
    flow: FlowSteps, start: Tensor, start_level: int = 0, solver: Solver | None = None, keep_going: bool = False
) -> Inversion:
    """The noise at t = 1 from a state at t_m, by solving Eq. 8 for k = m + 1 .. K.

    Args:
        flow: the sampler to invert.
        start: ``(batch, *shape)``.
        start_level: m.
        solver: of each step; `Automatic` by default.
        keep_going: carry on with the best iterate where a step failed, for diagnosis; the sample stays flagged.

    Raises:
        ValueError: if ``start_level`` is not in 0 .. K - 1.
    """
    _check(flow, start_level)
    solver = Automatic() if solver is None else solver
    x = start.clone()
    converged = torch.ones(len(x), dtype=torch.bool, device=x.device)
    rows: list[Solution] = []
    for k in range(start_level + 1, flow.steps + 1):
        in_play = torch.arange(len(x), device=x.device) if keep_going else converged.nonzero().squeeze(1)
        solution = solver.solve(lambda x_k, k=k: flow.increment(x_k, k), x[in_play])  # type: ignore[misc]
        x[in_play] = solution.x
        converged[in_play] &= solution.converged
        rows.append(_spread(solution, in_play, len(x)))
    if not keep_going:
        x[~converged] = torch.nan
    by_step = {
        name: torch.stack([getattr(row, name) for row in rows])
        for name in ("residual", "iterations", "evaluations", "eta_L", "stage")
    }
    return Inversion(x, start, converged, **by_step, levels=flow.levels, start_level=start_level)


def _check(flow: FlowSteps, start_level: int) -> None:
    if not 0 <= start_level < flow.steps:
        raise ValueError(f"start_level={start_level}; with {flow.steps} steps it lies between 0 and {flow.steps - 1}")


def _spread(solution: Solution, rows: Tensor, batch: int) -> Solution:
    """The solution of some samples among all of them, the others marked as left out."""

    def put(value: Tensor, missing: float) -> Tensor:
        return torch.full((batch, *value.shape[1:]), missing, dtype=value.dtype, device=value.device).index_copy(
            0, rows, value
        )

    return Solution(
        x=solution.x,
        residual=put(solution.residual, torch.nan),
        iterations=put(solution.iterations, 0),
        evaluations=put(solution.evaluations, 0),
        converged=put(solution.converged, False),
        eta_L=put(solution.eta_L, torch.nan),
        stage=put(solution.stage, -1),
    )
