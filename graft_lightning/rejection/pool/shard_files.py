"""The committed shards of a part as one long table, of which rows are gathered."""

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft_lightning.rejection.pool.open_file import OPEN, OpenFile
from graft_lightning.rejection.pool.shard import Field, Header, Shard, damaged, read_header


class ShardFiles:
    """Files that share one layout, each opened when it is first needed; of them, `OPEN` stay open.

    Args:
        folder: where they are.
        shards: all shards of the part, written or not; all but the last are of equal length.
        of: what their headers must name as that of which they were made; for files beside others, those others.
    """

    def __init__(self, folder: Path, shards: list[Shard], of: "str | ShardFiles") -> None:
        self.folder, self.shards, self.of = folder, shards, of
        self._headers: dict[int, Header] = {}
        # by number, because to make a path, and to hash it, takes as long as to read a row
        self._open = lru_cache(OPEN)(partial(_opened, folder, shards))

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardFiles, (self.folder, self.shards, self.of)  # an open file has no meaning in another process

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
            try:
                header = read_header(path, shard)
            except FileNotFoundError:
                missing = f"{path}, trajectories {shard.start} to {shard.stop - 1}, is not written yet"
                raise IndexError(missing) from None
            of = self.of if isinstance(self.of, str) else self.of.header(shard).digest
            if header.of != of:
                raise damaged(path, f"it was made for another pool, round or part: {header.of} in place of {of}")
            if isinstance(self.of, str) and self._headers:  # a file beside another may lack a field that others have
                difference = layout_difference(header.fields, self.layout())
                if difference:
                    raise damaged(path, difference)
            self._headers[shard.index] = header
        return self._headers[shard.index]

    def forget(self, shard: Shard) -> None:
        """Drops what is known of a shard whose file is gone."""
        if self._headers.pop(shard.index, None):
            self._open.cache_clear()

    def gather(self, index: np.ndarray, names: list[str]) -> dict[str, Tensor]:
        """Copies of rows: ``(len(index), *row shape)`` by field.

        Args:
            index: int64 numbers of rows, within the part.
            names: fields of the layout.

        Raises:
            IndexError: if the shard of an index is not written yet.
            DamagedShard: if a file cannot be used; names it.
        """
        layout = self.layout()
        if layout is None:
            raise IndexError(f"{self.folder} holds no trajectories yet")
        values = {name: torch.empty(len(index), *layout[name].shape, dtype=layout[name].dtype) for name in names}
        views = {name: rows.reshape(-1).view(torch.uint8).numpy().data for name, rows in values.items()}
        for first, stop, shard, row in self._runs(index):
            header, file = self.header(shard), self._open(shard.index)
            for name, view in views.items():
                field = header.fields[name]
                size = field.row_bytes
                file.read_into(view[first * size : stop * size], field.offset + row * size)
        return values

    def _runs(self, index: np.ndarray) -> Iterator[tuple[int, int, Shard, int]]:
        """Stretches of consecutive indices in one shard: first and stop in ``index``, the shard, its first row."""
        shard, row = np.divmod(index, len(self.shards[0]))
        starts = np.flatnonzero((np.diff(index, prepend=-2) != 1) | (np.diff(shard, prepend=-1) != 0))
        stops = np.append(starts, len(index))[1:]
        columns = (starts, stops, shard[starts], row[starts])
        for first, stop, number, at in zip(*(column.tolist() for column in columns), strict=True):
            yield first, stop, self.shards[number], at


def _opened(folder: Path, shards: list[Shard], number: int) -> OpenFile:
    return OpenFile(folder / shards[number].filename)


def layout_difference(fields: dict[str, Field], others: dict[str, Field] | None) -> str | None:
    """In words, the first field whose type or row shape differs from that of the other shards; None if none does."""
    for name in sorted({*fields, *others} if others else ()):
        ours, theirs = (_form(side.get(name)) for side in (fields, others or {}))
        if ours != theirs:
            return f"{name} is {ours}, and {theirs} in the other shards of its round"
    return None


def _form(field: Field | None) -> str:
    return f"{field.dtype} {field.shape}" if field else "absent"
