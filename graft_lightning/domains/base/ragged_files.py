"""Makes the stored sets that `ragged` reads: once, completely or not at all, element by element as samples come."""

import fcntl
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from graft_lightning.domains.base.elements import Elements, Field
from graft_lightning.domains.base.ragged import MANIFEST, OFFSETS, REMEDY
from graft_lightning.domains.base.sums import check_sums, write_sums
from graft_lightning.durable import replacing_folder
from graft_lightning.identity import digest_of

logger = logging.getLogger(__name__)

FIRST = "first_left_out"
"""Where in a manifest it stands which was the first of what was left out, by reason; not of older sets."""


class LeftOut(Counter[str]):
    """Counts what is left out, by reason.

    Attributes:
        first: where a reason was met first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, str] = {}

    def add(self, reason: str, where: str) -> None:
        """Counts one, and remembers where the first of its kind is."""
        self[reason] += 1
        self.first.setdefault(reason, where)


Make = Callable[[LeftOut], Iterable[Mapping[str, Any]]]
"""Yields samples, as `Elements.arrays` takes them, and counts in its argument what it leaves out, by reason."""


def stored(
    cache: Path, name: str, description: Mapping[str, object], elements: Elements, make: Make, tell: bool = True
) -> Path:
    """The folder of the set that ``description`` names; made if it is not there.

    It is written beside its place and renamed, so that a folder that exists is complete. Processes that ask at the same
    time wait for the first one. Samples are written as they come: memory does not grow with their number, but for eight
    bytes each.

    Args:
        cache: folder of stored sets.
        name: first part of the folder's name.
        description: everything that decides the content, a number for the format among it, which is raised when the
            fields or the parsing change; its hash is the second part of the name.
        elements: what samples consist of.
        make: yields the samples.
        tell: whether to warn of what was left out, by reason, whenever the set is opened; not of sets that are meant to
            leave some out.

    Raises:
        DamagedFile: if a file of a set that is there is not as it was written; names it.
        ValueError: if nothing is left, or a sample does not fit ``elements``.
    """
    folder = cache / f"{name}-{digest_of(description)}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(cache / f"{folder.name}.lock"):
            if not folder.exists():
                _write(folder, description, elements, make, tell)
                return folder
    check_sums(folder, REMEDY)
    if tell:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        tell_left_out(manifest["left_out"], manifest.get(FIRST, {}))
    return folder


def tell_left_out(counts: Mapping[str, int], first: Mapping[str, str]) -> None:
    """Warns of what was left out, the most frequent reason first; of several processes only the first one does.

    Args:
        counts: how many were left out, by reason.
        first: which was the first of them, where that is known.
    """
    if not counts:
        return
    from lightning.pytorch.utilities import rank_zero_only  # it takes a second, and mostly nothing is left out

    if getattr(rank_zero_only, "rank", 0):
        return
    for reason, number in Counter(counts).most_common():
        where = f"; the first is {first[reason]}" if reason in first else ""
        logger.warning("%d x %s: left out%s", number, reason, where)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(folder: Path, description: Mapping[str, object], elements: Elements, make: Make, tell: bool) -> None:
    left_out = LeftOut()
    offsets = [0]
    with replacing_folder(folder) as temporary:
        temporary.mkdir()
        with ExitStack() as stack:
            files = {name: stack.enter_context((temporary / f"{name}.npy").open("wb")) for name in elements.fields}
            for name, file in files.items():
                _head(file, elements.fields[name], 0)
            for sample in make(left_out):
                arrays = elements.arrays(sample, f"{elements.sample} {len(offsets) - 1}")
                for name, file in files.items():
                    file.write(arrays[name].tobytes())
                offsets.append(offsets[-1] + len(next(iter(arrays.values()))))
            for name, file in files.items():
                file.seek(0)
                _head(file, elements.fields[name], offsets[-1])
        if tell:
            tell_left_out(left_out, left_out.first)
        if len(offsets) == 1:
            raise ValueError(
                f"no {elements.sample} is left of {dict(description)}; left out: {dict(left_out) or 'none'}"
            )
        np.save(temporary / f"{OFFSETS}.npy", np.array(offsets, dtype=np.int64))
        manifest = {**description, f"{elements.sample}s": len(offsets) - 1, "left_out": dict(left_out)}
        if left_out.first:
            manifest[FIRST] = left_out.first
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        write_sums(temporary)


def _head(file: IO[bytes], field: Field, count: int) -> None:
    """What stands before the numbers; NumPy leaves room for the count to grow."""
    form = {
        "descr": np.lib.format.dtype_to_descr(field.file_dtype),
        "fortran_order": False,
        "shape": (count, *field.shape),
    }
    np.lib.format.write_array_header_1_0(file, form)
