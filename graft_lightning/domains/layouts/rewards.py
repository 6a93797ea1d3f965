"""Rewards of layouts, all in [0, 1], the more the better.

`Alignment`, `AlignedShare` and `LittleOverlap` are the field's measures, bounded; each can be had cheaply, by few
elements, by tiny ones, or by one many times. `Tidy` cannot. Alignment comes easier the fewer elements there are, or the
more partners each has: it is to be compared between layouts of as many elements, which acceptance within a condition
does, since a condition asks for a number. `composition` has what designers look at beside these.

References:
    Alignment after LayoutGAN++, arXiv 2108.00871, and Attribute-conditioned Layout GAN, arXiv 2009.05284.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graft_lightning.domains.layouts.conditions import count_of
from graft_lightning.domains.layouts.guides import intersections, nearest_guides
from graft_lightning.rejection.reward import Reward
from graft_lightning.types import SettingsError


class LayoutReward(Reward):
    """A reward of layouts, by their labels, boxes and masks."""

    @abstractmethod
    def scores(self, label: Tensor, box: Tensor, mask: Tensor, conditions: Sequence[str]) -> Tensor:
        """Scores ``(batch,)``.

        Args:
            label: int64 ``(batch, elements)``.
            box: centre and size as shares of the page's sides, float64 ``(batch, elements, 4)``.
            mask: bool ``(batch, elements)``.
            conditions: of the layouts.
        """

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        found = self.scores(samples["label"], samples["box"].double(), samples["mask"], conditions)
        broken = ~(samples["box"].isfinite().all(-1) | ~samples["mask"]).all(-1)
        return found.masked_fill(broken, torch.nan).float()


class Alignment(LayoutReward):
    """exp(-scale A), A = mean of -log(1 - D_i) over elements, D_i the distance to the nearest guide of another.

    A is the alignment of LayoutGAN++ without padding; 0 for a layout that has no element.

    Args:
        scale: 100 makes A = .01 (1 as papers print it) a reward of 1/e.

    Raises:
        SettingsError: if the scale is not positive.
    """

    def __init__(self, scale: float = 100.0) -> None:
        self.scale = positive("scale", scale)

    def scores(self, label: Tensor, box: Tensor, mask: Tensor, conditions: Sequence[str]) -> Tensor:
        gap = -torch.log1p(-nearest_guides(box, mask).clamp(max=1 - 1e-12))
        return torch.exp(-self.scale * mean(gap, mask)) * mask.any(-1)


class AlignedShare(LayoutReward):
    """The share of elements that have a guide within a tolerance of another's.

    Args:
        tolerance: in shares of the page's side; .002 is a quarter of LayoutFlow's bins of 1/127.

    Raises:
        SettingsError: if the tolerance is not positive.
    """

    def __init__(self, tolerance: float = 0.002) -> None:
        self.tolerance = positive("tolerance", tolerance)

    def scores(self, label: Tensor, box: Tensor, mask: Tensor, conditions: Sequence[str]) -> Tensor:
        return mean((nearest_guides(box, mask) <= self.tolerance).to(box.dtype), mask)


class LittleOverlap(LayoutReward):
    """exp(-scale O), O = mean over elements of the area that others cover of it, over its own (LayoutGAN++).

    Args:
        scale: 10 makes a tenth of all area being covered a reward of 1/e.
        background: indices of labels that lie under others on purpose; such elements are left out.

    Raises:
        SettingsError: if the scale is not positive.
    """

    def __init__(self, scale: float = 10.0, background: list[int] | None = None) -> None:
        self.scale, self.background = positive("scale", scale), list(background or [])

    def scores(self, label: Tensor, box: Tensor, mask: Tensor, conditions: Sequence[str]) -> Tensor:
        above = mask & ~torch.isin(label, torch.tensor(self.background, dtype=label.dtype, device=label.device))
        return torch.exp(-self.scale * mean(covered(box, above), above)) * mask.any(-1)


class Tidy(LayoutReward):
    """Alignment and little overlap, of as many elements worth the name as were asked for.

        exp(-overlap O) / n  sum_i w_i exp(-alignment D_i)

    n is the number that the condition asks for. w_i is 0 for an element with a side below ``least``, which can neither be
    aligned nor align others; of k elements with one label and nearly one place each has w_i = 1/k, and they are not
    aligned with each other. So few, tiny or identical elements do not pay: at best w_i sums to the number of different
    elements.

    Args:
        alignment: weight of the distance to the nearest guide.
        overlap: weight of the mean share of an element that others cover.
        least: of a side of an element, in shares of the page's.
        alike: elements of one label are one element where their intersection over union lies above this.
        background: indices of labels that lie under others on purpose; they do not count as overlapping.

    Raises:
        SettingsError: if an argument is out of its range.
    """

    def __init__(
        self,
        alignment: float = 100.0,
        overlap: float = 10.0,
        least: float = 0.01,
        alike: float = 0.8,
        background: list[int] | None = None,
    ) -> None:
        if not 0 < alike < 1:
            raise SettingsError(f"alike={alike}; it is an intersection over union, between 0 and 1")
        self.alignment, self.least = positive("alignment", alignment), positive("least", least)
        self.alike, self.background = alike, list(background or [])
        self.little_overlap = LittleOverlap(overlap, background)

    def scores(self, label: Tensor, box: Tensor, mask: Tensor, conditions: Sequence[str]) -> Tensor:
        sound = mask & (box[..., 2:] >= self.least).all(-1)
        copies = self._copies(label, box, sound)
        gap = nearest_guides(box, sound[:, None] & ~copies)
        weight = sound / copies.sum(-1).clamp_min(1)
        asked = torch.tensor(
            [self._asked(text, own) for text, own in zip(conditions, mask.sum(1).tolist(), strict=True)]
        )
        share = (weight * torch.exp(-self.alignment * gap)).sum(-1) / asked.to(box).clamp_min(1)
        return share.clamp(max=1) * self.little_overlap.scores(label, box, mask, conditions)

    @staticmethod
    def _asked(condition: str, own: int) -> int:
        return count_of(condition) if condition else own

    def _copies(self, label: Tensor, box: Tensor, sound: Tensor) -> Tensor:
        """Which elements are one, bool ``(batch, elements, elements)``; every sound one is one with itself."""
        area = box[..., 2:].prod(-1)
        both = intersections(box)
        alike = both > self.alike * (area[:, :, None] + area[:, None] - both)
        return alike & (label[:, :, None] == label[:, None]) & sound[:, :, None] & sound[:, None]


def covered(box: Tensor, mask: Tensor) -> Tensor:
    """The area that others cover of an element, over its own, ``(batch, elements)``; twice where two do.

    Args:
        box: ``(batch, elements, 4)``.
        mask: elements that count; bool ``(batch, elements)``.
    """
    both = intersections(box) * (mask[:, :, None] & mask[:, None])
    own = both.diagonal(dim1=1, dim2=2)
    return torch.where(own > 0, (both.sum(-1) - own) / own.clamp_min(1e-12), torch.zeros_like(own))


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over real elements, ``(batch,)``; 0 where there is none."""
    return torch.where(mask, values, 0.0).sum(-1) / mask.sum(-1).clamp_min(1)


def positive(name: str, value: float) -> float:
    """The value of a setting.

    Raises:
        SettingsError: if it is not positive; names the setting.
    """
    if not value > 0:
        raise SettingsError(f"{name}={value}; it must be positive")
    return value
