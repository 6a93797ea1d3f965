"""Checkpoints: Lightning's interface for writing and reading them, made durable, checked, and closed to code."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from graft_lightning.durable import replacing
from graft_lightning.refusals import DamagedFile, first_line
from graft_lightning.sealed import fault, seal
from graft_lightning.types import SettingsError

HANDED_OVER = ".temp.ckpt"
"""Lightning's name for the weights alone, which a process that it started hands back to the one that started it."""
REMEDY = "take another checkpoint, or delete it and begin anew"


class DurableCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, synchronises and renames it, with a digest; checks that when it is loaded.

    Lightning's own writes to the temporary folder and moves: from one file system to another that is a copy over the
    checkpoint that was there. Of what is loaded nothing but tensors and plain values is read, unless ``weights_only``
    is false; what stands at an address of the web is not loaded at all.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if "://" in str(path):  # a bucket has writes of its own, which are whole or nothing
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with replacing(Path(path)) as temporary:
            with _remembering(temporary) as file:
                torch.save(checkpoint, cast("IO[bytes]", file))
            seal(temporary)

    def load_checkpoint(
        self,
        path: Any,
        map_location: Callable | None = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        refuse_address(str(path))
        trusted = weights_only is False
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, not trusted)
        if Path(path).name == HANDED_OVER:
            return _read(Path(path), map_location, trusted)
        return read_checkpoint(Path(path), map_location, trusted)


def read_checkpoint(path: Path, map_location: Any = "cpu", trusted: bool = False) -> dict[str, Any]:
    """A checkpoint of a fit.

    Args:
        path: of the file.
        map_location: of `torch.load`.
        trusted: also make objects that only code can make; runs whatever code the file holds.

    Raises:
        FileNotFoundError: if it is absent.
        DamagedFile: if its bytes are not those that were written, or cannot be read.
        SettingsError: if it is none of Lightning's; names the file.
    """
    state = _read(path, map_location, trusted)
    if not isinstance(state, dict) or not {"state_dict", "global_step"} <= state.keys():
        raise SettingsError(f"ckpt_path={path} is no checkpoint of a fit: it lacks state_dict or global_step")
    return state


def _read(path: Path, map_location: Any, trusted: bool) -> Any:
    if not path.exists():
        raise FileNotFoundError(f"ckpt_path={path} is absent; `fit` leaves checkpoints below the run's folder")
    if path.is_dir():
        raise SettingsError(
            f"ckpt_path={path} is sharded; put it together first, or train with save_distributed_checkpoint=false"
        )
    if wrong := fault(path):
        raise DamagedFile(f"{path} is damaged, or holds more than tensors and plain values: {wrong}; {REMEDY}")
    try:
        return torch.load(path, map_location=map_location, weights_only=not trusted)
    except Exception as error:  # whatever bytes that are no checkpoint make of the reader
        raise DamagedFile(
            f"{path} is damaged, or holds more than tensors and plain values: {first_line(error)}; {REMEDY}"
        ) from None


def refuse_address(path: str) -> None:
    """Refuses checkpoints of the web.

    Raises:
        SettingsError: saying what to do instead.
    """
    if path.split("://")[0].lower() in ("http", "https", "ftp", "ftps"):
        raise SettingsError(f"ckpt_path={path} is an address; fetch the file, look where it is from, and name its path")


@contextlib.contextmanager
def _remembering(path: Path) -> Iterator["_Remembering"]:
    """A file whose failure to be written reaches who writes it: torch tells of a full disk as an error of its own."""
    with open(path, "xb") as opened:
        file = _Remembering(opened)
        try:
            yield file
        except RuntimeError:
            if file.error is not None:
                raise file.error from None
            raise


class _Remembering:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            if self.error is None:
                return self._file.write(content)
        except OSError as error:
            self.error = error
        raise self.error or OSError(os.strerror(5))

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            self.error = error
            raise
