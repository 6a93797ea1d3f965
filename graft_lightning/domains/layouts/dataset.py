"""Layouts parsed once and kept as memory-mapped arrays.

The name of a stored set holds the fingerprint of what it was made from: a change of a source file, of a setting or of
the format makes another folder.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.domains.base import ragged_files
from graft_lightning.domains.base.ragged import RaggedSet
from graft_lightning.domains.base.ragged_files import LeftOut
from graft_lightning.domains.layouts.deduplication import layout_keys
from graft_lightning.domains.layouts.layout import LAYOUTS, Layout, arrays, unpadded
from graft_lightning.domains.layouts.vocabularies import Vocabulary, vocabulary

FORMAT = 1
"""Raised when the arrays or the parsing change, so that old folders are left alone."""

CACHE = Path(".cache/layouts")
"""Where sets are kept by default, below the working directory."""


class LayoutSet(RaggedSet):
    """Layouts on disk, read as padded batches.

    Args:
        folder: of a stored set.
        indices: which layouts of it, in which order; all by default.
    """

    elements = LAYOUTS

    def collated(self, fields: dict[str, Tensor]) -> TensorDict:
        return TensorDict(fields, batch_size=fields["mask"].shape[:-1])

    @property
    def vocabulary(self) -> Vocabulary:
        """What its labels mean."""
        return vocabulary(self.manifest["vocabulary"])

    def keys(self) -> Tensor:
        """De-duplication keys of all layouts, int64 ``(layouts,)``; worked out once per stored set, and kept."""
        return torch.from_numpy(self.column("keys", _keys))

    def layouts(self) -> Iterator[Layout]:
        """The layouts, one by one."""
        for piece in self.pieces():
            yield from unpadded(piece)


def _keys(layouts: LayoutSet) -> np.ndarray:
    return np.concatenate([layout_keys(piece).numpy() for piece in layouts.pieces()])


def stored(
    cache: Path,
    name: str,
    description: dict[str, object],
    make: Callable[[LeftOut], Iterable[Layout]],
    tell: bool = True,
) -> LayoutSet:
    """The set that ``description`` names: opened where it is stored, else made and stored.

    Args:
        cache: folder of stored sets.
        name: first part of the folder's name.
        description: everything that decides the content, ``vocabulary`` among it; its hash is the second part.
        make: yields the layouts, and counts in its argument what it leaves out, by kind.
        tell: whether to warn of what was left out, as `ragged_files.stored` does.

    Raises:
        ValueError: if nothing is left.
    """

    def fields(left_out: LeftOut) -> Iterator[dict[str, np.ndarray]]:
        for layout in make(left_out):
            yield arrays(layout)

    return LayoutSet(ragged_files.stored(cache, name, {"format": FORMAT, **description}, LAYOUTS, fields, tell))
