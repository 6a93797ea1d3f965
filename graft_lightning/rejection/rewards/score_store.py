"""Scores on disk, by key, written by any number of processes at once."""

import os
import socket
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np

KEY_BYTES = 16
_RECORD = np.dtype([("key", f"V{KEY_BYTES}"), ("score", "<f4")])


class ScoreStore:
    """A dictionary from 16-byte keys to float32 scores that survives its process.

    Every process appends to a file of its own, so that none waits for another and none can spoil another's, also on a
    shared file system without locks. A batch is one write of fixed-size records followed by a sync; what a crash leaves
    of a last record is ignored when it is read. A process sees what the others had written when it opened the store.

    Args:
        folder: made when the first scores are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._scores: dict[bytes, float] = {}
        self._segment: Path | None = None
        self._owner = -1
        for segment in sorted(folder.glob("*.scores")):
            records = np.fromfile(segment, _RECORD, count=segment.stat().st_size // _RECORD.itemsize)
            self._scores.update(zip((key.tobytes() for key in records["key"]), records["score"].tolist(), strict=True))

    def __len__(self) -> int:
        return len(self._scores)

    def __contains__(self, key: bytes) -> bool:
        return key in self._scores

    def __getitem__(self, key: bytes) -> float:
        return self._scores[key]

    def update(self, scores: Iterable[tuple[bytes, float]]) -> None:
        """Adds scores, in memory and on disk."""
        new = list(scores)
        records = np.array([(np.void(key), score) for key, score in new], _RECORD)
        descriptor = os.open(self._own_segment(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, records.tobytes())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._scores.update(new)

    def _own_segment(self) -> Path:
        # a forked process must not append to its parent's file: two half-written batches could interleave
        if self._segment is None or self._owner != os.getpid():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._owner = os.getpid()
            self._segment = self.folder / f"{socket.gethostname()}-{self._owner}-{uuid.uuid4().hex[:8]}.scores"
        return self._segment
