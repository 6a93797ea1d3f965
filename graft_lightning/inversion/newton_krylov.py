"""Newton's method whose linear systems are solved by GMRES, every sample its own system."""

import math

import torch
from torch import Tensor

from graft_lightning.inversion.differential import Function
from graft_lightning.inversion.solvers import History, Iteration, Problem, Progress, root_mean_square
from graft_lightning.ranges import Natural
from graft_lightning.types import broadcast


class NewtonKrylov(Iteration):
    """Newton's method on ``y + increment(x) - x = 0`` with a backtracking line search.

    Needs no contraction, only an invertible step, and costs about ``krylov`` evaluations an iteration.

    Args:
        tolerance: as for every solver.
        max_iterations: Newton iterations per sample, at most.
        krylov: dimension of GMRES's space; each costs one state of memory.
        forcing: GMRES stops at this share of the residual.
        halvings: of the Newton step, at most, until the residual falls.

    Raises:
        ValueError: if ``krylov`` is below 1, ``forcing`` not in (0, 1), or ``halvings`` negative.

    References:
        D. A. Knoll and D. E. Keyes, Jacobian-free Newton-Krylov methods, J. Comput. Phys. 193, 2004.
    """

    def __init__(
        self,
        tolerance: float | None = None,
        max_iterations: int = 20,
        krylov: int = 40,
        forcing: float = 1e-2,
        halvings: Natural = 6,
    ) -> None:
        super().__init__(tolerance, max_iterations)
        if krylov < 1:
            raise ValueError(f"krylov={krylov}; the space has at least 1 dimension")
        if not 0 < forcing < 1:
            raise ValueError(f"forcing={forcing}; it is a share of the residual, between 0 and 1")
        if halvings < 0:
            raise ValueError(f"halvings={halvings}; it is a count")
        self.krylov = krylov
        self.forcing = forcing
        self.halvings = halvings

    def propose(self, problem: Problem, history: History, progress: Progress) -> Tensor:
        x, r = history.x[-1], history.r[-1]
        newton = gmres(problem.derivative(x), r, self.krylov, self.forcing)
        return self._line_search(problem, x, newton, root_mean_square(r))

    def _line_search(self, problem: Problem, x: Tensor, newton: Tensor, before: Tensor) -> Tensor:
        """The longest of the halved steps that lowers the residual enough, else the best of them."""
        best, lowest = x, torch.full_like(before, torch.inf)
        searching = torch.ones_like(before, dtype=torch.bool)
        for halving in range(self.halvings + 1):
            length = 0.5**halving
            trial = x + length * newton
            after = torch.nan_to_num(root_mean_square(problem.residual(trial)), nan=torch.inf)
            better = searching & (after < lowest)
            best = torch.where(broadcast(better, x), trial, best)
            lowest = torch.where(better, after, lowest)
            searching &= after > (1 - 1e-4 * length) * before
            if not searching.any():
                break
        return best


def gmres(apply: Function, right: Tensor, dimension: int, forcing: float) -> Tensor:
    """The vector in the Krylov space that nearly solves ``apply(z) = right``, sample by sample.

    Args:
        apply: a linear map of ``(batch, *shape)``, block diagonal over the samples.
        right: ``(batch, *shape)``.
        dimension: of the space, at most.
        forcing: a sample is solved when its linear residual is below this share of ``right``.

    Returns:
        ``(batch, *shape)``.
    """
    dimension = min(dimension, math.prod(right.shape[1:]))
    size = torch.linalg.vector_norm(right.flatten(1), dim=1)
    tiny = torch.finfo(right.dtype).tiny
    basis = [right / broadcast(size.clamp_min(tiny), right)]
    hessenberg = torch.zeros(len(right), dimension + 1, dimension, dtype=torch.float64, device=right.device)
    weights = torch.zeros_like(hessenberg[:, 0])
    searching = torch.ones_like(size, dtype=torch.bool)
    for j in range(dimension):
        w = apply(basis[j])
        for _ in range(2):  # the second pass restores the orthogonality that rounding has cost
            for i, vector in enumerate(basis):
                product = (vector * w).flatten(1).sum(1)
                hessenberg[:, i, j] += product
                w = w - broadcast(product, w) * vector
        length = torch.linalg.vector_norm(w.flatten(1), dim=1)
        hessenberg[:, j + 1, j] = length
        # a vector of nothing but rounding means that the space is exhausted
        spent = length <= 10 * torch.finfo(w.dtype).eps * torch.linalg.vector_norm(hessenberg[:, : j + 2, j], dim=1)
        hessenberg[:, j + 1, j] = torch.where(spent, 0, hessenberg[:, j + 1, j])
        basis.append(torch.where(broadcast(spent, w), 0, w / broadcast(length.clamp_min(tiny), w)))
        found, residual = _minimise(hessenberg[:, : j + 2, : j + 1], size.double())
        # a sample that is solved keeps its weights, so that it does not depend on its company
        weights[:, : j + 1] = torch.where(searching.unsqueeze(1), found, weights[:, : j + 1])
        searching &= residual > forcing * size
        if not searching.any():
            break
    columns = torch.stack(basis[:-1], dim=1)
    weights = weights[:, : columns.shape[1]]
    return (broadcast(weights.to(right.dtype), columns) * columns).sum(1)


def _minimise(hessenberg: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """``argmin_w |size e_1 - H w|`` ``(batch, j)`` and the minimum ``(batch,)``."""
    target = torch.zeros_like(hessenberg[:, :, :1])
    target[:, 0, 0] = size
    weights = torch.linalg.pinv(hessenberg, rtol=1e-10) @ target
    return weights.squeeze(2), torch.linalg.vector_norm((target - hessenberg @ weights).squeeze(2), dim=1)
