"""Measures of a corrected flow on held-out data: likelihood gain, round trips, distance of the noise from N(0, I)."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from graft_lightning.callbacks.figures import log_figure
from graft_lightning.callbacks.inversion_figures import distance_figure
from graft_lightning.callbacks.invert import Invert, both, shown
from graft_lightning.callbacks.measures import Measure
from graft_lightning.domains.base import Examples
from graft_lightning.durable import write_text
from graft_lightning.inversion.distance import norm_gap, norm_ratio
from graft_lightning.inversion.inverted_state import invert_state
from graft_lightning.inversion.likelihood import likelihood_gain
from graft_lightning.inversion.result import Inversion, concatenate
from graft_lightning.inversion.round_trip import from_data, from_noise, summary
from graft_lightning.inversion.sampler_steps import SamplerSteps
from graft_lightning.inversion.solvers import Solver
from graft_lightning.inversion.start import start_state
from graft_lightning.modules.corrected import CorrectedFlow, steps_of
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.processes.noise import Noise, hashed_seed, trajectory_seeds
from graft_lightning.processes.samplers import Sampler
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.runs import run_folder
from graft_lightning.statistics import Interval, interval, over_samples, without_interval
from graft_lightning.types import SettingsError

log = logging.getLogger(__name__)


class HeldOutNoise(Measure):
    """Inverts held-out data by the settings of the callback `Invert` and asks the corrector for their density.

    Figures: ``likelihood_gain`` (Eq. 9, bits per dimension, with its interval over the data: at the start level t_m of
    the inversion, where it is known; a likelihood of the data only for m = 0 on dequantised data), ``known_held_out``
    (share that converged and has a density), ``converged_held_out``, ``norm_held_out`` and ``norm_train`` (|z|^2 / d,
    1 under N(0, I)), ``norm_gap`` (their difference in standard errors: a base that memorises maps only its training
    data to N(0, I)), and the round trips data -> noise -> data and noise -> data -> noise: median, maximum, and which
    share is above 1e-4.

    Args:
        examples: held-out data.
        count: positions of their stream; all of them by default.
        noises: samples of the round trip from noise.
        likelihood: False leaves the likelihood gain out: for a neural corrector it takes Jacobians of d x d.
    """

    def __init__(
        self, examples: Examples, count: int | None = None, noises: int = 256, likelihood: bool = True
    ) -> None:
        self.examples, self.count, self.noises, self.likelihood = examples, count, noises, likelihood

    @torch.no_grad()
    def __call__(self, trainer: L.Trainer, module: SampledModule) -> dict[str, Interval]:
        corrected, data = both(trainer, module)
        invert = next((c for c in trainer.callbacks if isinstance(c, Invert)), None)  # type: ignore[attr-defined]
        if invert is None:
            raise SettingsError("evaluate.measures: HeldOutNoise needs the callback Invert, whose settings it uses")
        steps = corrected.flow_steps(invert.inversion.double)
        seed = hashed_seed("held-out noise", data.seed)
        x_0, seeds = _examples(self.examples, self.count, seed, corrected.device)
        found = invert.inversion.run(steps, x_0, seeds)
        metrics = (
            self._gain(corrected, invert, steps.levels[invert.inversion.start_level], found) if self.likelihood else {}
        )
        metrics["converged_held_out"] = over_samples(found.converged.double().tolist())
        data_trip = summary(from_data(steps, found), found.converged)
        error, back = self._from_noise(corrected, invert, steps, seed)
        for name, trip in (("data", data_trip), ("noise", summary(error, back.converged))):
            metrics |= {
                f"round_trip_{name}_{key}": without_interval(trip[key], len(x_0))
                for key in ("median", "max", "inexact")
            }
        metrics["converged_from_noise"] = over_samples(back.converged.double().tolist())
        return metrics | self._distance(trainer, module, found.usable)

    def _from_noise(
        self, corrected: CorrectedFlow, invert: Invert, steps: SamplerSteps, seed: int
    ) -> tuple[Tensor, Inversion]:
        noise = _noise(corrected, self.noises, seed)
        noise = noise.double() if invert.inversion.double else noise
        trips = [
            from_noise(steps, part, invert.inversion.start_level, invert.inversion.solver)
            for part in noise.split(invert.inversion.batch_size)
        ]
        return torch.cat([error for error, _ in trips]), concatenate([back for _, back in trips])

    @staticmethod
    def _gain(corrected: CorrectedFlow, invert: Invert, start: float, found: Inversion) -> dict[str, Interval]:
        density, known = corrected.log_density(found.noise.float())
        gain = likelihood_gain(density, found.noise, found.converged & known, start, invert.inversion.perturbation > 0)
        log.info("likelihood_gain is the %s", gain.claim)
        return {
            "likelihood_gain": interval(gain.gain.tolist()),
            "known_held_out": over_samples(gain.gain.isfinite().double().tolist()),
        }

    def _distance(self, trainer: L.Trainer, module: SampledModule, held_out: Tensor) -> dict[str, Interval]:
        """The noise of held-out data, and of training data where their pool is there, against N(0, I)."""
        if len(held_out) < 2:
            return {}
        _, data = both(trainer, module)
        metrics = {"norm_held_out": interval(norm_ratio(held_out).tolist())}
        noises = {"held-out data": held_out}
        if data.converged is None and trainer.is_global_zero and (Path(data.pool) / "round-0000").is_dir():
            pool = TrajectoryPool.open(data.pool, verify=False)
            data.use(pool.round(0, draws=min(data.positions, pool.round(0).draws)))
        if data.converged is not None:
            train = shown(data).to(held_out)
            gap = norm_gap(train, held_out)
            metrics["norm_train"] = interval(norm_ratio(train).tolist())
            metrics["norm_gap"] = without_interval(gap.z_score, len(held_out))
            noises = {"training data": train, **noises}
        folder = run_folder(trainer)
        file = folder / "held_out_noise.png" if trainer.is_global_zero and folder.is_dir() else None
        log_figure(trainer, "invert/held_out", distance_figure(noises), file)
        return metrics


class RoundTrips(Measure):
    """Round trips both ways for every sampler, start level and solver; ``round_trips.json`` in the run's folder.

    Args:
        examples: the data.
        samplers: whose steps are inverted.
        start_levels: m, each where the sampler has more steps.
        solvers: of the inverse step.
        count: of data, and of noises.
    """

    def __init__(
        self,
        examples: Examples,
        samplers: list[Sampler],
        solvers: list[Solver],
        start_levels: Sequence[int] = (0, 1, 2),
        count: int = 256,
    ) -> None:
        self.examples, self.samplers, self.solvers = examples, samplers, solvers
        self.start_levels, self.count = list(start_levels), count

    @torch.no_grad()
    def __call__(self, trainer: L.Trainer, module: SampledModule) -> dict[str, Interval]:
        folder = run_folder(trainer)
        rows = [
            self._row(module, sampler, level, solver)
            for sampler in self.samplers
            for level in self.start_levels
            if level < sampler.steps
            for solver in self.solvers
        ]
        if trainer.is_global_zero:
            write_text(folder / "round_trips.json", json.dumps(rows, indent=1) + "\n")
        return {}

    def _row(self, module: SampledModule, sampler: Sampler, level: int, solver: Solver) -> dict[str, Any]:
        steps = _with_sampler(module, sampler)
        x_0, seeds = _examples(self.examples, self.count, 0, module.device)
        found = invert_state(steps, start_state(x_0, steps.levels[level], seeds), level, solver)
        there = summary(from_data(steps, found), found.converged)
        error, back = from_noise(steps, _noise(module, self.count, 0), level, solver)
        again = summary(error, back.converged)
        ratios = norm_ratio(found.usable)
        return {
            "sampler": type(sampler).__name__,
            "steps": sampler.steps,
            "start_level": level,
            "solver": _name(solver),
            "converged": found.share,
            "data_median": there["median"],
            "data_max": there["max"],
            "converged_from_noise": back.share,
            "noise_median": again["median"],
            "noise_max": again["max"],
            "evaluations": found.evaluations.double().sum(0).mean().item(),
            "norm": ratios.mean().item() if len(ratios) else float("nan"),
            "eta_L_max": float(found.eta_L.nan_to_num(nan=0.0).max()),
        }


def _examples(examples: Examples, count: int | None, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first ``count`` data, and seeds of their own."""
    count = len(examples) if count is None else count  # type: ignore[arg-type]
    x_0, texts = examples.batch(range(count), 0)
    assert isinstance(x_0, Tensor)
    return x_0.to(device), trajectory_seeds(seed, 0, texts, range(count))


def _noise(module: SampledModule, count: int, seed: int) -> Tensor:
    """Standard normal noise in the shape of the flow's states."""
    seeds = trajectory_seeds(hashed_seed("round trip", seed), 0, [""] * count, range(count))
    return Noise(seeds, module.device).normal(*module.decoder.shape([""]))


def _with_sampler(module: Any, sampler: Sampler) -> SamplerSteps:
    """The steps of another sampler on the module's flow.

    Raises:
        SettingsError: if the module has no network.
    """
    if not module.stages():
        name = type(module).__name__
        raise SettingsError(f"evaluate.measures: RoundTrips needs a network to invert, and {name} has none")
    network = module.flow_network if module.inverts else module.opened().original
    return steps_of(module.decoder, network, "model.reference", sampler)


def _name(solver: Solver) -> str:
    damping = getattr(solver, "damping", 1.0)
    return type(solver).__name__ + ("" if damping == 1 else f" (damping {damping:g})")
