"""How far inverse noise is from N(0, I): its norm, its mean, the spectrum of its covariance."""

from dataclasses import dataclass

import torch
from torch import Tensor


def norm_ratio(noise: Tensor) -> Tensor:
    """``|z|^2 / d`` ``(batch,)``: mean 1 and variance 2 / d under N(0, I)."""
    return noise.flatten(1).square().mean(1)


@dataclass(frozen=True)
class NoiseDistance:
    """A sample of inverse noise against N(0, I).

    Attributes:
        samples: N.
        dimension: d.
        norm: mean of ``|z|^2 / d``.
        norm_standard_error: of that mean, from the sample.
        norm_spread: standard deviation of ``|z|^2 / d`` over its value under N(0, I), sqrt(2 / d).
        mean_square: ``N |mean|^2 / d``, which is 1 on average under N(0, I).
        spectrum: eigenvalues of the covariance, largest first ``(min(N - 1, d),)``.
        edges: where the eigenvalues of N samples of N(0, I) lie, for large N and d (Marchenko-Pastur).
        outside: share of the eigenvalues beyond the edges by more than 5 % of the upper.
    """

    samples: int
    dimension: int
    norm: float
    norm_standard_error: float
    norm_spread: float
    mean_square: float
    spectrum: Tensor
    edges: tuple[float, float]
    outside: float


def distance_from_normal(noise: Tensor) -> NoiseDistance:
    """`NoiseDistance` of converged inverse noise ``(samples, *shape)``.

    Raises:
        ValueError: if there are fewer than 2 samples or some are not finite.
    """
    if len(noise) < 2 or not noise.isfinite().all():
        raise ValueError(f"{len(noise)} samples, all finite: {bool(noise.isfinite().all())}; 2 finite ones are needed")
    x = noise.flatten(1).double()
    samples, d = x.shape
    ratio = norm_ratio(x)
    mean = x.mean(0)
    spectrum = torch.linalg.svdvals(x - mean)[: min(samples - 1, d)].square() / (samples - 1)
    lower, upper = marchenko_pastur_edges(samples - 1, d)
    margin = 0.05 * upper
    return NoiseDistance(
        samples=samples,
        dimension=d,
        norm=ratio.mean().item(),
        norm_standard_error=(ratio.std() / samples**0.5).item(),
        norm_spread=(ratio.std() * (d / 2) ** 0.5).item(),
        mean_square=(samples * mean.square().mean()).item(),
        spectrum=spectrum,
        edges=(lower, upper),
        outside=((spectrum < lower - margin) | (spectrum > upper + margin)).double().mean().item(),
    )


def marchenko_pastur_edges(samples: int, dimension: int) -> tuple[float, float]:
    """The ends of the spectrum of a covariance of samples of N(0, I), zeros left out: ``(1 -+ sqrt(d / N))^2``."""
    root = (dimension / samples) ** 0.5
    return (1 - root) ** 2, (1 + root) ** 2


@dataclass(frozen=True)
class NormGap:
    """Held-out against training inverse noise; a base that memorises maps only its training data to N(0, I).

    Attributes:
        train: mean ``|z|^2 / d`` of the training data.
        held_out: the same of held-out data.
        z_score: their difference, held out less training, in standard errors.
    """

    train: float
    held_out: float
    z_score: float


def norm_gap(train: Tensor, held_out: Tensor) -> NormGap:
    """`NormGap` of converged inverse noise ``(samples, *shape)``, at least 2 of each."""
    a, b = norm_ratio(train).double(), norm_ratio(held_out).double()
    error = (a.var() / len(a) + b.var() / len(b)).sqrt()
    return NormGap(a.mean().item(), b.mean().item(), ((b.mean() - a.mean()) / error).item())
