"""Inversion: the callback that finds the noise of a frozen flow's training data, before a corrector is trained."""

import json
import logging
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from graft_lightning.callbacks.figures import log_figure
from graft_lightning.callbacks.inversion_figures import distance_figure, steps_figure
from graft_lightning.callbacks.loggers import log_curves
from graft_lightning.callbacks.ranks import ranks_of, sum_of_all
from graft_lightning.datamodules.inverse_noise import InverseNoise
from graft_lightning.durable import write_text
from graft_lightning.identity import describe
from graft_lightning.inversion.distance import distance_from_normal
from graft_lightning.inversion.noise_pool import NoiseInversion
from graft_lightning.inversion.result import Inversion
from graft_lightning.inversion.round_trip import summary
from graft_lightning.inversion.solvers import Solver
from graft_lightning.modules.corrected import CorrectedFlow
from graft_lightning.ranges import Natural
from graft_lightning.rejection.pool import Round
from graft_lightning.runs import run_folder
from graft_lightning.types import SettingsError

log = logging.getLogger(__name__)
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
            m = 1 or 2 is what makes it work with few steps, and every statement is then about the distribution at t_m.
        perturbation: standard deviation of noise added to the data.
        solver: of each step; `Automatic` by default.
        batch_size: data inverted at a time, and stored together.
        double: invert in float64, by a copy of the flow; the noise is stored in float32 all the same. Slower by far on
            a GPU, and worth it where round trips through many steps are to be exact.
    """

    def __init__(
        self,
        start_level: Natural = 1,
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
        self.inversion = NoiseInversion(start_level, perturbation, solver, batch_size, double)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuses what cannot work, before anything is built."""
        if stage != "fit":
            return
        module, data = both(trainer, pl_module)
        steps = module.flow.sampler.steps
        if self.inversion.start_level >= steps:
            raise SettingsError(
                f"invert.start_level={self.inversion.start_level}; of {steps} steps it is one of 0 to {steps - 1}"
            )
        _ = data.positions

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Inverts what the pool lacks, and hands what converged to the datamodule."""
        module, data = both(trainer, pl_module)
        inversion = self.inversion
        steps = module.flow_steps(inversion.double)
        filled = inversion.fill(
            data.pool,
            steps,
            lambda positions: data.examples.batch(positions, data.examples_seed),
            data.positions,
            {
                "flow": module.flow_fingerprint(),
                "examples": describe(data.examples),
                "examples_seed": data.examples_seed,
            },
            data.seed,
            module.device,
            ranks_of(trainer),
        )
        opened, made = filled.round, int(sum_of_all(filled.drawn))
        converged = data.use(opened)
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            found = inversion.stored(opened, steps)
            record = self._record(opened, found, data, made)
            write_text(folder / "inverted.json", json.dumps(record, indent=1) + "\n")
            self._show(trainer, found, data, record, folder)
        log.info(
            "%d of %d samples converged (%.2f %%)", int(converged.sum()), len(converged), 100 * converged.float().mean()
        )

    def _record(self, opened: Round, found: Inversion, data: InverseNoise, made: int) -> dict[str, Any]:
        """Leaves what was found in the run's folder, for reports."""
        distance = distance_from_normal(shown(data))
        return {
            "steps": len(found.levels) - 1,
            "start_level": self.inversion.start_level,
            "solver": type(self.inversion.solver).__name__,
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
        metrics = {f"invert/{name}": record[name] for name in ("converged", "evaluations_per_sample", "norm")}
        metrics |= {f"invert/round_trip_{name}": record["round_trip"][name] for name in ("median", "max", "inexact")}
        for row in found.by_step():  # the step is the sampler's own k
            names = ("residual_median", "residual_max", "iterations_mean", "iterations_max", "eta_L_median")
            log_curves(trainer, {f"invert_by_step/{n}": row[n] for n in names}, int(row["k"]))
        log_curves(trainer, metrics, trainer.global_step)


def shown(data: InverseNoise) -> Tensor:
    """The inverse noise that metrics are made of: `SHOWN` samples, fewer where a gigabyte holds fewer."""
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
