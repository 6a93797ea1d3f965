"""When two layouts are the same: the same labels, and edges in the same of 128 bins, in any order of the elements."""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from graft_lightning.domains.layouts.layout import edges
from graft_lightning.types import MASK

BINS = 128
"""As many as published pre-processings round edges to. Two edges that lie on either side of a bin's edge differ."""

NOTHING = -1
"""The key of a layout that is equal to none: without an element, or with a box that is not finite."""


def layout_keys(samples: Mapping[str, Tensor], bins: int = BINS) -> Tensor:
    """De-duplication keys, int64 ``(batch,)``, never negative but for `NOTHING`.

    Args:
        samples: layouts.
        bins: to which edges are rounded.
    """
    mask = samples[MASK].bool().cpu()
    ltrb = edges(samples["box"].detach().double().cpu())
    finite = ltrb.isfinite().all(-1)
    # rounded, and not cut, so that what was made from bins' own edges is not torn apart by the last digit
    binned = (ltrb.nan_to_num(0.0, 0.0, 0.0).clamp(-8, 8) * (bins - 1)).round().to(torch.int16)
    rows = torch.cat([samples["label"].cpu().to(torch.int16)[..., None], binned], -1).numpy()
    fit = (mask.any(-1) & (finite | ~mask).all(-1)).tolist()
    keys = [_key(rows[i][mask[i].numpy()]) if fit[i] else NOTHING for i in range(len(rows))]
    return torch.tensor(keys, dtype=torch.int64)


def _key(elements: np.ndarray) -> int:
    """Of the elements of one layout, int16 ``(elements, 5)``."""
    ordered = elements[np.lexsort(elements.T[::-1])]
    digest = hashlib.blake2b(np.ascontiguousarray(ordered).astype("<i2").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
