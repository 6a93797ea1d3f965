"""What an inversion found, sample by sample and step by step."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Inversion:
    """A batch of inverted samples. Rows of the tables by step are the steps k = start_level + 1 .. K.

    Attributes:
        noise: the state at t = 1, ``(batch, *shape)``; NaN for samples that failed, unless `invert` was told to go on.
        start: the state at t_m from which the inversion began, ``(batch, *shape)``.
        converged: whether every step of the sample converged, bool ``(batch,)``.
        residual: relative root mean square of Eq. 8 ``(steps, batch)``; NaN where a failed sample was left out.
        iterations: int64 ``(steps, batch)``.
        evaluations: of the step's increment, int64 ``(steps, batch)``.
        eta_L: lower bound of each step's Lipschitz constant, from successive iterates ``(steps, batch)``; may be NaN.
        stage: which solver of a chain ended the sample's step, int64 ``(steps, batch)``; -1 where left out.
        levels: t_0 .. t_K.
        start_level: m.
    """

    noise: Tensor
    start: Tensor
    converged: Tensor
    residual: Tensor
    iterations: Tensor
    evaluations: Tensor
    eta_L: Tensor
    stage: Tensor
    levels: tuple[float, ...]
    start_level: int

    @property
    def share(self) -> float:
        """The share of samples that converged."""
        return self.converged.double().mean().item()

    @property
    def usable(self) -> Tensor:
        """The noise of the samples that converged ``(converged, *shape)``."""
        return self.noise[self.converged]

    def by_step(self) -> list[dict[str, float]]:
        """One row per step: t, median and largest residual, mean and largest iterations, median and largest eta_L."""
        rows = []
        for row in range(len(self.residual)):
            k = self.start_level + 1 + row
            in_play = self.stage[row] >= 0
            residual, iterations = self.residual[row][in_play], self.iterations[row][in_play].double()
            eta_L = self.eta_L[row][in_play & self.eta_L[row].isfinite()]
            rows.append(
                {
                    "k": k,
                    "t": self.levels[k],
                    "samples": int(in_play.sum()),
                    "residual_median": _median(residual),
                    "residual_max": _maximum(residual),
                    "iterations_mean": iterations.mean().item(),
                    "iterations_max": _maximum(iterations),
                    "evaluations_mean": self.evaluations[row][in_play].double().mean().item(),
                    "eta_L_median": _median(eta_L),
                    "eta_L_max": _maximum(eta_L),
                }
            )
        return rows


def _median(values: Tensor) -> float:
    return values.median().item() if values.numel() else float("nan")


def _maximum(values: Tensor) -> float:
    return values.max().item() if values.numel() else float("nan")


def concatenate(parts: list[Inversion]) -> Inversion:
    """Batches of one inversion joined.

    Raises:
        ValueError: if there are none, or they differ in their levels or in the start level.
    """
    settings = {(part.levels, part.start_level) for part in parts}
    if len(settings) != 1:
        raise ValueError(
            f"at least one inversion, all of the same (levels, start_level), can be joined; got {settings}"
        )
    by_sample = {name: torch.cat([getattr(part, name) for part in parts]) for name in ("noise", "start", "converged")}
    by_step = {
        name: torch.cat([getattr(part, name) for part in parts], dim=1)
        for name in ("residual", "iterations", "evaluations", "eta_L", "stage")
    }
    return Inversion(**by_sample, **by_step, levels=parts[0].levels, start_level=parts[0].start_level)
