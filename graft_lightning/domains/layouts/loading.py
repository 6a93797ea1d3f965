"""The layouts of files as a stored set: parsed the first time, mapped into memory ever after."""

from collections.abc import Iterator
from pathlib import Path

from graft_lightning.domains.base.ragged_files import LeftOut
from graft_lightning.domains.layouts.dataset import CACHE, LayoutSet, stored
from graft_lightning.domains.layouts.files import Paths, guessed_vocabulary, read_layouts, source_files
from graft_lightning.domains.layouts.inspection import EMPTY, Inspection
from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.preprocessing import preprocessing as named
from graft_lightning.domains.layouts.vocabularies import vocabulary as vocabulary_of
from graft_lightning.identity import digest_of


def load_files(
    paths: Paths,
    preprocessing: str = "layoutdm",
    vocabulary: str | None = None,
    max_elements: int | None = None,
    cache: Path | str = CACHE,
    progress: bool = True,
) -> LayoutSet:
    """The layouts of files, folders or archives. What is left out is told, each time, and counted in the manifest.

    Args:
        paths: what `files.read_layouts` reads.
        preprocessing: what is kept, by name.
        vocabulary: what the labels mean; by the files themselves by default.
        max_elements: layouts with more are left out, in place of the pre-processing's own limit.
        cache: folder of stored sets.
        progress: whether to show a progress bar while they are parsed.

    Raises:
        FileNotFoundError: if a path is absent.
        SettingsError: if a file is broken or none is of a readable kind, or there is no such pre-processing or
            vocabulary, or the one that is guessed lacks most labels.
        ValueError: if nothing is left.
    """
    kept = named(preprocessing, max_elements)
    files = source_files(paths)
    known = vocabulary_of(vocabulary or guessed_vocabulary(paths))
    description: dict[str, object] = {
        "paths": [str(path) for path in ([paths] if isinstance(paths, Path | str) else paths)],
        "sources": digest_of([(str(f.absolute()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]),
        "preprocessing": preprocessing,
        "vocabulary": known.name,
        "max_elements": kept.max_elements,
    }

    def parse(left_out: LeftOut) -> Iterator[Layout]:
        from tqdm.auto import tqdm

        inspection = Inspection(known, kept.max_elements, kept.portrait)
        size = sum(file.stat().st_size for file in files)
        with tqdm(
            total=size,
            desc="reading",
            unit="B",
            unit_scale=True,
            disable=not progress,
            mininterval=1,
            delay=1,
            leave=False,
        ) as bar:
            for layout in read_layouts(paths, inspection, strict=True, read=bar.update):
                rounded = kept.apply(layout)
                if rounded is not None:
                    yield rounded
                else:
                    inspection.fault(EMPTY, f"{layout.source} ({layout.name}), once its edges are rounded")
        if vocabulary is None:
            inspection.refuse_wrong_guess()
        left_out.update(inspection.counts)
        left_out.first |= inspection.first

    return stored(Path(cache), "files", description, parse)
