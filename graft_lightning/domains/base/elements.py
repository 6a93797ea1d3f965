"""Samples that are sets of elements, such as the atoms of a molecule: what is known of an element, and batches of them.

A batch is a dictionary of fields ``(batch, width, *shape)``, zero where padded, and of their ``mask``, bool
``(batch, width)``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft_lightning.domains.base.masks import mask_of

MASK = "mask"


@dataclass(frozen=True)
class Field:
    """Something known of every element.

    Attributes:
        dtype: NumPy's name of its type in a batch.
        shape: of one element's value.
        stored: its type in files, where that is narrower.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    stored: str | None = None

    @property
    def file_dtype(self) -> np.dtype[Any]:
        """Its type in files."""
        return np.dtype(self.stored or self.dtype)


@dataclass(frozen=True)
class Elements:
    """What samples of a domain consist of.

    Attributes:
        fields: of an element, by name.
        sample: what a sample is called in messages, such as "molecule".
        plural: what elements are called, such as "atoms".
    """

    fields: Mapping[str, Field]
    sample: str = "sample"
    plural: str = "elements"

    def arrays(self, values: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
        """One sample as arrays ``(elements, *shape)`` of the types that files have.

        Args:
            values: by field, whatever NumPy makes an array of.
            name: of the sample, for the error message.

        Raises:
            ValueError: if a field is absent or unknown, or its shape, its length or a number in it does not fit.
        """
        if values.keys() != self.fields.keys():
            raise ValueError(f"{name} has the fields {sorted(values)}; it should have {sorted(self.fields)}")
        found = {field: self._array(field, value, name) for field, value in values.items()}
        lengths = {field: len(array) for field, array in found.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{name} has as many {self.plural} as its fields are long, but these differ: {lengths}")
        return found

    def _array(self, field: str, value: Any, name: str) -> np.ndarray:
        form = self.fields[field]
        given = np.asarray(value)
        if not given.size:
            given = given.reshape(len(given) if given.ndim else 0, *form.shape)
        if given.ndim == 0 or given.shape[1:] != form.shape:
            raise ValueError(f"{name}: {field} is {given.shape}; it should be ({self.plural}, {form.shape})")
        with np.errstate(invalid="ignore"):  # of what does not fit, which the next line tells
            array = given.astype(form.file_dtype)
        if form.file_dtype.kind in "iub" and not np.array_equal(array, given):
            raise ValueError(f"{name}: {field} holds numbers that {form.file_dtype} does not: {given[array != given]}")
        return array

    def width_for(self, counts: Iterable[int], width: int | None = None) -> int:
        """The width of a batch: as asked for, or that of the largest sample.

        Args:
            counts: of the elements of each sample.
            width: elements per row, None for as many as are needed.

        Raises:
            ValueError: if a sample has more elements than the width.
        """
        largest = int(max(counts, default=0))
        if width is not None and largest > width:
            raise ValueError(f"a {self.sample} has {largest} {self.plural}, more than the width of {width}")
        return largest if width is None else width

    def padded(self, samples: Sequence[Mapping[str, Any]], width: int | None = None) -> dict[str, Tensor]:
        """Samples as one padded batch.

        Args:
            samples: fields ``(elements, *shape)``.
            width: elements per row; the largest sample's by default.

        Raises:
            ValueError: as `arrays` and `width_for`.
        """
        rows = [self.arrays(values, f"{self.sample} {row}") for row, values in enumerate(samples)]
        counts = [len(next(iter(row.values()))) for row in rows]
        width = self.width_for(counts, width)
        batch = {}
        for name, field in self.fields.items():
            batch[name] = np.zeros((len(rows), width, *field.shape), field.dtype)
            for i, row in enumerate(rows):
                batch[name][i, : counts[i]] = row[name]
        mask = mask_of(torch.tensor(counts, dtype=torch.int64), width)
        return {**{name: torch.from_numpy(values) for name, values in batch.items()}, MASK: mask}

    def unpadded(self, batch: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """The samples of a padded batch, one by one on the CPU (rows without any element included)."""
        fields = {name: batch[name].cpu() for name in self.fields}
        masks = batch[MASK].cpu()
        return [{name: values[row][mask] for name, values in fields.items()} for row, mask in enumerate(masks)]
