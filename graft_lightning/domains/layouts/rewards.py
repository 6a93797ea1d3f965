"""Rewards of layouts, all in [0, 1], the more the better; NaN where a layout has no element, or a box is not finite.

`GoodAlignment`, `AlignedShare` and `LittleOverlap` are the field's measures, bounded; each can be had cheaply, by few
elements, by tiny ones, or by one many times. `Tidy` cannot. Alignment comes easier the more partners each element has:
it is to be compared between layouts of as many elements, which acceptance within a condition does, since a condition
asks for a number. `composition` has what designers look at beside these.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from graft_lightning.domains.layouts.conditions import count_of
from graft_lightning.domains.layouts.metrics import geometry
from graft_lightning.rejection.reward import Reward
from graft_lightning.types import SettingsError

Layouts = Mapping[str, Tensor]


class LayoutReward(Reward):
    """A reward of layouts."""

    @abstractmethod
    def scores(self, layouts: Layouts, conditions: Sequence[str]) -> Tensor:
        """Scores ``(batch,)``, of any value where a layout cannot be judged.

        Args:
            layouts: fields ``label``, ``box`` and ``mask``.
            conditions: of the layouts.
        """

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        _, _, fit = geometry.judged(samples)
        return self.scores(samples, conditions).masked_fill(~fit, torch.nan).float()


class GoodAlignment(LayoutReward):
    """exp(-scale A), A the alignment of LayoutGAN++ without padding: mean of -log(1 - D_i).

    D_i is the distance of a guide of an element to the same guide of the nearest other element.

    Args:
        scale: 100 makes A = .01 (1 as papers print it) a reward of 1/e.

    Raises:
        SettingsError: if the scale is not positive.
    """

    def __init__(self, scale: float = 100.0) -> None:
        self.scale = positive("scale", scale)

    def scores(self, layouts: Layouts, conditions: Sequence[str]) -> Tensor:
        return torch.exp(-self.scale * geometry.alignment(layouts))


class AlignedShare(LayoutReward):
    """The share of elements that have a guide within a tolerance of another's; a lone element counts as aligned.

    Args:
        tolerance: in shares of the page's side; .002 is a quarter of a bin of 1/127.

    Raises:
        SettingsError: if the tolerance is not positive.
    """

    def __init__(self, tolerance: float = 0.002) -> None:
        self.tolerance = positive("tolerance", tolerance)

    def scores(self, layouts: Layouts, conditions: Sequence[str]) -> Tensor:
        box, mask, _ = geometry.judged(layouts)
        return share_of(geometry.gaps(box, mask) <= self.tolerance, mask)


class LittleOverlap(LayoutReward):
    """exp(-scale O), O the overlap of LayoutGAN++: what others cover of an element, over its area, mean of elements.

    Args:
        scale: 10 makes a tenth of all area being covered a reward of 1/e.
        background: indices of labels that lie under others on purpose; such elements are left out.

    Raises:
        SettingsError: if the scale is not positive.
    """

    def __init__(self, scale: float = 10.0, background: list[int] | None = None) -> None:
        self.scale, self.background = positive("scale", scale), list(background or [])

    def scores(self, layouts: Layouts, conditions: Sequence[str]) -> Tensor:
        return torch.exp(-self.scale * geometry.overlap(layouts, background=self.background))


class Tidy(LayoutReward):
    """Alignment and little overlap, of as many elements worth the name as were asked for.

        exp(-overlap O) / n  sum_i w_i exp(-alignment D_i)

    n is the number that the condition asks for. w_i is 0 for an element with a side below ``least``, which can neither
    be aligned nor align others; of k elements of one label in nearly one place each has w_i = 1/k, and they are not
    aligned with each other. So few, tiny or identical elements do not pay: the w_i sum to the number of elements that
    differ.

    Args:
        alignment: weight of the distance to the nearest guide.
        overlap: weight of the overlap O of LayoutGAN++.
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
        self.alike, self.little_overlap = alike, LittleOverlap(overlap, background)

    def scores(self, layouts: Layouts, conditions: Sequence[str]) -> Tensor:
        box, mask, _ = geometry.judged(layouts)
        sound = mask & (box[..., 2:] >= self.least).all(-1)
        copies = self._copies(layouts["label"], box, sound)
        aligned = torch.exp(-self.alignment * nearest(box, sound[:, None] & ~copies))
        weight = sound / copies.sum(-1).clamp_min(1)
        own = mask.sum(-1).tolist()
        asked = [count_of(text) if text else count for text, count in zip(conditions, own, strict=True)]
        share = (weight * aligned).sum(-1) / torch.tensor(asked).to(box).clamp_min(1)
        return share * self.little_overlap.scores(layouts, conditions)

    def _copies(self, label: Tensor, box: Tensor, sound: Tensor) -> Tensor:
        """Which sound elements are one, bool ``(batch, elements, elements)``; each is one with itself."""
        area = box[..., 2:].prod(-1)
        both = geometry.intersections(box)
        alike = both > self.alike * (area[:, :, None] + area[:, None] - both)
        return alike & (label[:, :, None] == label[:, None]) & sound[:, :, None] & sound[:, None]


def nearest(box: Tensor, partners: Tensor) -> Tensor:
    """The least distance of a guide of an element to the same one of a partner, ``(batch, elements)``; 0 without one.

    Args:
        box: ``(batch, elements, 4)``.
        partners: bool ``(batch, elements, elements)``.
    """
    lines = geometry.guides(box)
    distance = (lines[:, :, None] - lines[:, None]).abs().amin(-1).masked_fill(~partners, torch.inf)
    return distance.amin(-1).nan_to_num(posinf=0.0)


def share_of(chosen: Tensor, mask: Tensor) -> Tensor:
    """The share of real elements that are chosen, float64 ``(batch,)``; 0 of none. Both bool ``(batch, elements)``."""
    return (chosen & mask).sum(-1).double() / mask.sum(-1).clamp_min(1)


def positive(name: str, value: float) -> float:
    """The value of a setting.

    Raises:
        SettingsError: if it is not positive; names the setting.
    """
    if not value > 0:
        raise SettingsError(f"{name}={value}; it must be positive")
    return value
