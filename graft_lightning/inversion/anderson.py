"""Anderson acceleration of the fixed-point iteration, with one small least-squares problem per sample."""

import torch
from torch import Tensor

from graft_lightning.inversion.solvers import History, Iteration, Problem, Progress
from graft_lightning.types import broadcast


class Anderson(Iteration):
    """Type-II Anderson acceleration: the combination of the last iterates whose residuals nearly cancel.

    On a linear problem it is GMRES in disguise, so it converges where plain iteration cycles or diverges, at one
    evaluation an iteration. Where a residual has grown, its sample's history is forgotten.

    Args:
        tolerance: as for every solver.
        max_iterations: as for every solver.
        depth: earlier iterates that are combined; each costs two states of memory.
        damping: share of the combined residual that is added.
        growth: a sample whose residual grows by more than this factor in one iteration starts afresh.

    Raises:
        ValueError: if ``depth`` is below 1, ``damping`` not in (0, 1], or ``growth`` not above 1.

    References:
        D. G. Anderson, Iterative procedures for nonlinear integral equations, J. ACM 12, 1965.
        H. F. Walker and P. Ni, Anderson acceleration for fixed-point iterations, SIAM J. Numer. Anal. 49, 2011.
    """

    def __init__(
        self,
        tolerance: float | None = None,
        max_iterations: int = 100,
        depth: int = 5,
        damping: float = 1.0,
        growth: float = 10.0,
    ) -> None:
        super().__init__(tolerance, max_iterations)
        if depth < 1:
            raise ValueError(f"depth={depth}; at least 1 earlier iterate is combined")
        if not 0 < damping <= 1:
            raise ValueError(f"damping={damping}; it lies in (0, 1]")
        if not growth > 1:
            raise ValueError(f"growth={growth}; the factor that counts as growth is above 1")
        self.depth = depth
        self.damping = damping
        self.growth = growth

    def propose(self, problem: Problem, history: History, progress: Progress) -> Tensor:
        x, r = history.x[-1], history.r[-1]
        if len(history.x) < 2:
            return x + self.damping * r
        delta_r = torch.stack([b - a for a, b in zip(history.r[:-1], history.r[1:], strict=True)], dim=1)
        delta_r *= broadcast(self._remembered(history).to(r.dtype), delta_r)
        weights = least_squares(delta_r.flatten(2), r.flatten(1))
        delta_x = torch.stack([b - a for a, b in zip(history.x[:-1], history.x[1:], strict=True)], dim=1)
        correction = (broadcast(weights, delta_x) * (delta_x + self.damping * delta_r)).sum(1)
        return x + self.damping * r - correction

    def _remembered(self, history: History) -> Tensor:
        """Which differences lie after the last growth of their sample's residual, bool ``(open, differences)``."""
        norm = torch.stack(history.norm, dim=1)
        grew = norm[:, 1:] > self.growth * norm[:, :-1]
        return grew.flip(1).cumsum(1).flip(1) == 0


def least_squares(columns: Tensor, target: Tensor) -> Tensor:
    """Weights w that minimise ``|target - sum_j w_j columns_j|``, 0 for columns that vanish.

    Args:
        columns: ``(batch, p, d)``.
        target: ``(batch, d)``.

    Returns:
        ``(batch, p)``.
    """
    length = torch.linalg.vector_norm(columns, dim=2)
    unit = columns / length.clamp_min(torch.finfo(columns.dtype).tiny).unsqueeze(2)
    gram = (unit @ unit.mT).double()
    # nearly parallel columns are settled by a ridge at the level where the products themselves are rounded
    ridge = 10 * torch.finfo(columns.dtype).eps * torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype)
    right = (unit @ target.unsqueeze(2)).double()
    weights = torch.linalg.solve(gram + ridge, right).squeeze(2).to(columns.dtype)
    return torch.where(length > 0, weights / length, torch.zeros_like(weights))
