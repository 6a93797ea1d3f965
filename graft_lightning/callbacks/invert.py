"""Inversion: the callback that finds the noise of a frozen flow's training data, before a corrector is trained."""

import json
import logging
from pathlib import Path
from typing import Any

import lightning as L
import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.callbacks.evaluate import run_folder
from graft_lightning.callbacks.figures import log_figure
from graft_lightning.callbacks.inversion_figures import distance_figure, steps_figure
from graft_lightning.callbacks.ranks import ranks_of
from graft_lightning.datamodules.inverse_noise import InverseNoise
from graft_lightning.inversion.automatic import Automatic
from graft_lightning.inversion.distance import distance_from_normal
from graft_lightning.inversion.invert import invert_state
from graft_lightning.inversion.result import Inversion, concatenate
from graft_lightning.inversion.round_trip import from_data, summary
from graft_lightning.inversion.sampler_steps import SamplerSteps
from graft_lightning.inversion.solvers import Solver
from graft_lightning.inversion.start import start_state
from graft_lightning.modules.corrected import CorrectedFlow
from graft_lightning.processes.noise import trajectory_seeds
from graft_lightning.rejection.filling import fill_shards, open_for_filling
from graft_lightning.rejection.fingerprint import describe
from graft_lightning.rejection.pool import KeptLevel, Round, TrajectoryPool
from graft_lightning.types import SettingsError

log = logging.getLogger(__name__)
TABLES = ("residual", "iterations", "evaluations", "eta_L", "stage")
SHOWN = 4000
"""Samples of inverse noise that the spectrum is taken of, at most."""
GIGABYTE = 2**27
"""As numbers in float64, in which it is taken."""


