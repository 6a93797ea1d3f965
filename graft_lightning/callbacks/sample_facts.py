"""What alarms need to know of a sample, small enough to gather: content in short, key, whether it is blank."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor

from graft_lightning.domains.base.diversity import mean_pairwise_distance
from graft_lightning.rejection.reference import Reference

SKETCH = 256
"""Numbers that stand for a larger sample."""

BLANK = 0.01
"""Standard deviation of the values of a picture, at and below which it shows nothing (values lie in [0, 1])."""

SAME = 0.01
"""Two samples are the same if they differ by less than this share of their size."""


class Facts(NamedTuple):
    """One sample in short.

    Attributes:
        condition: what was asked for.
        draw: which draw of its condition.
        blank: whether it is a picture of one colour, or holds a value that is not finite.
        key: the reference's own key for equality; -1 where there is none.
        size: length of the sample about its own mean; 0 unless samples are tensors.
        sketch: ``(SKETCH,)`` or fewer numbers that keep distances between samples; None unless samples are tensors.
    """

    condition: str
    draw: int
    blank: bool
    key: int
    size: float
    sketch: Tensor | None


def facts_of(reference: Reference, samples: Any, conditions: Sequence[str], draws: Sequence[int]) -> list[Facts]:
    """The facts of a batch of decoded samples."""
    found = reference.keys(samples)
    keys = [-1] * len(conditions) if found is None else found.tolist()
    sketches: list[Tensor] | list[None] = [None] * len(conditions)
    empty, sizes = [False] * len(conditions), [0.0] * len(conditions)
    if isinstance(samples, Tensor):
        flat = samples.detach().float().flatten(1).nan_to_num()
        sketches, empty = list(sketch(samples)), blank(samples).tolist()
        sizes = (flat - flat.mean(1, keepdim=True)).norm(dim=1).tolist()
    return [Facts(*row) for row in zip(conditions, draws, empty, keys, sizes, sketches, strict=True)]


def blank(samples: Tensor) -> Tensor:
    """Which samples ``(batch, *shape)`` hold a value that is not finite or, of pictures, only one colour; ``(batch,)``.

    A picture of one colour is one whose every channel is constant.
    """
    flat = samples.detach().float().flatten(1)
    broken = ~flat.isfinite().all(1)
    if samples.ndim != 4:
        return broken
    spread = samples.detach().float().flatten(2).std(-1, correction=0).amax(1)
    return broken | (spread <= BLANK)


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
    size = torch.tensor([row.size for row in rows if row.sketch is not None])
    repeated = 0
    for i in range(1, len(stacked)):  # one row against those before it: memory grows with the number of samples only
        distance = (stacked[:i] - stacked[i]).norm(dim=1)
        repeated += bool((distance <= SAME * torch.maximum(size[:i], size[i])).any())
    return repeated / len(stacked)


def change(samples: Any, base: Any) -> float | None:
    """Distance of samples from the base's of the same seeds, as a share of the base's size about its mean.

    None where the two cannot be compared number by number.
    """
    one, other = _numbers(samples), _numbers(base)
    if one is None or other is None or one.shape != other.shape:
        return None
    return float((one - other).norm() / (other - other.mean()).norm().clamp_min(1e-12))


def _numbers(samples: Any) -> Tensor | None:
    """All numbers of a batch in a row."""
    if isinstance(samples, Tensor):
        return samples.detach().double().nan_to_num().flatten().cpu()
    if isinstance(samples, TensorDictBase):
        fields = [_numbers(value) for _, value in sorted(samples.items(), key=lambda item: str(item[0]))]
        return torch.cat([field for field in fields if field is not None])
    return None
