"""The committed shards of a round as one long table, of which rows are gathered by global index."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft_lightning.rejection.pool.mapping import Region
from graft_lightning.rejection.pool.shard import Field, Header, Shard, damaged, read_header

SPARE = 4096
"""Bytes by which the headers of one round may differ: they hold numbers of different lengths."""


class ShardFiles:
    """Files that share one layout, each opened and mapped when it is first needed.

    Args:
        folder: where they are.
        shards: all shards of the round, written or not; all but the last are of equal length.
    """

    def __init__(self, folder: Path, shards: list[Shard]) -> None:
        self.folder, self.shards = folder, shards
        self._headers: dict[int, Header] = {}
        self._region: Region | None = None
        # by field, the offset in the region of each shard's first row; −1 where it is not mapped
        self._first: dict[str, np.ndarray] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardFiles, (self.folder, self.shards)  # a mapping has no meaning in another process

    def path(self, shard: Shard) -> Path:
        """The file of a shard."""
        return self.folder / shard.filename

    def layout(self) -> dict[str, Field] | None:
        """The fields of the shards (offsets are those of one of them); None as long as nothing is written."""
        if not self._headers:
            written = next((shard for shard in self.shards if self.path(shard).exists()), None)
            if written is None:
                return None
            self.header(written)
        return next(iter(self._headers.values())).fields

    def header(self, shard: Shard) -> Header:
        """The header of a committed shard.

        Raises:
            IndexError: if the shard is not written yet.
            DamagedShard: if its layout is not that of the others, or the file cannot be used; names it.
        """
        if shard.index not in self._headers:
            path = self.path(shard)
            if not path.exists():
                raise IndexError(f"{path}, trajectories {shard.start} to {shard.stop - 1}, is not written yet")
            header = read_header(path, shard)
            difference = layout_difference(header.fields, self.layout() if self._headers else header.fields)
            if difference:
                raise damaged(path, difference)
            self._headers[shard.index] = header
        return self._headers[shard.index]

    def forget(self, shard: Shard) -> None:
        """Drops what is known of a shard whose file is gone."""
        if self._headers.pop(shard.index, None):
            for first in self._first.values():
                first[shard.index] = -1

    def gather(self, index: np.ndarray, names: list[str]) -> dict[str, Tensor]:
        """Copies of rows: ``(len(index), *row shape)`` by field.

        Args:
            index: int64 global indices, within the round.
            names: fields of the layout.

        Raises:
            IndexError: if the shard of an index is not written yet.
        """
        layout = self.layout()
        if layout is None:
            raise IndexError(f"{self.folder} holds no trajectories yet")
        shard, row = np.divmod(index, len(self.shards[0]))
        region = self._mapped(shard, layout)
        values = {}
        for name in names:
            field = layout[name]
            rows = region.gather(self._first[name][shard] + row * field.row_bytes, field.row_bytes)
            values[name] = torch.from_numpy(rows.reshape(-1)).view(field.dtype).reshape(len(row), *field.shape)
        return values

    def _mapped(self, shards: np.ndarray, layout: dict[str, Field]) -> Region:
        """The region, with those of ``shards`` in place that were not."""
        if self._region is None:
            header = next(iter(self._headers.values()))
            row_bytes = sum(field.row_bytes for field in layout.values())
            slot_bytes = header.data_offset + len(self.shards[0]) * row_bytes + SPARE
            self._region = Region(len(self.shards), slot_bytes)
            self._first = {name: np.full(len(self.shards), -1, np.int64) for name in layout}
        absent = next(iter(self._first.values()))[shards] < 0
        for number in set(shards[absent].tolist()):
            header = self.header(self.shards[number])
            offset = self._region.place(number, self.path(self.shards[number]))
            for name, field in header.fields.items():
                self._first[name][number] = offset + field.offset
        return self._region


def layout_difference(fields: dict[str, Field], others: dict[str, Field] | None) -> str | None:
    """In words, the first field whose type or row shape differs from that of the other shards; None if none does."""
    for name in sorted({*fields, *others} if others else ()):
        ours, theirs = (_form(side.get(name)) for side in (fields, others or {}))
        if ours != theirs:
            return f"{name} is {ours}, and {theirs} in the other shards of its round"
    return None


def _form(field: Field | None) -> str:
    return f"{field.dtype} {field.shape}" if field else "absent"
