"""What is found out about trajectories once they are drawn: scores, states at further levels. A file beside each shard.

A file belongs to the present bytes of its shard, and is void if the shard is made again in another way. It may know
only some of the rows: those that have been asked for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graft_lightning.rejection.pool.manifest import cannot_write
from graft_lightning.rejection.pool.part import Part
from graft_lightning.rejection.pool.shard import Header, Shard, read_header, write_shard
from graft_lightning.rejection.pool.shard_files import ShardFiles

KNOWN = "known"
"""The field that tells the rows that a file knows, where it does not know all of them."""


class Beside:
    """The files of one thing that is told of the trajectories of a round.

    Args:
        folder: where they are; made when the first is written.
        parts: of the round.
        by: digest of what tells it, such as a reward; files that another one has written are void.
    """

    def __init__(self, folder: Path, parts: Sequence[Part], by: str = "") -> None:
        self.folder, self._parts, self._by = folder, parts, by
        self._files = [ShardFiles(folder, part.shards, part.files) for part in parts]

    def path(self, shard: Shard) -> Path:
        """The file beside a shard."""
        return self.folder / shard.filename

    def header(self, shard: Shard) -> Header | None:
        """The header of the file beside a committed shard, if it is of the shard's present bytes, and by whom it must.

        Raises:
            DamagedShard: if one of the two cannot be used; names it.
        """
        try:
            header = read_header(self.path(shard), shard)
        except FileNotFoundError:
            return None
        # files of before name the shard alone
        return header if header.of in (self._digest(shard), self._of(shard)) else None

    def known(self, shard: Shard) -> np.ndarray:
        """Which rows of a committed shard the file knows, bool ``(len(shard),)``."""
        return self._known(shard, self.header(shard))

    def told(self, shard: Shard, name: str) -> tuple[Tensor, np.ndarray]:
        """A field of all rows of a committed shard, and which of them the file knows; NaN of a file that is void."""
        header = self.header(shard)
        values = self._values(shard, header, name) if header else torch.full((len(shard),), torch.nan)
        return values, self._known(shard, header)

    def write(self, shard: Shard, tensors: Mapping[str, Tensor], known: Tensor | None = None) -> None:
        """Commits what is known of a shard, beside what was known before of other rows.

        Args:
            shard: a committed shard.
            tensors: ``(len(shard), *row shape)`` by field.
            known: which rows these are, bool ``(len(shard),)``; all by default.

        Raises:
            IndexError: if the shard is not written yet.
            PoolError: if the folder cannot be written.
        """
        fields, mask = dict(tensors), torch.ones(len(shard), dtype=torch.bool) if known is None else known.clone()
        before = self.header(shard)
        if before is not None and not mask.all():
            old = torch.from_numpy(self._known(shard, before)) & ~mask
            for name in fields:
                rows = old.view(-1, *[1] * (fields[name].ndim - 1))
                fields[name] = torch.where(rows, self._values(shard, before, name), fields[name])
            mask |= old
        if not mask.all():
            fields[KNOWN] = mask
        try:
            self.path(shard).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        self._files[shard.part].forget(shard)
        write_shard(self.path(shard), shard, fields, of=self._of(shard))

    def gather(self, part: int, rows: np.ndarray, names: list[str]) -> dict[str, Tensor]:
        """Copies of rows of a part, as `ShardFiles.gather` makes them; of rows that are known."""
        return self._files[part].gather(rows, names)

    def fields(self) -> list[str]:
        """Names of what is told; empty as long as nothing is written."""
        layouts = (files.layout() for files in self._files)
        return [name for name in next((one for one in layouts if one), {}) if name != KNOWN]

    def committed(self) -> list[tuple[Path, Shard]]:
        """The files that are there."""
        files = ((self.path(shard), shard) for part in self._parts for shard in part.shards)
        return [(path, shard) for path, shard in files if path.exists()]

    def _of(self, shard: Shard) -> str:
        return f"{self._digest(shard)}.{self._by}" if self._by else self._digest(shard)

    def _digest(self, shard: Shard) -> str:
        return self._parts[shard.part].files.header(shard).digest

    def _known(self, shard: Shard, header: Header | None) -> np.ndarray:
        if header is None:
            return np.zeros(len(shard), dtype=bool)
        if KNOWN not in header.fields:
            return np.ones(len(shard), dtype=bool)
        return self._values(shard, header, KNOWN).numpy()

    def _values(self, shard: Shard, header: Header, name: str) -> Tensor:
        field = header.fields[name]
        data = bytearray(len(shard) * field.row_bytes)
        with open(self.path(shard), "rb") as file:
            file.seek(field.offset)
            file.readinto(data)
        return torch.frombuffer(data, dtype=field.dtype).reshape(len(shard), *field.shape) if data else torch.zeros(0)
