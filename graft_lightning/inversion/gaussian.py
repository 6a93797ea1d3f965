"""The corrector that costs nothing: a Gaussian with the mean and the covariance of the inverse noise.

It is the control beside every neural corrector, and its density is exact, so Eq. 9 is too.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Covariance = Literal["full", "diagonal", "low_rank"]


class GaussianCorrector(nn.Module):
    """N(mean, covariance), as a map of standard normal noise, with its exact log density.

    The covariance is ``U diag(variance) U^T + rest (I - U U^T)`` with r orthonormal directions U, r = d for a
    full one. The map is ``mean + covariance^(1/2) z`` with the symmetric root, the optimal transport from N(0, I): of
    all maps to this distribution it moves the noise least, so that a seed keeps its image.

    Args:
        mean: ``(*shape)``.
        directions: U ``(d, r)``, orthonormal columns, d the elements of a sample; None for the unit vectors (r = d).
        variance: along the directions ``(r,)``, positive.
        rest: variance across all other directions, positive; not looked at where r = d.

    Raises:
        ValueError: if shapes do not fit or a variance is not positive.
    """

    mean: Tensor
    directions: Tensor | None
    variance: Tensor
    rest: Tensor

    def __init__(self, mean: Tensor, directions: Tensor | None, variance: Tensor, rest: float = 1.0) -> None:
        super().__init__()
        d, r = mean.numel(), len(variance)
        wanted = (d, r) if directions is not None else (d, d)
        if (tuple(directions.shape) if directions is not None else (d, r)) != wanted:
            got = "None" if directions is None else str(tuple(directions.shape))
            raise ValueError(f"directions {got} do not fit a mean of {d} elements and {r} variances")
        if not ((variance > 0).all() and rest > 0):
            raise ValueError(f"variances must be positive; the smallest is {variance.min().item()}, rest={rest}")
        self.register_buffer("mean", mean)
        self.register_buffer("directions", directions)
        self.register_buffer("variance", variance)
        self.register_buffer("rest", torch.as_tensor(rest, dtype=variance.dtype))

    def _scaled(self, x: Tensor, power: float) -> Tensor:
        """``covariance^power x`` for rows x ``(batch, d)``."""
        if self.directions is None:
            return x * self.variance**power
        across = self.rest**power
        along = (x @ self.directions) * (self.variance**power - across)
        return across * x + along @ self.directions.T

    def forward(self, noise: Tensor) -> Tensor:
        """Corrected noise ``mean + covariance^(1/2) noise`` ``(batch, *shape)``."""
        return self.mean + self._scaled(noise.flatten(1), 0.5).reshape(noise.shape)

    def inverse(self, corrected: Tensor) -> Tensor:
        """The standard normal noise that `forward` maps to ``corrected``, ``(batch, *shape)``."""
        return self._scaled((corrected - self.mean).flatten(1), -0.5).reshape(corrected.shape)

    @property
    def log_determinant(self) -> Tensor:
        """Of the covariance."""
        others = self.mean.numel() - len(self.variance)
        return self.variance.log().sum() + others * self.rest.log()

    def log_density(self, x: Tensor) -> Tensor:
        """The log of N(x; mean, covariance) in nats ``(batch,)``."""
        squared = self.inverse(x).flatten(1).square().sum(1)
        return -0.5 * (squared + self.log_determinant + self.mean.numel() * math.log(2 * math.pi))

    def divergence(self) -> Tensor:
        """KL(N(mean, covariance) || N(0, I)) in nats: the average gain of Eq. 9, if this Gaussian is true."""
        d = self.mean.numel()
        trace = self.variance.sum() + (d - len(self.variance)) * self.rest
        return 0.5 * (trace + self.mean.square().sum() - d - self.log_determinant)

    @classmethod
    def fit(
        cls,
        noise: Tensor,
        covariance: Covariance = "full",
        rank: int | None = None,
        shrinkage: Literal["ledoit_wolf"] | float = 0.0,
    ) -> "GaussianCorrector":
        """The Gaussian of a sample of inverse noise; computed in float64, kept in the sample's dtype.

        Args:
            noise: ``(samples, *shape)``, converged samples only.
            covariance: "full"; "diagonal"; or "low_rank", the leading directions of the sample with one variance for
                all others, which never builds a d x d matrix.
            rank: directions kept by "low_rank"; None for all that the sample has.
            shrinkage: share of the covariance that is replaced by its mean variance times I, or "ledoit_wolf" for the
                share that this sample calls for.

        Raises:
            ValueError: if there are fewer than 2 samples, some are not finite, the covariance would be singular, or
                rank or shrinkage are out of range.
        """
        _check(noise, covariance, rank, shrinkage)
        x = noise.flatten(1).double()
        mean = x.mean(0)
        x = x - mean
        share = ledoit_wolf_shrinkage(x) if shrinkage == "ledoit_wolf" else float(shrinkage)
        average = x.square().mean()
        if covariance == "diagonal":
            distribution = _Law(None, x.square().mean(0), average)
        else:
            distribution = _spectrum(x, rank if covariance == "low_rank" else None)
        variance, rest = ((1 - share) * value + share * average for value in (distribution.variance, distribution.rest))
        d = mean.numel()
        lowest = min([variance.min().item()] + ([rest.item()] if len(variance) < d else []))
        if lowest <= 1e-10 * average.item():
            raise ValueError(
                f"the {covariance} covariance of {len(x)} samples in {d} dimensions with shrinkage={share:.3g} is "
                "singular; use shrinkage='ledoit_wolf', a lower rank, or more samples"
            )
        directions = None if distribution.directions is None else distribution.directions.to(noise)
        return cls(mean.reshape(noise.shape[1:]).to(noise), directions, variance.to(noise), max(rest.item(), lowest))


@dataclass(frozen=True)
class _Law:
    """Eigenvectors ``(d, r)`` or None for the unit vectors, their variances ``(r,)``, and that of all the others."""

    directions: Tensor | None
    variance: Tensor
    rest: Tensor


def _check(noise: Tensor, covariance: str, rank: int | None, shrinkage: str | float) -> None:
    if covariance not in ("full", "diagonal", "low_rank"):
        raise ValueError(f"covariance={covariance!r}; it is 'full', 'diagonal' or 'low_rank'")
    if len(noise) < 2:
        raise ValueError(f"{len(noise)} samples of inverse noise; a covariance takes at least 2")
    if not noise.isfinite().all():
        raise ValueError("some inverse noise is not finite: pass the samples that converged (Inversion.usable)")
    if rank is not None and (covariance != "low_rank" or not 1 <= rank <= noise[0].numel()):
        raise ValueError(f"rank={rank}, covariance={covariance!r}; only 'low_rank' has a rank, 1 to the dimension")
    if shrinkage != "ledoit_wolf" and not (isinstance(shrinkage, (int, float)) and 0 <= shrinkage <= 1):
        raise ValueError(f"shrinkage={shrinkage!r}; it is 'ledoit_wolf' or a share between 0 and 1")


def _spectrum(x: Tensor, rank: int | None) -> _Law:
    """The leading eigenpairs of the covariance of centred rows x, at most as many as the sample has."""
    samples, d = x.shape
    most = min(d, samples - 1)
    rank = most if rank is None else min(rank, most)
    _, singular, right = torch.linalg.svd(x, full_matrices=False)
    variance = singular.square() / samples
    # the maximum-likelihood variance of what is not kept: its mean (probabilistic PCA)
    rest = variance[rank:].sum() / max(d - rank, 1)
    return _Law(right[:rank].T.contiguous(), variance[:rank], rest)


def ledoit_wolf_shrinkage(centred: Tensor) -> float:
    """The share of ``mean variance x I`` that makes the shrunk covariance's expected squared error least.

    Kept by hand beside scikit-learn's, which costs samples x d^2: this takes the inner products of the samples or of
    the dimensions, whichever are fewer (500 samples in 12,288 dimensions: 0.2 s against 10 s).

    Args:
        centred: ``(samples, d)``, mean subtracted.

    References:
        O. Ledoit and M. Wolf, A well-conditioned estimator for large-dimensional covariance matrices, J. Multivariate
        Anal. 88, 2004.
    """
    samples, d = centred.shape
    gram = centred @ centred.T if samples < d else centred.T @ centred
    squared = gram.square().sum() / samples**2  # |S|^2
    average = centred.square().sum() / (samples * d)
    distance = squared / d - average**2
    fourth = centred.square().sum(1).square().sum()
    scatter = (fourth / samples - squared) / (samples * d)
    return (scatter.clamp(max=distance) / distance).item() if distance > 0 else 1.0
