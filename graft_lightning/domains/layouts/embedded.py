"""The embedded set: procedural pages, made on first use. No file is needed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from graft_lightning.domains.layouts.dataset import CACHE, LayoutSet, stored
from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.pages import Pages
from graft_lightning.domains.layouts.vocabularies import PUBLAYNET

COUNT = 20_000
"""Pages of the embedded set by default."""

VERSION = 1
"""Raised when `pages` draws others, so that old folders are left alone."""


def load_embedded(
    pages: Pages | None = None, count: int = COUNT, cache: Path | str = CACHE, progress: bool = True
) -> LayoutSet:
    """The embedded set; made the first time, in five seconds on one core for the default size.

    Args:
        pages: how they are drawn; as `pages.Pages` by default.
        count: how many.
        cache: folder of stored sets.
        progress: whether to show a progress bar while it is made.
    """
    drawn = pages or Pages()
    description = {"version": VERSION, "vocabulary": PUBLAYNET.name, "count": count, **asdict(drawn)}

    def make(left_out: Counter[str]) -> Iterator[Layout]:
        from tqdm.auto import tqdm

        yield from tqdm(
            drawn.pages(count), "drawing pages", count, disable=not progress, mininterval=1, delay=1, leave=False
        )

    return stored(Path(cache), "embedded", description, make, tell=False)
