"""One shard, one file: the safetensors format, with checksums of header and data in its metadata.

The file is written here and not by the safetensors library because it must reach the disk before it gets its name, and
because its bytes must follow from its contents alone. Any safetensors reader opens it.
"""

import json
import math
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft_lightning.durable import replacing
from graft_lightning.rejection.pool.manifest import DamagedShard

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
AHEAD = 1 << 12
"""Bytes in which most headers end."""
CHUNK = 1 << 22
"""Bytes read at a time when a checksum is taken."""


@dataclass(frozen=True)
class Shard:
    """Rows ``start .. stop - 1`` of a part of a round; ``index`` counts its shards.

    The rows of the first part are the trajectories that a round began with, condition by condition.
    """

    index: int
    start: int
    stop: int
    part: int = 0

    def __len__(self) -> int:
        """The number of trajectories."""
        return self.stop - self.start

    @property
    def rows(self) -> np.ndarray:
        """The numbers of its rows."""
        return np.arange(self.start, self.stop)

    @property
    def filename(self) -> str:
        """Its file, the same for trajectories and for rewards."""
        name = f"{self.index:06d}.safetensors"
        return f"{part_name(self.part)}/{name}" if self.part else name


def part_name(number: int) -> str:
    """The folder of a part that a round has grown by."""
    return f"part-{number:04d}"


@dataclass(frozen=True)
class Field:
    """A tensor of a shard: ``shape`` is that of one row, ``offset`` is in bytes from the start of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a shard's file says of itself.

    Attributes:
        fields: the tensors, by name.
        data_offset: where the header ends, in bytes.
        data_crc32: checksum of all that follows.
        digest: checksum of the header, and thereby of the whole file.
        of: of what it was made: for trajectories the identity of their part, for what was found out about them the
            digest of their own shard, and of the reward that scored it.
    """

    fields: dict[str, Field]
    data_offset: int
    data_crc32: str
    digest: str
    of: str | None


def write_shard(path: Path, shard: Shard, tensors: Mapping[str, Tensor], of: str) -> None:
    """Writes a shard and gives it its name once it is on disk.

    Args:
        path: where; replaced if it exists.
        shard: which trajectories the rows are.
        tensors: ``(len(shard), *row shape)`` each.
        of: see `Header`.

    Raises:
        TypeError: for a dtype that the format lacks; names the field.
    """
    header: dict[str, Any] = {"__metadata__": {"start": str(shard.start), "stop": str(shard.stop), "of": of}}
    arrays, offset = [], 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].element_size(), name)):  # keeps every field aligned
        tensor = tensors[name].detach().cpu().contiguous()
        if tensor.dtype not in NAMES:
            raise TypeError(f"{name} is {tensor.dtype}; the pool stores {', '.join(map(str, NAMES))}")
        arrays.append(tensor.reshape(-1).view(torch.uint8).numpy())
        stop = offset + arrays[-1].size
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, stop]}
        offset = stop
    crc = 0
    for array in arrays:
        crc = zlib.crc32(array.data, crc)
    header["__metadata__"]["data_crc32"] = f"{crc:08x}"
    header["__metadata__"]["header_crc32"] = _digest(header)
    text = _canonical(header)
    text += b" " * (-(8 + len(text)) % 64)
    _commit(path, len(text).to_bytes(8, "little") + text, arrays)


def _canonical(header: Mapping[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


def _digest(header: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(_canonical(header)):08x}"


def _commit(path: Path, preamble: bytes, arrays: list[np.ndarray]) -> None:
    with replacing(path) as temporary, open(temporary, "xb") as file:
        file.write(preamble)
        for array in arrays:
            file.write(array.data)


def read_header(path: Path, shard: Shard) -> Header:
    """A shard's header, held against the size of its file and the range of its rows.

    Raises:
        FileNotFoundError: if it is not there.
        DamagedShard: names the file and what to do.
    """
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        begin = file.read(AHEAD)
        length = int.from_bytes(begin[:8], "little")
        while len(begin) < min(8 + length, size) and (more := file.read(min(8 + length, size) - len(begin))):
            begin += more
    try:
        header = json.loads(begin[8 : 8 + length])
        metadata = header["__metadata__"]
        digest = metadata.pop("header_crc32")
        intact = digest == _digest(header)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        fields = {
            name: Field(DTYPES[entry["dtype"]], tuple(entry["shape"][1:]), 8 + length + entry["data_offsets"][0])
            for name, entry in entries.items()
        }
        found = (int(metadata["start"]), int(metadata["stop"]), {entry["shape"][0] for entry in entries.values()})
        parsed = Header(fields, 8 + length, metadata["data_crc32"], digest, metadata.get("of"))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise damaged(path, f"its header cannot be read ({type(error).__name__}: {error})") from None
    if not intact:
        raise damaged(path, "its header does not have the checksum that it names")
    if found != (shard.start, shard.stop, {len(shard)}):
        raise damaged(path, f"it should hold trajectories {shard.start} to {shard.stop - 1}, and its header differs")
    expected = parsed.data_offset + len(shard) * sum(field.row_bytes for field in fields.values())
    if size != expected:
        raise damaged(path, f"it has {size} bytes in place of {expected}")
    return parsed


def verify_shard(path: Path, shard: Shard) -> Header:
    """A shard's header, after the checksum of its data was taken too.

    Raises:
        DamagedShard: names the file and what to do.
    """
    parsed = read_header(path, shard)
    buffer = memoryview(bytearray(min(CHUNK, path.stat().st_size)))
    crc = 0
    with open(path, "rb") as file:
        file.seek(parsed.data_offset)
        while count := file.readinto(buffer):
            crc = zlib.crc32(buffer[:count], crc)
    if f"{crc:08x}" != parsed.data_crc32:
        raise damaged(path, f"the checksum of its data is {crc:08x} in place of {parsed.data_crc32}")
    return parsed


def damaged(path: Path, what: str) -> DamagedShard:
    """The error for a shard that cannot be used as it is."""
    return DamagedShard(f"{path} is damaged: {what}. Delete this file, and the next run makes it again.")