class Invert(L.Callback):
    """Fills the pool with the inverse noise of the datamodule's examples (Eq. 8), as `Collect` fills it with samples.

    What is inverted is the flow's own sampler: its method, its K steps, its grid. A trajectory of the pool is a datum
    (``x_0``), its noise (the state of index K), and beside them, step by step, residual, iterations, evaluations and a
    bound of eta L, the error of the round trip, and whether all steps converged. A sample that did not is stored,
    counted, and never used.

    Args:
        start_level: m; the inversion begins at t_m from the data noised analytically. The first steps contract badly:
            m = 1 or 2 is what makes it work with few steps, and every statement is then about the law at t_m.
        perturbation: standard deviation of noise added to the data.
        solver: of each step; `Automatic` by default.
        batch_size: data inverted at a time, and stored together.
        double: invert in float64, by a copy of the flow; the noise is stored in float32 all the same. Slower by far on
            a GPU, and worth it where round trips through many steps are to be exact.
    """

    def __init__(
        self,
        start_level: int = 1,
        perturbation: float = 0.0,
        solver: Solver | None = None,
        batch_size: int = 256,
        double: bool = False,
    ) -> None:
        for name, value, least in (("start_level", start_level, 0), ("batch_size", batch_size, 1)):
            if value < least:
                raise ValueError(f"invert.{name}={value}; it must be at least {least}")
        if perturbation < 0:
            raise ValueError(f"invert.perturbation={perturbation}; it is a standard deviation, 0 or above")
        self.start_level, self.perturbation, self.batch_size = start_level, perturbation, batch_size
        self.solver, self.double = solver or Automatic(), double

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuses what cannot work, before anything is built."""
        if stage != "fit":
            return
        module, data = both(trainer, pl_module)
        steps = module.flow.sampler.steps
        if self.start_level >= steps:
            raise SettingsError(
                f"invert.start_level={self.start_level}; of {steps} steps it is one of 0 to {steps - 1}"
            )
        _ = data.positions

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Inverts what the pool lacks, and hands what converged to the datamodule."""
        module, data = both(trainer, pl_module)
        steps = module.flow_steps(self.double)
        ranks = ranks_of(trainer)
        with open_for_filling(ranks, lambda verify: self.open_round(module, data, verify)) as opened:
            made = fill_shards(
                opened, lambda start, stop: self._trajectories(module, data, steps, start, stop), "Inverting", ranks
            )
        converged = data.use(opened)
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            found = stored(opened, steps, self.start_level)
            record = self._record(opened, found, data, made)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "inverted.json").write_text(json.dumps(record, indent=1) + "\n")
            self._show(trainer, found, data, record, folder)
        log.info(
            "%d of %d samples converged (%.2f %%)", int(converged.sum()), len(converged), 100 * converged.float().mean()
        )

    def open_round(self, module: CorrectedFlow, data: InverseNoise, verify: bool) -> tuple[TrajectoryPool, Round]:
        """The pool of these settings and its round, made if absent.

        Raises:
            PoolMismatch: if the folder holds another pool; names each differing key.
        """
        made_of = {
            "flow": module.flow_fingerprint(),
            "examples": describe(data.examples),
            "examples_seed": data.examples_seed,
            "inversion": {
                "start_level": self.start_level,
                "perturbation": self.perturbation,
                "solver": describe(self.solver),
                "double": self.double,
            },
        }
        flow = module.flow
        level = KeptLevel(flow.process.t_max, float(flow.process.schedule.log_snr(torch.tensor(flow.process.t_max))))
        pool = TrajectoryPool.create(data.pool, made_of, data.seed, verify)
        opened = pool.start_round(
            0, [""], data.positions, {flow.sampler.steps: level}, self.batch_size, {"model": "inverse"}
        )
        return pool, opened

    def run(self, steps: SamplerSteps, x_0: Tensor, seeds: Tensor) -> Inversion:
        """The inverse noise of data ``(batch, *shape)``, by this callback's settings.

        Args:
            steps: of the flow.
            x_0: the data.
            seeds: of the noise at the start level, int64 ``(batch,)``.
        """
        x_0 = x_0.double() if self.double else x_0
        return concatenate(
            [
                invert_state(steps, start, self.start_level, self.solver)
                for start in start_state(x_0, steps.levels[self.start_level], seeds, self.perturbation).split(
                    self.batch_size
                )
            ]
        )

    def _trajectories(
        self, module: CorrectedFlow, data: InverseNoise, steps: SamplerSteps, start: int, stop: int
    ) -> TensorDict:
        positions = range(start, stop)
        x_0, texts = data.examples.batch(positions, data.examples_seed)
        assert isinstance(x_0, Tensor)
        seeds = trajectory_seeds(data.seed, 0, texts, positions)
        found = self.run(steps, x_0.to(module.device), seeds)
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

    def _record(self, opened: Round, found: Inversion, data: InverseNoise, made: int) -> dict[str, Any]:
        """Leaves what was found in the run's folder, for reports."""
        distance = distance_from_normal(shown(data))
        return {
            "steps": len(found.levels) - 1,
            "start_level": self.start_level,
            "solver": type(self.solver).__name__,
            "samples": len(found.converged),
            "newly_inverted": made,
            "converged": found.share,
            "evaluations_per_sample": found.evaluations.double().sum(0).mean().item(),
            "round_trip": summary(opened.column("round_trip")[0], found.converged),
            "norm": distance.norm,
            "norm_standard_error": distance.norm_standard_error,
            "outside_spectrum": distance.outside,
            "by_step": found.by_step(),
        }

    def _show(
        self, trainer: L.Trainer, found: Inversion, data: InverseNoise, record: dict[str, Any], folder: Path
    ) -> None:
        log_figure(trainer, "invert/steps", steps_figure(found), folder / "inverted_steps.png")
        log_figure(
            trainer, "invert/noise", distance_figure({"training data": shown(data)}), folder / "inverted_noise.png"
        )
        if trainer.logger is None:
            return
        figures = {f"invert/{name}": record[name] for name in ("converged", "evaluations_per_sample", "norm")}
        figures |= {f"invert/round_trip_{name}": record["round_trip"][name] for name in ("median", "max", "inexact")}
        for row in found.by_step():  # the step is the sampler's own k
            names = ("residual_median", "residual_max", "iterations_mean", "iterations_max", "eta_L_median")
            trainer.logger.log_metrics({f"invert_by_step/{n}": row[n] for n in names}, step=int(row["k"]))
        trainer.logger.log_metrics(figures, step=trainer.global_step)


def stored(opened: Round, steps: SamplerSteps, start_level: int) -> Inversion:
    """What a filled round knows of its inversion; the noise itself is left out."""
    nothing = torch.zeros(len(opened), 0)
    tables = {name: opened.column(name)[0].T for name in TABLES}
    converged = opened.column("converged")[0].bool()
    return Inversion(nothing, nothing, converged, **tables, levels=steps.levels, start_level=start_level)


def shown(data: InverseNoise) -> Tensor:
    """The inverse noise that figures are made of: `SHOWN` samples, fewer where a gigabyte holds fewer."""
    numbers = data.noise(1)[0].numel()
    return data.noise(max(2, min(SHOWN, GIGABYTE // numbers)))


def both(trainer: L.Trainer, module: Any) -> tuple[CorrectedFlow, InverseNoise]:
    """Module and datamodule of a run that corrects noise.

    Raises:
        SettingsError: if they are others.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    if not getattr(module, "inverts", False) or not isinstance(data, InverseNoise):
        raise SettingsError(
            f"the callback Invert is set, but model is {type(module).__name__} and data {type(data).__name__}; "
            "inverting needs NoiseCorrector or GaussianNoise, and InverseNoise"
        )
    return module, data
