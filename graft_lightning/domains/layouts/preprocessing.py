"""The two pre-processings that papers share, by name, and what they keep and how they split.

* ``layoutdm`` (LayoutDM, LACE): pages of at least their width in height and at most 25 elements, continuous boxes.
  PubLayNet's training file is shuffled with torch's seed 0 and cut 95 % / 5 %; its validation file is the test set, to
  be loaded whole. Rico is shuffled likewise and cut 85 % / 5 % / 10 %.
* ``layoutdiffusion`` (LayoutFormer++, LayoutDiffusion, LayoutFlow, IGD): at most 20 elements, edges rounded down to 128
  bins. Its authors publish their parts of Rico as files, to be loaded whole each; where one set is given it is shuffled
  and cut as above, which gives parts of their sizes, not their members.

References:
    LayoutDM, arXiv 2303.08137. LayoutDiffusion, arXiv 2303.11589.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.types import SettingsError

SPLITS = {"publaynet": (0.95, 0.05), "rico13": (0.85, 0.05), "rico25": (0.85, 0.05), "magazine": (0.85, 0.05)}
"""Shares of training and validation by vocabulary; test is what remains."""

TEST_SIZES = {"publaynet": 10_998, "rico25": 3_729}
"""Layouts in the test parts of ``layoutdiffusion``, by vocabulary."""

VALID_SIZE = 1_865
"""Layouts in its validation part of Rico."""

EVALUATED = 2_000
"""Samples that its papers draw for unconditional evaluation."""


@dataclass(frozen=True)
class Preprocessing:
    """What is kept of a data set.

    Attributes:
        name: by which settings ask for it.
        max_elements: pages with more are left out; None takes any.
        portrait: whether pages that are wider than high are left out.
        bins: to which edges are rounded down; None leaves them continuous.
    """

    name: str
    max_elements: int | None = None
    portrait: bool = False
    bins: int | None = None

    def apply(self, layout: Layout) -> Layout | None:
        """A layout with its edges rounded to bins; None if nothing is left of it. Thin elements vanish."""
        if self.bins is None:
            return layout
        half = layout.boxes[:, 2:] / 2
        edges = np.concatenate([layout.boxes[:, :2] - half, layout.boxes[:, :2] + half], 1).clip(0, 1)
        last = self.bins - 1
        # what was a bin's own edge must stay: shares of 127 are not exact, and would fall to the bin below
        edges = np.floor(edges * last + 1e-6) / last
        boxes = np.concatenate([(edges[:, :2] + edges[:, 2:]) / 2, edges[:, 2:] - edges[:, :2]], 1)
        seen = (boxes[:, 2:] > 0).all(1)
        if not seen.any():
            return None
        return replace(layout, labels=layout.labels[seen], boxes=boxes[seen], filtered=bool((~seen).any()))


PREPROCESSINGS = {
    found.name: found
    for found in (
        Preprocessing("none"),
        Preprocessing("layoutdm", max_elements=25, portrait=True),
        Preprocessing("layoutdiffusion", max_elements=20, bins=128),
    )
}


def preprocessing(name: str, max_elements: int | None = None) -> Preprocessing:
    """The pre-processing of a name.

    Args:
        name: a key of `PREPROCESSINGS`.
        max_elements: in place of its own limit.

    Raises:
        SettingsError: if there is none of this name.
    """
    if name not in PREPROCESSINGS:
        raise SettingsError(f"preprocessing={name!r}; it is one of {', '.join(PREPROCESSINGS)}")
    found = PREPROCESSINGS[name]
    return found if max_elements is None else replace(found, max_elements=max_elements)


def split(count: int, vocabulary: str) -> dict[str, np.ndarray]:
    """Parts of a set: a permutation with torch's seed 0, cut in the order train, valid, test.

    Args:
        count: layouts in all.
        vocabulary: whose shares.

    Returns:
        Indices by part: ``train``, ``valid``, ``test``.
    """
    train, valid = SPLITS[vocabulary]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).numpy()
    first = int(count * train)
    second = count if train + valid >= 1 else int(count * (train + valid))
    return dict(zip(("train", "valid", "test"), np.split(order, [first, second]), strict=True))
