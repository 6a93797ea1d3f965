"""The inverse noise of a data set, in a pool on disk: what a run, a command or a notebook has filled (Eq. 8)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.identity import describe
from graft_lightning.inversion.automatic import Automatic
from graft_lightning.inversion.inverted_state import invert_state
from graft_lightning.inversion.result import Inversion, concatenate
from graft_lightning.inversion.round_trip import from_data
from graft_lightning.inversion.sampler_steps import SamplerSteps
from graft_lightning.inversion.solvers import Solver
from graft_lightning.inversion.start import start_state
from graft_lightning.processes.noise import trajectory_seeds
from graft_lightning.ranges import Natural
from graft_lightning.rejection.collection import Filled
from graft_lightning.rejection.filling import fill_shards, open_for_filling
from graft_lightning.rejection.pool import KeptLevel, Round, Shard, TrajectoryPool
from graft_lightning.rejection.ranks import ALONE, Ranks

TABLES = ("residual", "iterations", "evaluations", "eta_L", "stage")
"""What is stored of every inverse step."""

Read = Callable[[Sequence[int]], tuple[Any, list[str]]]
"""Positions of the data -> x_0 ``(batch, *shape)`` and their conditions."""


class NoiseInversion:
    """How data are inverted through a flow's own sampler: its method, its K steps, its grid.

    A trajectory of the pool is a datum (``x_0``), its noise (the state of index K), and beside them, step by step,
    residual, iterations, evaluations and a bound of eta L, the error of the round trip, and whether all steps
    converged. A sample that did not is stored, counted, and never used.

    Args:
        start_level: m; the inversion begins at t_m from the data noised analytically.
        perturbation: standard deviation of noise added to the data.
        solver: of each step; `Automatic` by default.
        batch_size: data inverted at a time, and stored together.
        double: invert in float64; ``steps`` must then be those of a network in float64.
    """

    def __init__(
        self,
        start_level: Natural = 1,
        perturbation: float = 0.0,
        solver: Solver | None = None,
        batch_size: int = 256,
        double: bool = False,
    ) -> None:
        self.start_level, self.perturbation, self.batch_size = start_level, perturbation, batch_size
        self.solver, self.double = solver or Automatic(), double

    def run(self, steps: SamplerSteps, x_0: Tensor, seeds: Tensor) -> Inversion:
        """The inverse noise of data ``(batch, *shape)``.

        Args:
            steps: of the flow.
            x_0: the data.
            seeds: of the noise at the start level, int64 ``(batch,)``.
        """
        x_0 = x_0.double() if self.double else x_0
        start = start_state(x_0, steps.levels[self.start_level], seeds, self.perturbation)
        return concatenate(
            [invert_state(steps, part, self.start_level, self.solver) for part in start.split(self.batch_size)]
        )

    def open(
        self, folder: Path | str, steps: SamplerSteps, count: int, made_of: Mapping[str, Any], seed: int, verify: bool
    ) -> tuple[TrajectoryPool, Round]:
        """The pool of these settings and its round, made if absent; arguments as in `fill`.

        Raises:
            PoolMismatch: if the folder holds another pool; names each differing key.
        """
        settings = {
            "start_level": self.start_level,
            "perturbation": self.perturbation,
            "solver": describe(self.solver),
            "double": self.double,
        }
        top = steps.process.t_max
        level = KeptLevel(top, float(steps.process.schedule.log_snr(torch.tensor(top))))
        pool = TrajectoryPool.create(folder, {**made_of, "inversion": settings}, seed, verify)
        return pool, pool.start_round(0, [""], count, {steps.steps: level}, self.batch_size, {"model": "inverse"})

    def fill(
        self,
        folder: Path | str,
        steps: SamplerSteps,
        read: Read,
        count: int,
        made_of: Mapping[str, Any],
        seed: int = 0,
        device: torch.device | str = "cpu",
        ranks: Ranks = ALONE,
    ) -> Filled:
        """Inverts what a pool lacks. Collective.

        Args:
            folder: of the pool; made if absent.
            steps: of the flow's sampler.
            read: gives the data at positions ``0 .. count - 1``.
            count: how many positions are inverted; more than before adds the others, fewer use a part of what is there.
            made_of: what identifies flow and data, so that no other pool is taken for theirs.
            seed: of the run; with the position it makes the seed of the noise at the start level.
            device: where the flow is.
            ranks: the processes that share the work.
        """
        with open_for_filling(ranks, lambda verify: self.open(folder, steps, count, made_of, seed, verify)) as opened:

            def make(shard: Shard) -> TensorDict:
                return self._trajectories(steps, read, opened.pairs(shard)[1], seed, device)

            return Filled(opened, fill_shards(opened, make, "Inverting", ranks))

    def stored(self, opened: Round, steps: SamplerSteps) -> Inversion:
        """What a filled round knows of its inversion; the noise itself is left out."""
        nothing = torch.zeros(len(opened), 0)
        tables = {name: opened.column(name)[0].T for name in TABLES}
        converged = opened.column("converged")[0].bool()
        return Inversion(nothing, nothing, converged, **tables, levels=steps.levels, start_level=self.start_level)

    def _trajectories(
        self, steps: SamplerSteps, read: Read, positions: list[int], seed: int, device: Any
    ) -> TensorDict:
        x_0, _ = read(positions)
        if not isinstance(x_0, Tensor):
            raise TypeError(f"the data are {type(x_0).__name__}; only states of one field, tensors, can be inverted")
        seeds = trajectory_seeds(seed, 0, [""] * len(positions), positions)  # a pool of noise has one condition
        found = self.run(steps, x_0.to(device), seeds)
        tables = {name: getattr(found, name).T.contiguous().cpu() for name in TABLES}
        values: dict[str, Any] = {n: v.float() if v.is_floating_point() else v for n, v in tables.items()}
        values |= {
            "seed": seeds,
            "x_0": x_0,
            "states": TensorDict({str(steps.steps): found.noise.float().cpu()}, batch_size=[len(x_0)]),
            "converged": found.converged.cpu(),
            "round_trip": from_data(steps, found).float().cpu(),
        }
        return TensorDict(values, batch_size=[len(x_0)])
