"""Training layouts, addressed by position in an endless stream."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from graft_lightning.domains.base import Examples
from graft_lightning.domains.base.counts import condition_of
from graft_lightning.domains.layouts.dataset import CACHE, LayoutSet
from graft_lightning.domains.layouts.embedded import COUNT, load_embedded
from graft_lightning.domains.layouts.loading import load_files
from graft_lightning.domains.layouts.pages import Pages
from graft_lightning.domains.layouts.preprocessing import preprocessing as named
from graft_lightning.domains.layouts.preprocessing import split
from graft_lightning.domains.layouts.states import state_of
from graft_lightning.shuffles import shuffles
from graft_lightning.types import SettingsError

Part = Literal["train", "valid", "test", "all"]
PARTS = ("train", "valid", "test", "all")


class LayoutExamples(Examples):
    """Layouts of one part of a set, in an endless sequence of shuffles; the condition is ``n=<number of elements>``.

    They come as the states of the noise process, whose boxes fill [-1, 1]; ``layouts`` are the layouts themselves.

    Args:
        part: of the split, or all.
    """

    def __init__(self, part: Part = "train") -> None:
        if part not in PARTS:
            raise SettingsError(f"part={part!r}; it is one of {', '.join(PARTS)}")
        self.part = part

    @abstractmethod
    def load(self) -> LayoutSet:
        """The whole set, all parts of it."""

    @cached_property
    def whole(self) -> LayoutSet:
        """What `load` gives; loaded once, so that what was left out is told once."""
        return self.load()

    @cached_property
    def layouts(self) -> LayoutSet:
        """The layouts of the part; loaded when first asked for.

        Raises:
            SettingsError: if the part is empty, as parts of very small sets are.
        """
        whole = self.whole
        part = whole if self.part == "all" else whole.subset(self.parts(whole)[self.part])
        if not len(part):
            raise SettingsError(f"part={self.part!r} has none of {len(whole)} layouts; give more, or part='all'")
        return part

    def parts(self, whole: LayoutSet) -> dict[str, Any]:
        """Indices of the layouts of each part."""
        return split(len(whole), whole.vocabulary.name)

    @cached_property
    def width(self) -> int:
        """Elements per row of a batch: those of the largest layout of all parts, so that all parts look alike."""
        return self.whole.width

    def __len__(self) -> int:
        return len(self.layouts)

    def batch(self, positions: Sequence[int], seed: int) -> tuple[Any, list[str]]:
        chosen = shuffles(len(self.layouts), seed, "layouts").at(positions)
        found = self.layouts.read(chosen, self.width)
        return state_of(found), [condition_of(count) for count in self.layouts.counts[chosen].tolist()]


class EmbeddedLayouts(LayoutExamples):
    """Procedural pages, made on first use, that need no file: 90 % train, 5 % valid, 5 % test.

    Args:
        count: pages in all.
        max_elements: pages with more are drawn anew.
        misaligned: share of pages whose elements are moved off their guides.
        jitter: standard deviation of what edges are moved by on those pages, in shares of the page's side.
        page_seed: of all pages.
        cache: folder of stored sets.
        part: of the pages, or all.
    """

    def __init__(
        self,
        count: int = COUNT,
        max_elements: int = 16,
        misaligned: float = 0.5,
        jitter: float = 0.01,
        page_seed: int = 0,
        cache: str = str(CACHE),
        part: Part = "train",
    ) -> None:
        super().__init__(part)
        if count < 1:
            raise SettingsError(f"count={count}; at least 1 page is needed")
        self.count, self.cache = count, cache
        self.pages = Pages(page_seed, max_elements, misaligned, jitter)

    def load(self) -> LayoutSet:
        return load_embedded(self.pages, self.count, Path(self.cache))

    def parts(self, whole: LayoutSet) -> dict[str, Any]:
        held_out = round(0.05 * len(whole))
        cuts = [0, len(whole) - 2 * held_out, len(whole) - held_out, len(whole)]
        return {part: range(cuts[k], cuts[k + 1]) for k, part in enumerate(("train", "valid", "test"))}


class LayoutFiles(LayoutExamples):
    """Layouts of files: PubLayNet, Rico, Magazine, or what this package has written.

    Args:
        paths: files, folders, archives.
        preprocessing: what is kept: "layoutdm", "layoutdiffusion" or "none" (`preprocessing`).
        vocabulary: what the labels mean; by the files themselves by default.
        max_elements: layouts with more are left out, in place of the pre-processing's own limit.
        cache: folder of stored sets.
        part: of the split, or all: the whole of a file that is a part already.
    """

    def __init__(
        self,
        paths: list[str],
        preprocessing: str = "layoutdm",
        vocabulary: str | None = None,
        max_elements: int | None = None,
        cache: str = str(CACHE),
        part: Part = "train",
    ) -> None:
        super().__init__(part)
        named(preprocessing, max_elements)
        self.paths, self.preprocessing, self.vocabulary = list(paths), preprocessing, vocabulary
        self.max_elements, self.cache = max_elements, cache

    def load(self) -> LayoutSet:
        return load_files(self.paths, self.preprocessing, self.vocabulary, self.max_elements, self.cache)
