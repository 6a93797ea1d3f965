"""The cost of an inversion: bounds that no solver exceeds, and bytes that a pool takes."""

import pytest
import torch

from graft_lightning.callbacks.invert import Invert
from graft_lightning.datamodules import InverseNoise
from graft_lightning.domains.digits import DigitFlow, RealDigits
from graft_lightning.inversion.anderson import Anderson
from graft_lightning.inversion.automatic import Automatic
from graft_lightning.inversion.newton_krylov import NewtonKrylov
from graft_lightning.inversion.solvers import FixedPoint, Solver
from graft_lightning.processes.samplers import Euler, Heun
from graft_lightning.reports.costs import visited
from graft_lightning.reports.inverting import inverting, most_evaluations
from graft_lightning.types import SettingsError

SOLVERS = [
    (FixedPoint(max_iterations=7), 7),
    (Anderson(max_iterations=9), 9),
    (NewtonKrylov(max_iterations=3, krylov=2, halvings=2), 3 + 2 * (3 + 2 + 3)),
    (NewtonKrylov(max_iterations=3, krylov=40, halvings=2), 3 + 2 * (3 + 4 + 3)),  # a sample has 4 elements
    (Automatic(max_iterations=11, newton_iterations=0), 11),
    (Automatic(max_iterations=11, newton_iterations=2, krylov=2), 11 + 2 + (3 + 2 + 7)),
]


@pytest.mark.parametrize(("solver", "most"), SOLVERS)
def test_no_solver_takes_more_than_its_limit(solver, most):
    assert most_evaluations(solver, 4) == most
    y = torch.linspace(-3, 3, 80).reshape(20, 4)
    taken = solver.solve(lambda x: 5 * torch.sin(3 * x), y).evaluations  # far from a contraction
    assert taken.max() <= most


def test_of_a_solver_of_another_kind_no_limit_is_known():
    class Other(Solver):
        def solve(self, increment, y, initial=None):
            raise NotImplementedError

    assert most_evaluations(Other(), 4) is None
    cost = counted(Euler(steps=4), Invert(solver=Other()))
    assert (cost.most, cost.calls_at_most, cost.assumed) == (None, None, 8)


def counted(sampler, invert, count=100):
    flow = DigitFlow(sampler=sampler)
    return inverting(visited(flow), 64, InverseNoise(RealDigits(), pool="nowhere", count=count), invert)


@pytest.mark.parametrize(
    ("sampler", "start_level", "steps", "stages"),
    [(Euler(steps=10), 1, 9, 9), (Euler(steps=10), 0, 10, 10), (Heun(steps=4), 1, 3, 6), (Heun(steps=4), 0, 4, 7)],
    ids=["Euler", "Euler from the data", "Heun", "Heun from the data"],
)
def test_steps_and_evaluations(sampler, start_level, steps, stages):
    cost = counted(sampler, Invert(start_level=start_level))
    assert (cost.samples, cost.steps, cost.stages) == (100, steps, stages)
    assert (cost.solving, cost.checking, cost.calls) == (800 * stages, 100 * stages, 900 * stages)
    # 100 of Anderson, then 20 residuals and 19 directions of Newton: 3 to set up, 40 products, 7 in the line search
    assert cost.calls_at_most == 100 * stages * (100 + 20 + 19 * (3 + 40 + 7) + 1)
    # data and noise; residual, eta L (float32), iterations, evaluations, stage (int64); converged, round trip
    assert cost.row_bytes == 2 * 4 * 64 + steps * (2 * 4 + 3 * 8) + 1 + 4


def test_the_assumption_stays_below_the_limit_and_knows_newton():
    assert counted(Euler(steps=4), Invert(solver=FixedPoint(max_iterations=5))).assumed == 5
    assert counted(Euler(steps=4), Invert(solver=NewtonKrylov())).assumed == 80


def test_data_that_are_absent_count_as_one():
    class Absent(RealDigits):
        def __len__(self):
            raise FileNotFoundError("data/digits is not there")

    flow = DigitFlow(sampler=Euler(steps=4))
    cost = inverting(visited(flow), 64, InverseNoise(Absent(), pool="nowhere"), Invert())
    assert (cost.samples, cost.absent) == (1, "data/digits is not there")


def test_a_start_level_without_steps_is_refused():
    with pytest.raises(SettingsError, match=r"invert\.start_level=4; of 4 steps"):
        counted(Euler(steps=4), Invert(start_level=4))
