"""Alignment and overlap of many layouts: the mean over layouts, in the scale of a paper."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn

from graft_lightning.domains.layouts.metrics import geometry
from graft_lightning.domains.layouts.metrics.geometry import Batch
from graft_lightning.domains.layouts.vocabularies import vocabulary
from graft_lightning.types import SettingsError

ALIGNMENTS = {
    "layoutganpp": 100,
    "aclayoutgan": 1,
    "ndn": 1,
    "layoutdm": 100,
    "layoutdiffusion": 100,
    "layoutflow": 100,
}
"""By what a paper, or its code, multiplies alignment before it is printed."""

PADDED_TO = {"layoutdm": 25, "layoutdiffusion": 20, "layoutflow": 20}
"""Width of the batches of those that compare elements to padded ones."""

OVERLAPS = {"layoutganpp": 100, "aclayoutgan": 1, "layoutgan": 1, "layoutdm": 1, "layoutdiffusion": 1, "layoutflow": 1}
"""By what a paper, or its code, multiplies overlap before it is printed."""

WITHOUT_BACKGROUND = ("layoutdiffusion", "layoutflow")
"""Their overlap leaves out the labels that lie under others on purpose."""


class MeanOverLayouts(Metric):
    """The mean of a number of each layout. Layouts that have none (no element, a box that is not finite) are left out.

    How many are left out is `left_out`, and is warned of.
    """

    higher_is_better: bool | None = False
    is_differentiable = False
    full_state_update = False
    total: Tensor
    number: Tensor
    left_out: Tensor

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for name in ("total", "number", "left_out"):
            self.add_state(name, default=torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def values(self, samples: Batch) -> Tensor:
        """The number of each layout ``(batch,)``, NaN where it has none."""

    def update(self, samples: Batch, conditions: Sequence[str] | None = None) -> None:
        """Adds a batch of layouts; what was asked for does not matter."""
        values = self.values(samples)
        known = ~values.isnan()
        self.total += values[known].sum().to(self.total)
        self.number += known.sum()
        self.left_out += (~known).sum()

    def compute(self) -> Tensor:
        """The mean, a scalar; NaN of nothing."""
        if self.left_out > 0:
            rank_zero_warn(
                f"{type(self).__name__}: {int(self.left_out)} layouts have no element, or a box that is not finite; "
                f"the mean is that of the other {int(self.number)}"
            )
        return self.total / self.number


class Alignment(MeanOverLayouts):
    """Alignment as `geometry.alignment` defines it.

    Args:
        variant: whose; a key of `ALIGNMENTS`. The default compares elements with elements only.
        padded_to: width to which the variants pad that compare elements to padded ones too; their own by default.
        scale: by what it is multiplied; as in the variant's paper by default.
        arguments: of torchmetrics.

    Raises:
        SettingsError: if there is no such variant.
    """

    def __init__(
        self,
        variant: str = "layoutganpp",
        padded_to: int | None = None,
        scale: float | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        _check("alignment", variant, ALIGNMENTS)
        if padded_to is not None and variant not in PADDED_TO:
            raise SettingsError(
                f"padded_to={padded_to}: the variant {variant!r} looks at no padding; {', '.join(PADDED_TO)} do"
            )
        self.variant = variant
        self.padded_to = PADDED_TO.get(variant) if padded_to is None else padded_to
        self.scale = ALIGNMENTS[variant] if scale is None else scale

    def values(self, samples: Batch) -> Tensor:
        return self.scale * geometry.alignment(samples, self.variant, self.padded_to)


class Overlap(MeanOverLayouts):
    """Overlap as `geometry.overlap` defines it.

    Args:
        variant: whose; a key of `OVERLAPS`.
        vocabulary: what the labels mean; those of it that lie under others on purpose count under no variant of
            `WITHOUT_BACKGROUND`.
        scale: by what it is multiplied; as in the variant's paper by default.
        arguments: of torchmetrics.

    Raises:
        SettingsError: if there is no such variant, or no such vocabulary.
    """

    def __init__(
        self,
        variant: str = "layoutganpp",
        vocabulary: str = "publaynet",
        scale: float | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        _check("overlap", variant, OVERLAPS)
        self.variant = variant
        self.background = _background(vocabulary) if variant in WITHOUT_BACKGROUND else ()
        self.scale = OVERLAPS[variant] if scale is None else scale

    def values(self, samples: Batch) -> Tensor:
        return self.scale * geometry.overlap(samples, self.variant, self.background)


class MeanIoU(MeanOverLayouts):
    """Mean intersection over union of the elements that overlap, as VTN has it; lower is better."""

    def values(self, samples: Batch) -> Tensor:
        return geometry.mean_iou(samples)


def _background(name: str) -> tuple[int, ...]:
    return vocabulary(name).background_indices


def _check(what: str, variant: str, variants: dict[str, int]) -> None:
    if variant not in variants:
        raise SettingsError(f"variant={variant!r}; {what} has the variants {', '.join(variants)}")
