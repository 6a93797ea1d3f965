"""What alarms need to know of a sample, small enough to gather: content in short, key, whether it is blank."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graft_lightning.domains.base.distances import features_of
from graft_lightning.domains.base.diversity import mean_pairwise_distance
from graft_lightning.rejection.codec import Codec

SKETCH = 256
"""Numbers that stand for a larger sample."""


class Facts(NamedTuple):
    """One sample in short.

    Attributes:
        condition: what was asked for.
        draw: which draw of its condition.
        blank: whether it shows nothing.
        key: the codec's own key for equality; -1 where there is none.
        tolerance: the distance within which another sample is the same.
        sketch: ``(SKETCH,)`` or fewer numbers that keep distances between samples; None where there are no numbers.
        sharpness: by the codec's own notion; NaN where it has none, or none for this sample.
        features: ``(d,)`` by the network that the evaluation names; None without one.
    """

    condition: str
    draw: int
    blank: bool
    key: int
    tolerance: float
    sketch: Tensor | None
    sharpness: float = math.nan
    features: Tensor | None = None


def facts_of(
    codec: Codec, samples: Any, conditions: Sequence[str], draws: Sequence[int], features: nn.Module | None = None
) -> list[Facts]:
    """The facts of a batch of decoded samples, by their codec's own notions of content and of showing nothing.

    Args:
        codec: of the samples.
        samples: as it decodes them.
        conditions: one a sample.
        draws: one a sample.
        features: samples -> ``(batch, d)``; none by default.
    """
    found, numbers, empty = codec.keys(samples), codec.numbers(samples), codec.degenerate(samples)
    measured = codec.sharpness(samples)
    sharp = [math.nan] * len(conditions) if measured is None else measured.tolist()
    seen: list[Any] = [None] * len(conditions)
    if features is not None:
        with torch.no_grad():
            seen = list(features_of(features, samples).cpu())
    keys = [-1] * len(conditions) if found is None else found.tolist()
    blank = [False] * len(conditions) if empty is None else empty.tolist()
    if numbers is None:
        nothing = [0.0] * len(conditions), [None] * len(conditions)
        columns: Any = (conditions, draws, blank, keys, *nothing, sharp, seen)
        return [Facts(*row) for row in zip(*columns, strict=True)]
    flat = numbers.detach().float().nan_to_num()
    tolerances = (flat - flat.mean(1, keepdim=True)).norm(dim=1) * codec.same_within
    columns = (conditions, draws, blank, keys, tolerances.tolist(), sketch(flat), sharp, seen)
    return [Facts(*row) for row in zip(*columns, strict=True)]


def sketch(samples: Tensor) -> Tensor:
    """Samples ``(batch, *shape)`` in at most `SKETCH` numbers each, on the CPU; squared distances stay, on average.

    Every value is added, with a random sign, to one of the numbers (a count sketch, doi:10.1016/S0304-3975(03)00400-6);
    what is small stays as it is.
    """
    flat = samples.detach().flatten(1).float().nan_to_num().cpu()
    if flat.shape[1] <= SKETCH:
        return flat
    bucket, sign = _buckets(flat.shape[1])
    return torch.zeros(len(flat), SKETCH).index_add_(1, bucket, flat * sign)


@lru_cache(maxsize=4)
def _buckets(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    return (
        torch.randint(SKETCH, (count,), generator=generator),
        torch.randint(2, (count,), generator=generator).float() * 2 - 1,
    )


def blank_share(rows: Sequence[Facts]) -> float:
    """Share of blank samples."""
    return sum(row.blank for row in rows) / len(rows)


def sharpness(rows: Sequence[Facts]) -> float | None:
    """Mean sharpness of the samples that have one; None where none has."""
    known = [row.sharpness for row in rows if math.isfinite(row.sharpness)]
    return sum(known) / len(known) if known else None


def diversity(rows: Sequence[Facts]) -> float | None:
    """Mean over conditions of the mean distance between two samples of one condition; None where it is not defined."""
    by_condition: dict[str, list[Tensor]] = {}
    for row in rows:
        if row.sketch is not None:
            by_condition.setdefault(row.condition, []).append(row.sketch)
    distances = [float(mean_pairwise_distance(torch.stack(group))) for group in by_condition.values() if len(group) > 1]
    return sum(distances) / len(distances) if distances else None


def duplicate_share(rows: Sequence[Facts]) -> float:
    """Share of samples that repeat another, whatever its condition: all but one of those that are the same.

    Equal by the reference's keys where it has them, else by content.
    """
    keys = [row.key for row in rows if row.key >= 0]
    if keys:
        return 1 - len(set(keys)) / len(keys)
    sketches = [row.sketch for row in rows if row.sketch is not None]
    if not sketches:
        return 0.0
    stacked = torch.stack(sketches)
    tolerance = torch.tensor([row.tolerance for row in rows if row.sketch is not None])
    repeated = 0
    for i in range(1, len(stacked)):  # one row against those before it: memory grows with the number of samples only
        distance = (stacked[:i] - stacked[i]).norm(dim=1)
        repeated += bool((distance <= torch.maximum(tolerance[:i], tolerance[i])).any())
    return repeated / len(stacked)


def change(codec: Codec, samples: Any, base: Any) -> float | None:
    """Distance of samples from the base's of the same seeds, as a share of the base's size about its mean.

    None where the two cannot be compared number by number.
    """
    one, other = codec.numbers(samples), codec.numbers(base)
    if one is None or other is None or one.shape != other.shape:
        return None
    one, other = (values.detach().double().nan_to_num().cpu() for values in (one, other))
    return float((one - other).norm() / (other - other.mean()).norm().clamp_min(1e-12))
