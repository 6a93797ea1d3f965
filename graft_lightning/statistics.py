"""The one mean with its interval, and what best-of-n would have given; plain Python and SciPy, no torch.

Intervals are 95 % intervals of Student's t. They are taken over whatever the values are independent over: conditions
where there are several, the samples of the condition where there is one, seeds where runs are compared. Scores of one
condition that are all 0 or 1 get Wilson's interval, which has a width even where all of them agree; so do those of
several conditions or seeds where Student's would have none (`over_means`). Where there is no interval, of a single
value say, its ends are NaN.

References:
    Wilson's interval: doi:10.1080/01621459.1927.10502953.
    The variance of a rank correlation: Fieller, Hartley and Pearson, doi:10.1093/biomet/44.3-4.470.
"""

import math
from collections.abc import Iterable, Sequence

Interval = dict[str, float]
"""``{mean, low, high, n}``: a mean with its 95 % interval over n independent values."""

UPPER = 0.975
"""The probability below the upper end of a 95 % interval."""


def interval(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval (Student's t) of independent values; the interval of a single value is NaN.

    Values that are not finite are left out.
    """
    finite = [value for value in values if math.isfinite(value)]
    count, mean = len(finite), finite_mean(finite)
    if count < 2:
        return without_interval(mean, count)
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in finite) / (count - 1) / count)
    half = student_quantile(count) * error
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": count}


def student_quantile(count: int) -> float:
    """How many standard errors of the mean of ``count`` values its 95 % interval reaches to each side; NaN below 2."""
    if count < 2:
        return math.nan
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, UPPER))


def wilson(values: Sequence[float]) -> Interval:
    """Mean and 95 % interval (Wilson) of independent values that are 0 or 1; the interval of a single value is NaN.

    Of values between 0 and 1 it is an upper bound, as if they were as far apart as such values can be.

    Values that are not finite are left out.
    """
    finite = [value for value in values if math.isfinite(value)]
    count, mean = len(finite), finite_mean(finite)
    if count < 2:
        return without_interval(mean, count)
    from scipy.special import ndtri

    z = float(ndtri(UPPER))
    centre = (mean + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * math.sqrt(mean * (1 - mean) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
    # what rounding leaves outside [0, mean] and [mean, 1] would be no interval of a share
    return {"mean": mean, "low": min(mean, max(0.0, centre - half)), "high": max(mean, min(1.0, centre + half)),
            "n": count}  # fmt: skip


def over_samples(values: Sequence[float]) -> Interval:
    """`wilson` of scores that are all 0 or 1, `interval` of others; ``n`` counts those that are finite."""
    return wilson(values) if _binary(values) else interval(values)


def over_conditions(table: Sequence[Sequence[float]]) -> Interval:
    """Mean over conditions of the mean score, with its interval from the spread between conditions.

    Of a single condition the interval is over its samples. Scores that are not finite are left out, and conditions of
    nothing else. Of scores of 0 and 1 it may be Wilson's, over conditions (`over_means`).

    Args:
        table: scores by condition and draw; rows may differ in length.

    Returns:
        The metric; ``n`` counts conditions, or the samples of the only one.
    """
    rows = [[score for score in row if math.isfinite(score)] for row in table]
    rows = [row for row in rows if row]
    if len(rows) == 1:
        return over_samples(rows[0])
    return over_means([finite_mean(row) for row in rows], rows)


def over_means(means: Sequence[float], scores: Iterable[Sequence[float]]) -> Interval:
    """`interval` of the means of conditions, or of seeds; of scores of 0 and 1 `wilson` where that would mislead.

    So it would where the means are 0 or 1 too, as those of single draws, and where they are all the same: a spread of 0
    would give an interval without a width. Wilson's then errs on the side of width, for no values in [0, 1] with mean p
    have a variance above p (1 - p).

    Args:
        means: one a condition, or a seed.
        scores: what they are means of.

    Returns:
        The metric; ``n`` counts the means that are finite.
    """
    as_one = _binary(means) or len({mean for mean in means if math.isfinite(mean)}) == 1
    return wilson(means) if as_one and all(map(_binary, scores)) else interval(means)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Spearman's rank correlation of pairs with a 95 % interval, by Fisher's transformation with variance 1.06/(n - 3).

    Pairs with a value that is not finite are left out. It is NaN where one side is always the same, and has no interval
    below 4 pairs, or where the ranks agree wholly.

    Args:
        first: one value a pair.
        second: the other.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if min(len({pair[side] for pair in pairs}) for side in (0, 1)) < 2:
        return without_interval(math.nan, len(pairs))
    from scipy.special import ndtri
    from scipy.stats import spearmanr

    found = float(spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)
    if len(pairs) < 4 or abs(found) > 1 - 1e-12:
        return without_interval(found, len(pairs))
    half = float(ndtri(UPPER)) * math.sqrt(1.06 / (len(pairs) - 3))
    low, high = (math.tanh(math.atanh(found) + side * half) for side in (-1, 1))
    return {"mean": found, "low": low, "high": high, "n": len(pairs)}


def without_interval(value: float, count: int = 1) -> Interval:
    """A value of which no interval is known: its ends are NaN.

    Args:
        value: the value.
        count: how many samples it is of.
    """
    return {"mean": value, "low": math.nan, "high": math.nan, "n": count}


def finite_mean(values: Sequence[float]) -> float:
    """The mean of the values that are finite; NaN if none is."""
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def _binary(values: Sequence[float]) -> bool:
    return all(value in (0, 1) for value in values if math.isfinite(value))


def best_of(rewards: Sequence[float], values: Sequence[float], n: int) -> float:
    """Expected ``values`` of the draw with the highest reward among n of these draws, taken without replacement.

    The unbiased estimate from M draws, over all subsets: of the rewards in ascending order, those from the i-th (from
    0) up to the j-th are equal; the highest is one of these with probability (C(j, n) - C(i, n)) / C(M, n). Ties are
    broken at random, whatever the values: each of the equal draws wins alike. A draw without a finite reward never
    wins; subsets of nothing else are left out.

    Args:
        rewards: of the M draws of one condition.
        values: what is averaged, the rewards themselves or a held-out metric; those that are not finite are left out.
        n: 1 is the plain mean.
    """
    tied: dict[float, list[float]] = {}
    for reward, value in zip(rewards, values, strict=True):
        if math.isfinite(reward):
            tied.setdefault(reward, []).append(value)
    reached = len(rewards) - sum(map(len, tied.values()))
    total, weighted = 0.0, 0.0
    subsets = math.comb(len(rewards), n)
    for reward in sorted(tied):
        block = tied[reward]
        wins = (math.comb(reached + len(block), n) - math.comb(reached, n)) / max(subsets, 1)
        reached += len(block)
        finite = [value for value in block if math.isfinite(value)]
        total += wins * len(finite) / len(block)
        weighted += wins * math.fsum(finite) / len(block)
    return weighted / total if total else math.nan
