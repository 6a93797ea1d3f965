"""Text embeddings, computed once: in memory up to a limit, and on disk."""

import json
import logging
import threading
from collections import OrderedDict
from pathlib import Path

from torch import Tensor

from graft_lightning.processes.noise import hashed_seed
from graft_lightning.refusals import DamagedFile
from graft_lightning.tensors import read_tensors, write_tensors

log = logging.getLogger(__name__)

Embedding = dict[str, Tensor]
"""The embedding of one text: tensors by name, without batch axis."""


class EmbeddingStore:
    """Embeddings by text. A file that is damaged, or belongs to another text or model, is computed again.

    Args:
        folder: of the files; None keeps embeddings in memory alone.
        model: fingerprint of the text encoders; part of every file's name and content.
        memory: bytes that are kept in memory; of what exceeds it, the files are read again.
    """

    def __init__(self, folder: Path | None, model: str, memory: int = 2 * 1024**3) -> None:
        self.folder, self.model, self.memory = folder, model, memory
        self._kept: OrderedDict[str, Embedding] = OrderedDict()
        self._bytes = 0
        self._turn = threading.RLock()  # the next batch's embeddings are read while this one's are asked for

    def get(self, text: str) -> Embedding | None:
        """The embedding of a text, None if it has to be computed."""
        with self._turn:
            if text in self._kept:
                self._kept.move_to_end(text)
                return self._kept[text]
        found = self._read(text)
        if found is not None:
            self._keep(text, found)
        return found

    def put(self, text: str, embedding: Embedding) -> None:
        """Keeps an embedding, and writes its file atomically."""
        embedding = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in embedding.items()}
        self._keep(text, embedding)
        if self.folder is None:
            return
        file = self.file(text)
        write_tensors(file, embedding, self._identity(text))

    def file(self, text: str) -> Path:
        """Where the embedding of a text lies."""
        assert self.folder is not None
        return self.folder / self.model / f"{hashed_seed('text', self.model, text):016x}.safetensors"

    def _identity(self, text: str) -> dict[str, str]:
        return {"model": self.model, "text": json.dumps(text)}

    def _keep(self, text: str, embedding: Embedding) -> None:
        with self._turn:
            self._bytes += _size(embedding) - _size(self._kept.pop(text, {}))  # another thread may have kept it
            self._kept[text] = embedding
            while self.folder is not None and self._bytes > self.memory and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])

    def _read(self, text: str) -> Embedding | None:
        if self.folder is None or not self.file(text).is_file():
            return None
        file = self.file(text)
        try:
            embedding, stored = read_tensors(file)
        except (DamagedFile, OSError) as error:
            log.warning("text embedding %s is damaged (%s); it is computed again", file, error)
            return None
        if stored != self._identity(text):
            log.warning("text embedding %s is damaged, or not that of %r; it is computed again", file, text)
            return None
        return embedding


def _size(embedding: Embedding) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in embedding.values())
