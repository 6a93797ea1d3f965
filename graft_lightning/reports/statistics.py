"""Means, intervals, and what best-of-n would have given; plain Python, no torch."""

import math
from collections.abc import Sequence

# 97.5 % quantiles of Student's t for 1 .. 30 degrees of freedom.
STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

Figure = dict[str, float]
"""``{mean, low, high, n}``: a mean with its 95 % interval over n independent values."""


def interval(values: Sequence[float]) -> Figure:
    """Mean and 95 % interval (Student's t) of independent values, one a seed; the interval of a single value is NaN.

    Values that are NaN are left out.
    """
    finite = [value for value in values if math.isfinite(value)]
    count = len(finite)
    if not count:
        return {"mean": math.nan, "low": math.nan, "high": math.nan, "n": 0}
    mean = sum(finite) / count
    if count == 1:
        return {"mean": mean, "low": math.nan, "high": math.nan, "n": 1}
    spread = math.sqrt(sum((value - mean) ** 2 for value in finite) / (count - 1) / count)
    half = spread * (STUDENT[count - 2] if count - 2 < len(STUDENT) else 1.96)
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": count}


def finite_mean(values: Sequence[float]) -> float:
    """The mean of the values that are finite; NaN if none is."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def best_of(rewards: Sequence[float], values: Sequence[float], n: int) -> float:
    """Expected ``values`` of the draw with the highest reward among n of these draws, taken without replacement.

    The unbiased estimate from M draws: the i-th smallest reward (from 0) wins with probability C(i, n - 1) / C(M, n). A
    draw without a finite reward never wins; groups of nothing else are left out.

    Args:
        rewards: of the M draws of one condition.
        values: what is averaged, the rewards themselves or a judge's.
        n: 1 is the plain mean.
    """
    pairs = list(zip(rewards, values, strict=True))
    ordered = [value for _, value in sorted(pair for pair in pairs if math.isfinite(pair[0]))]
    unscored = len(pairs) - len(ordered)
    total = math.comb(len(pairs), n) - math.comb(unscored, n)
    if not total:
        return math.nan
    return sum(math.comb(unscored + i, n - 1) / total * value for i, value in enumerate(ordered))
