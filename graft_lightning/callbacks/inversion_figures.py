"""Figures of an inversion: how its steps converged, and how far its noise is from N(0, I)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graft_lightning.callbacks.figures import ACCEPTED, BEFORE, REJECTED, new_figure
from graft_lightning.inversion.distance import distance_from_normal, norm_ratio
from graft_lightning.inversion.result import Inversion


def steps_figure(found: Inversion) -> Any:
    """Residual, iterations and the bound of eta L, step by step."""
    rows = found.by_step()
    t = [row["t"] for row in rows]
    figure, axes = new_figure(12, 3.6, columns=3)
    for axis, name in zip(axes, ("residual", "iterations", "eta_L"), strict=True):
        middle = "mean" if name == "iterations" else "median"
        axis.plot(t, [row[f"{name}_{middle}"] for row in rows], color=ACCEPTED, marker="o", ms=3, label=middle)
        axis.plot(t, [row[f"{name}_max"] for row in rows], color=REJECTED, marker="o", ms=3, label="max")
        axis.set(xlabel="t of the step", title=f"{name.replace('_', ' ')} of the inverse step")
        axis.legend(frameon=False)
    axes[0].set_yscale("log")
    axes[2].axhline(1, color=BEFORE, linewidth=1)
    return figure


def distance_figure(noises: Mapping[str, Tensor]) -> Any:
    """Norm and covariance spectrum of inverse noise against N(0, I).

    Args:
        noises: converged inverse noise ``(samples, *shape)`` by name, at most three.
    """
    figure, (left, right) = new_figure(columns=2)
    for colour, (name, noise) in zip((ACCEPTED, REJECTED, "#3566b0"), noises.items(), strict=False):
        distance = distance_from_normal(noise)
        ratios = norm_ratio(noise).tolist()
        left.hist(ratios, bins=40, density=True, histtype="step", color=colour, label=f"{name}: {distance.norm:.3f}")
        right.plot(range(1, len(distance.spectrum) + 1), distance.spectrum.tolist(), color=colour, label=name)
    d = next(iter(noises.values()))[0].numel()
    scale = (2 / d) ** 0.5
    grid = torch.linspace(max(0.0, 1 - 4 * scale), 1 + 4 * scale, 200, dtype=torch.float64)
    density = torch.distributions.Chi2(torch.tensor(float(d), dtype=torch.float64)).log_prob(grid * d).exp() * d
    left.plot(grid.tolist(), density.tolist(), color=BEFORE, linewidth=1, label="N(0, I)")
    left.set(xlabel="|z|² / d", title="Norm of the inverse noise")
    low, high = distance.edges
    right.axhspan(low, high, color=BEFORE, alpha=0.2, linewidth=0, label="N(0, I)")
    right.set(xlabel="direction", ylabel="variance", yscale="log", title="Spectrum of its covariance")
    for axis in (left, right):
        axis.legend(frameon=False)
    return figure
