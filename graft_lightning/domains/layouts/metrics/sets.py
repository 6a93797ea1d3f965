"""Metrics of all layouts at once: likeness to real ones, distributions, diversity, repetitions.

All keep the same states, so that a `MetricCollection` updates one of them for all.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from graft_lightning.domains.layouts.deduplication import NOTHING, layout_keys
from graft_lightning.domains.layouts.examples import LayoutExamples
from graft_lightning.domains.layouts.layout import Layout, padded
from graft_lightning.domains.layouts.metrics import distributions, matching
from graft_lightning.domains.layouts.metrics.geometry import Batch
from graft_lightning.types import MASK, SettingsError

ASSIGNED = 1000
"""Real layouts among which assignments are sought by default; the time grows with the product of both numbers."""

COMPARED = 10_000
"""Real layouts whose distributions are compared with by default."""


class OfLayouts(Metric):
    """A metric that looks at all layouts; those with a box that is not finite are left out."""

    higher_is_better: bool | None = None
    is_differentiable = False
    full_state_update = False
    rows: list[Tensor]
    counts: list[Tensor]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("counts", default=[], dist_reduce_fx="cat")

    def update(self, samples: Batch, conditions: Sequence[str] | None = None) -> None:
        """Adds a batch of layouts; what was asked for does not matter."""
        mask = samples[MASK].bool()
        finite = (samples["box"].isfinite().all(-1) | ~mask).all(-1)
        mask = mask[finite]
        rows = torch.cat([samples["label"][finite].double()[..., None], samples["box"][finite].double()], -1)
        self.rows.append(rows[mask].to(self.device))
        self.counts.append(mask.sum(1).to(self.device))

    def layouts(self) -> list[Layout]:
        """All layouts that were added, those without an element among them."""
        if not len(self.counts):
            return []
        rows, counts = dim_zero_cat(self.rows).cpu().numpy(), dim_zero_cat(self.counts).cpu().numpy()
        parts = np.split(rows, np.cumsum(counts)[:-1])
        return [Layout(part[:, 0].astype(np.int64), part[:, 1:]) for part in parts]

    def compute(self) -> Tensor:
        """The number, a scalar."""
        return torch.tensor(self.value(self.layouts()), dtype=torch.float64, device=self.device)

    def value(self, layouts: list[Layout]) -> float:
        """The number of these layouts."""
        raise NotImplementedError


class AgainstRealLayouts(OfLayouts):
    """A metric that compares layouts to real ones.

    Args:
        real: real layouts.
        count: how many of them, drawn with seed 0; all by default, if they are no more than `most`.
        arguments: of torchmetrics.

    Attributes:
        most: real layouts that are looked at by default.

    Raises:
        SettingsError: if none are asked for.
    """

    most = COMPARED

    def __init__(self, real: LayoutExamples, count: int | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        if count is not None and count < 1:
            raise SettingsError(f"count={count}; at least 1 real layout is needed")
        self.real, self.count = real, count

    @cached_property
    def real_layouts(self) -> list[Layout]:
        """The real layouts.

        Raises:
            SettingsError: if there are fewer than are asked for.
        """
        known = self.real.layouts
        if self.count is not None and self.count > len(known):
            raise SettingsError(f"count={self.count}, but there are only {len(known)} real layouts; set it to less")
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))
        return list(known.subset(order[: self.count or self.most].sort().values).layouts())

    @property
    def labels(self) -> int:
        """Labels of the vocabulary."""
        return len(self.real.layouts.vocabulary)


class MaxIoU(AgainstRealLayouts):
    """Mean IoU with real layouts of the same labels, under the best assignment; 0 if no labels agree.

    Args:
        real: real layouts.
        count: how many of them, drawn with seed 0; all by default, if they are no more than `ASSIGNED`.
        variant: "layoutganpp", or "layoutflow", which passes over a label as a whole where two boxes have no area.
        arguments: of torchmetrics.
    """

    higher_is_better = True
    most = ASSIGNED

    def __init__(
        self, real: LayoutExamples, count: int | None = None, variant: str = "layoutganpp", **arguments: Any
    ) -> None:
        super().__init__(real, count, **arguments)
        if variant not in ("layoutganpp", "layoutflow"):
            raise SettingsError(f"variant={variant!r}; MaxIoU has the variants layoutganpp, layoutflow")
        self.variant = variant

    def value(self, layouts: list[Layout]) -> float:
        return matching.max_iou(layouts, self.real_layouts, self.variant == "layoutflow")[0]


class DocSim(AgainstRealLayouts):
    """Mean DocSim with real layouts, under the best assignment of layouts. Compare equal numbers of both."""

    higher_is_better = True
    most = ASSIGNED

    def value(self, layouts: list[Layout]) -> float:
        return matching.set_docsim(layouts, self.real_layouts)


class ClassDistance(AgainstRealLayouts):
    """`distributions.class_distance`, which LayoutDM calls the Wasserstein distance of classes."""

    higher_is_better = False

    def value(self, layouts: list[Layout]) -> float:
        return distributions.class_distance(layouts, self.real_layouts, self.labels)


class LabelCountDistance(AgainstRealLayouts):
    """`distributions.label_count_distance`: of how many elements of a label a layout has."""

    higher_is_better = False

    def value(self, layouts: list[Layout]) -> float:
        return distributions.label_count_distance(layouts, self.real_layouts, self.labels)


class BoxDistance(AgainstRealLayouts):
    """`distributions.box_distance`, LayoutDM's Wasserstein distance of boxes."""

    higher_is_better = False

    def value(self, layouts: list[Layout]) -> float:
        return distributions.box_distance(layouts, self.real_layouts)


class CountDistance(AgainstRealLayouts):
    """`distributions.count_distance`: of how many elements a layout has."""

    higher_is_better = False

    def value(self, layouts: list[Layout]) -> float:
        return distributions.count_distance(layouts, self.real_layouts)


class Elements(OfLayouts):
    """Mean number of elements of a layout: the first thing that a reward on alignment or overlap may shrink."""

    def value(self, layouts: list[Layout]) -> float:
        return float(np.mean([len(layout) for layout in layouts])) if layouts else float("nan")


class Uniqueness(OfLayouts):
    """Share of distinct layouts, by `deduplication.layout_keys`. It falls with their number: compare equal numbers."""

    higher_is_better = True

    def value(self, layouts: list[Layout]) -> float:
        found = keys_of(layouts)
        return len(found.unique()) / len(found) if len(found) else float("nan")


class Repeated(OfLayouts):
    """Share of the layouts that are, by `deduplication.layout_keys`, layouts of the training set.

    Args:
        train: the training layouts, all of which are looked at.
        arguments: of torchmetrics.
    """

    higher_is_better = False

    def __init__(self, train: LayoutExamples, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.known = train

    def value(self, layouts: list[Layout]) -> float:
        found = keys_of(layouts)
        known = self.known.layouts.keys()
        return float(torch.isin(found, known).double().mean()) if len(found) else float("nan")


def keys_of(layouts: Sequence[Layout]) -> Tensor:
    """The keys of layouts, without those that are equal to nothing."""
    found = layout_keys(padded(layouts)) if layouts else torch.zeros(0, dtype=torch.int64)
    return found[found != NOTHING]
