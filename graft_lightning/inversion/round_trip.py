"""Round trips through an inversion, the proof that it inverted: a small residual alone does not certify the noise."""

from torch import Tensor

from graft_lightning.inversion.inverted_state import invert_state
from graft_lightning.inversion.result import Inversion
from graft_lightning.inversion.solvers import Solver, root_mean_square
from graft_lightning.inversion.steps import FlowSteps

EXACT = 1e-4
"""The relative error up to which a round trip counts as exact in float32."""


def relative_error(found: Tensor, true: Tensor) -> Tensor:
    """``|found - true| / |true|`` ``(batch,)``; NaN where ``found`` is."""
    return root_mean_square(found - true) / root_mean_square(true)


def from_data(flow: FlowSteps, inversion: Inversion) -> Tensor:
    """Data -> noise -> data: how far sampling from the inverse noise ends from the state that was inverted.

    Returns:
        Relative error at t_m, ``(batch,)``; NaN for samples that failed.
    """
    _agree(flow, inversion)
    return relative_error(flow.generate(inversion.noise, inversion.start_level), inversion.start)


def from_noise(
    flow: FlowSteps, noise: Tensor, start_level: int = 0, solver: Solver | None = None
) -> tuple[Tensor, Inversion]:
    """Noise -> data -> noise: how far inverting a sample ends from the noise that it was made of.

    Args:
        flow: the sampler.
        noise: ``(batch, *shape)`` at t = 1.
        start_level: m; the sampler stops, and the inversion starts, at t_m.
        solver: of each inverse step.

    Returns:
        Relative error at t = 1, ``(batch,)``, NaN for samples that failed, and the inversion.
    """
    inversion = invert_state(flow, flow.generate(noise, start_level), start_level, solver)
    return relative_error(inversion.noise, noise), inversion


def _agree(flow: FlowSteps, inversion: Inversion) -> None:
    if flow.levels != inversion.levels:
        raise ValueError(f"the flow's levels are {flow.levels}, those of the inversion {inversion.levels}")


def summary(error: Tensor, converged: Tensor) -> dict[str, float]:
    """Median and maximum of the relative errors of the samples that converged, and their share.

    ``inexact`` is the share of the converged whose error is above `EXACT`: steps that each converged may still add up.
    """
    kept = error[converged]
    nothing = float("nan")
    return {
        "median": kept.median().item() if kept.numel() else nothing,
        "max": kept.max().item() if kept.numel() else nothing,
        "inexact": (kept > EXACT).double().mean().item() if kept.numel() else nothing,
        "converged": converged.double().mean().item() if len(converged) else nothing,
        "samples": float(len(error)),
    }
