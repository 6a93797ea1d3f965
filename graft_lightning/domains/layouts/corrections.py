"""What fine-tuning has changed of samples of the same seeds, to be looked at."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graft_lightning.domains.layouts.drawing import sheet
from graft_lightning.domains.layouts.metrics import geometry
from graft_lightning.domains.layouts.vocabularies import Vocabulary
from graft_lightning.types import MASK, concatenate, take

if TYPE_CHECKING:
    from PIL.Image import Image

TOLERANCE = 0.002
"""Distance of guides up to which elements are aligned, in shares of the page's side."""


def corrected(before: Mapping[str, Tensor], after: Mapping[str, Tensor], tolerance: float = TOLERANCE) -> Tensor:
    """Which elements were off the guides of all others, and are on one now: bool ``(batch, elements)``.

    Args:
        before: layouts.
        after: layouts of the same seeds, whose elements are those of ``before`` one by one.
        tolerance: distance of guides up to which elements are aligned, in shares of the page's side.
    """
    off = [geometry.gaps(*geometry.judged(layouts)[:2]) > tolerance for layouts in (before, after)]
    return off[0] & ~off[1] & before[MASK].bool() & after[MASK].bool()


def comparison(before: Any, after: Any, captions: Sequence[str], vocabulary: Vocabulary) -> "Image":
    """Each layout before and after, side by side; corrected elements have a frame in both.

    Args:
        before: layouts.
        after: layouts of the same seeds.
        captions: one text a pair.
        vocabulary: of the labels.
    """
    count = len(before)
    order = torch.arange(2 * count).view(2, count).T.flatten()
    both = take(concatenate([before, after]), order)
    texts = [f"{when}: {text}" for text in captions for when in ("base", "now")]
    return sheet(both, texts, vocabulary, corrected(before, after).repeat_interleave(2, 0))
