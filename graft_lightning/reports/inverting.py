"""What finding the inverse noise of a frozen flow takes: evaluations of the flow, bytes of the pool."""

from collections.abc import Sequence
from dataclasses import dataclass

from graft_lightning.callbacks.invert import Invert
from graft_lightning.datamodules.inverse_noise import InverseNoise
from graft_lightning.inversion.anderson import Anderson
from graft_lightning.inversion.automatic import Automatic
from graft_lightning.inversion.differential import Linearised
from graft_lightning.inversion.newton_krylov import NewtonKrylov
from graft_lightning.inversion.noise_pool import TABLES
from graft_lightning.inversion.solvers import FixedPoint, Solver
from graft_lightning.types import SettingsError

ASSUMED = 8
"""Evaluations in which a step is inverted. Flows of digits took 8.1 with 5 steps, 7.6 with 10, 6.2 with 20, 4.3 with
100, all from the start level 1 and to float32's own rounding; the rougher number is the one to plan with."""

NEWTON = 10
"""Times as many of Newton-Krylov by itself (5 to 15 were seen)."""

INTEGERS = {"iterations", "evaluations", "stage"}
"""Those of the tables that are int64; the others are of the states' own float32."""


@dataclass(frozen=True)
class Inverting:
    """The cost of an inversion.

    Attributes:
        samples: data that are inverted.
        absent: why they cannot be counted, and stand for one; "" where they can.
        steps: inverse steps of each, K - m.
        stages: evaluations of the flow in as many forward steps: as many for Euler, up to twice as many for Heun.
        assumed: evaluations in which the solver ends a step, each of all its stages.
        most: the most that it may take; None where the solver has no bound that is known.
        row_bytes: of one sample in the pool, without its columns of integers: data and noise in float32, the tables of
            every step, whether it converged, and the round trip's error.
    """

    samples: int
    absent: str
    steps: int
    stages: int
    assumed: int
    most: int | None
    row_bytes: int

    @property
    def solving(self) -> int:
        """Samples through the flow until all are inverted, as assumed."""
        return self.samples * self.stages * self.assumed

    @property
    def checking(self) -> int:
        """Samples through the flow in the round trips back from the noise."""
        return self.samples * self.stages

    @property
    def calls(self) -> int:
        """Both together."""
        return self.solving + self.checking

    @property
    def calls_at_most(self) -> int | None:
        """Both together, where every step takes all that the solver may take."""
        return None if self.most is None else self.checking * (self.most + 1)


def inverting(visited: Sequence[tuple[float, int]], elements: int, data: InverseNoise, invert: Invert) -> Inverting:
    """Counts an inversion.

    Args:
        visited: level and evaluations of each of the flow's K steps, from the noise down.
        elements: numbers in one datum.
        data: says how many there are.
        invert: gives start level and solver.

    Raises:
        SettingsError: if the start level leaves no step, as in a run.
    """
    how = invert.inversion
    steps = len(visited) - how.start_level
    if steps < 1:
        raise SettingsError(f"invert.start_level={how.start_level}; of {len(visited)} steps none is left to invert")
    most = most_evaluations(how.solver, elements)
    assumed = ASSUMED * (NEWTON if isinstance(how.solver, NewtonKrylov) else 1)
    try:
        samples, absent = data.positions, ""
    except FileNotFoundError as error:
        samples, absent = 1, str(error)
    tables = sum(8 if name in INTEGERS else 4 for name in TABLES)
    return Inverting(
        samples,
        absent,
        steps,
        stages=sum(stages for _, stages in visited[:steps]),
        assumed=assumed if most is None else min(assumed, most),
        most=most,
        row_bytes=2 * 4 * elements + steps * tables + 1 + 4,
    )


def most_evaluations(solver: Solver, elements: int) -> int | None:
    """The most evaluations in which a solver ends one step of one sample; None for a solver of another kind.

    Args:
        solver: the solver.
        elements: of a sample; GMRES needs no more directions.
    """
    if isinstance(solver, Automatic):
        newton = most_evaluations(solver.newton, elements) if solver.newton else 0
        return solver.watched.max_iterations + (newton or 0)
    if isinstance(solver, NewtonKrylov):
        each = Linearised.SETUP_COST + min(solver.krylov, elements) + solver.halvings + 1
        return solver.max_iterations + (solver.max_iterations - 1) * each
    return solver.max_iterations if isinstance(solver, FixedPoint | Anderson) else None
