"""Sets of samples of different sizes, kept as memory-mapped arrays and read as padded batches.

A stored set is a folder of one file a field, ``<field>.npy`` ``(elements of all samples, *shape)``, of ``offsets.npy``
(int64: sample m owns the elements offsets[m] to offsets[m + 1]), and of ``manifest.json``. `ragged_files` writes it.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from graft_lightning.domains.base.counts import histogram
from graft_lightning.domains.base.elements import MASK, Elements
from graft_lightning.tensors import read_tensors, whole, write_tensors
from graft_lightning.types import SettingsError

MANIFEST = "manifest.json"
OFFSETS = "offsets"
REMEDY = "delete the folder to make it again"

Indices = Sequence[int] | np.ndarray | Tensor | slice
Set = TypeVar("Set", bound="RaggedSet")


class RaggedSet(Dataset[Any]):
    """Samples on disk, read as padded batches. A domain's own class says what they consist of.

    Args:
        folder: of a stored set.
        indices: which samples of it, in which order; all by default.

    Attributes:
        elements: what samples consist of.
        folder: where it is stored.
        indices: int64 ``(samples,)``, places in the stored set.
        counts: of the elements of each sample, int64 ``(samples,)``.
        arrays: of all elements of the stored set, by field.
        manifest: what it was made from, and what was left out.

    Raises:
        DamagedFile: if a file cannot be read; names it.
        SettingsError: if the arrays do not belong together; names the file.
    """

    elements: ClassVar[Elements]

    def __init__(self, folder: Path | str, indices: np.ndarray | None = None) -> None:
        self.folder = Path(folder).expanduser()
        self.manifest = whole(lambda file: json.loads(file.read_text(encoding="utf-8")), self.folder / MANIFEST, REMEDY)
        self._offsets = whole(np.load, self.folder / f"{OFFSETS}.npy", REMEDY)
        self.arrays = {name: self._mapped(name) for name in self.elements.fields}
        self.indices = np.arange(len(self._offsets) - 1) if indices is None else np.asarray(indices, dtype=np.int64)
        self.counts = np.diff(self._offsets)[self.indices]

    def _mapped(self, name: str) -> np.ndarray:
        field, path = self.elements.fields[name], self.folder / f"{name}.npy"
        expected = (field.file_dtype, (int(self._offsets[-1]), *field.shape))
        try:
            array = np.load(path, mmap_mode="r")
            found = f"{array.dtype} {array.shape}"
            if (array.dtype, array.shape) == expected:
                return array
        except ValueError as error:  # truncated
            found = str(error)
        raise SettingsError(f"{path}: {found}, in place of {expected[0]} {expected[1]}; {REMEDY}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.indices)  # another process maps the files itself

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int | Indices) -> Any:
        """One sample without padding, or several as a padded batch (`read` says how wide)."""
        if isinstance(index, int | np.integer):
            one = self._fields([int(index)], int(self.counts[index]))
            return self.collated({name: values[0] for name, values in one.items()})
        return self.read(index)

    @property
    def width(self) -> int:
        """Elements of the largest sample; 0 for an empty set."""
        return int(self.counts.max(initial=0))

    def read(self, index: Indices, width: int | None = None) -> Any:
        """Samples as a padded batch.

        Args:
            index: places in this set.
            width: elements per row; by default those of the largest sample of the whole set, the same for every batch.

        Raises:
            ValueError: if a sample has more elements than ``width``.
        """
        return self.collated(self._fields(index, self.width if width is None else width))

    def collated(self, fields: dict[str, Tensor]) -> Any:
        """What the domain makes of a batch's fields, or of one sample's: by default nothing else."""
        return fields

    def _fields(self, index: Indices, width: int) -> dict[str, Tensor]:
        chosen = self.indices[index if isinstance(index, slice) else np.asarray(index)]
        start, count = self._offsets[chosen], self._offsets[chosen + 1] - self._offsets[chosen]
        self.elements.width_for(count.tolist(), width)
        mask = np.arange(width) < count[:, None]
        place = (start[:, None] + np.arange(width))[mask]
        batch = {}
        for name, field in self.elements.fields.items():
            values = np.zeros((*mask.shape, *field.shape), field.dtype)
            values[mask] = self.arrays[name][place]
            batch[name] = torch.from_numpy(values)
        return {**batch, MASK: torch.from_numpy(mask)}

    def subset(self: Set, indices: Indices) -> Set:
        """The samples at ``indices`` of this set, as a set."""
        return type(self)(self.folder, self.indices[indices if isinstance(indices, slice) else np.asarray(indices)])

    def histogram(self) -> dict[int, int]:
        """Samples by number of elements."""
        return histogram(self.counts)

    def pieces(self, size: int = 4096) -> Iterator[Any]:
        """All samples, in padded batches of at most ``size``."""
        return (self.read(slice(start, start + size)) for start in range(0, len(self), size))

    def column(self: Set, name: str, compute: Callable[[Set], np.ndarray]) -> np.ndarray:
        """A number for every sample ``(samples,)``, worked out once per stored set and kept beside it.

        Args:
            name: of the column; another than those of the fields.
            compute: takes the whole stored set.

        Raises:
            ValueError: if the name is taken, or there is not one number a sample.
            DamagedFile: if what was kept is damaged; names the file.
        """
        if name in {*self.elements.fields, OFFSETS}:
            raise ValueError(f"column {name!r}: a field of the set has this name")
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            whole = type(self)(self.folder)
            values = np.asarray(compute(whole))
            if values.shape != (len(whole),):
                raise ValueError(f"column {name!r} is {values.shape}; it should be ({len(whole)},)")
            write_tensors(path, {name: torch.from_numpy(values)})
        tensors, _ = read_tensors(path, "delete it, and it is worked out again")
        return tensors[name].numpy()[self.indices]
