"""What the field's papers call alignment and overlap, in each of their variants, as functions of batches.

All are computed in float64, layout by layout, and are NaN for a layout without elements or with a box that is not
finite. Lower is better.

Alignment. An element has six guides: left, centre and right, top, middle and bottom. D_i is the least distance of a
guide of element i to the same guide of another element, 0 without another, and g_i = -log(1 - D_i), with D_i below 1.

Overlap. Of every ordered pair of elements the share of the first one's area that the second one covers.

A trap: some code leaves padded elements, boxes of zeros, among the others to which guides are compared. Elements near
the left or upper edge then look aligned, while an element that is alone on its page does not: the value depends on
whether a batch is padded. Such variants are here under their papers' names, because only they compare with those
papers' tables; nothing else should use them.

References:
    Attribute-conditioned LayoutGAN, arXiv 2009.05284, sections 3.6.3 and 3.6.4. LayoutGAN, arXiv 1901.06767.
    LayoutGAN++, arXiv 2108.00871. Neural Design Network, arXiv 1912.09421. LayoutDM, arXiv 2303.08137. LayoutDiffusion,
    arXiv 2303.11589. LayoutFlow, arXiv 2403.18187.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from graft_lightning.domains.layouts.layout import edges
from graft_lightning.types import MASK

ALMOST_ONE = 1 - 1e-6
"""The largest D: boxes off the page can be further apart, where the logarithm is not defined."""

Batch = Mapping[str, Tensor]


def judged(samples: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes in float64 with zeros where padded, the mask, and which layouts can be judged, bool ``(batch,)``."""
    mask = samples[MASK].bool()
    box = samples["box"].double()
    broken = (~box.isfinite().all(-1) & mask).any(-1)
    box = box.masked_fill(~mask[..., None], 0.0).nan_to_num(0.0, 0.0, 0.0)
    return box, mask, mask.any(-1) & ~broken


def guides(box: Tensor) -> Tensor:
    """Left, centre, right, top, middle, bottom of boxes: ``(..., 4)`` to ``(..., 6)``."""
    left, top, right, bottom = edges(box).unbind(-1)
    return torch.stack([left, box[..., 0], right, top, box[..., 1], bottom], -1)


def gaps(box: Tensor, mask: Tensor, padded_partners: bool = False, horizontal: bool = False) -> Tensor:
    """D of every element ``(batch, elements)``; 0 of padded ones.

    Args:
        box: ``(batch, elements, 4)``, zeros where padded.
        mask: bool ``(batch, elements)``.
        padded_partners: whether guides are compared to those of padded elements too.
        horizontal: whether only left, centre and right count.
    """
    lines = guides(box)[..., :3] if horizontal else guides(box)
    distance = (lines[:, :, None] - lines[:, None]).abs().amin(-1)
    alone = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    excluded = alone if padded_partners else alone | ~mask[:, None]
    nearest = distance.masked_fill(excluded, torch.inf).amin(-1) if mask.shape[1] else distance.new_zeros(mask.shape)
    return nearest.masked_fill(nearest.isinf() | ~mask, 0.0)


def alignment(samples: Batch, variant: str = "layoutganpp", padded_to: int | None = None) -> Tensor:
    """Alignment of every layout, without scale, float64 ``(batch,)``.

    Args:
        samples: layouts.
        variant: "layoutganpp", mean of g_i; "aclayoutgan", their sum; "ndn", sum of D_i over the three horizontal
            guides alone, without logarithm; "layoutdm", "layoutdiffusion", "layoutflow", mean of g_i with padded
            elements among the partners.
        padded_to: the width to which those three pad; that of the batch by default.
    """
    box, mask, fit = judged(samples)
    padded = variant in ("layoutdm", "layoutdiffusion", "layoutflow")
    if padded and padded_to is not None and padded_to > mask.shape[1]:
        more = padded_to - mask.shape[1]
        box, mask = torch.nn.functional.pad(box, (0, 0, 0, more)), torch.nn.functional.pad(mask, (0, more))
    distance = gaps(box, mask, padded, horizontal=variant == "ndn")
    if variant == "ndn":
        values = distance.sum(-1)
    else:
        values = 0 - torch.log1p(-distance.clamp(max=ALMOST_ONE)).sum(-1)
        if variant != "aclayoutgan":
            values = values / mask.sum(-1)
    return values.masked_fill(~fit, torch.nan)


def intersections(box: Tensor) -> Tensor:
    """Area that every two boxes share, ``(batch, elements, elements)``; the diagonal is each one's own area."""
    ltrb = edges(box)
    low = torch.maximum(ltrb[:, :, None, :2], ltrb[:, None, :, :2])
    high = torch.minimum(ltrb[:, :, None, 2:], ltrb[:, None, :, 2:])
    return (high - low).clamp(min=0).prod(-1)


def overlap(samples: Batch, variant: str = "layoutganpp", background: Sequence[int] = ()) -> Tensor:
    """Overlap of every layout, without scale, float64 ``(batch,)``.

    Args:
        samples: layouts.
        variant: "layoutganpp", "layoutdm", "layoutdiffusion" and "layoutflow", the sum of the shares over the number of
            elements; "aclayoutgan", their sum; "layoutgan", the sum of the common areas of unordered pairs.
        background: labels that lie under others on purpose, and do not count; a layout of nothing else has 0.
    """
    box, mask, fit = judged(samples)
    for label in background:
        mask = mask & (samples["label"] != label)
    shared = _pairs(intersections(box), mask)
    if variant == "layoutgan":
        values = shared.sum((-1, -2)) / 2
    else:
        area = box[..., 2:].clamp(min=0).prod(-1)
        share = (shared / area[:, :, None]).masked_fill(area[:, :, None] <= 0, 0.0)
        values = share.sum((-1, -2))
        if variant != "aclayoutgan":
            values = values / mask.sum(-1).clamp(min=1)
    return values.masked_fill(~fit, torch.nan)


def _pairs(values: Tensor, mask: Tensor) -> Tensor:
    """Values of pairs ``(batch, elements, elements)`` with 0 where the two are one, or one of them is no element."""
    both = mask[:, :, None] & mask[:, None]
    alone = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return values.masked_fill(~both | alone, 0.0)


def mean_iou(samples: Batch) -> Tensor:
    """Mean intersection over union of the pairs that overlap (VTN, arXiv 2104.02416), float64 ``(batch,)``; 0 of none.

    Args:
        samples: layouts.
    """
    box, mask, fit = judged(samples)
    shared = _pairs(intersections(box), mask)
    area = box[..., 2:].clamp(min=0).prod(-1)
    union = area[:, :, None] + area[:, None] - shared
    iou = (shared / union).masked_fill(shared <= 0, 0.0)
    number = (iou > torch.finfo(torch.float32).eps).sum((-1, -2))
    values = iou.sum((-1, -2)) / number.clamp(min=1)
    return values.masked_fill(~fit, torch.nan)
