"""What elements may be called: the vocabularies of 5, 13 and 25 labels that papers use, by name.

References:
    PubLayNet, arXiv 1908.07836. Rico, UIST 2017, with the 13 labels of LayoutGAN++ (arXiv 2108.00871) and the 25 of
    LayoutFormer++ (arXiv 2208.08037), in its order. Magazine, ACM Trans. Graph. 38, 133 (2019).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from graft_lightning.types import SettingsError


@dataclass(frozen=True)
class Vocabulary:
    """The labels of a data set, in the order of their indices.

    Attributes:
        name: by which settings ask for it.
        labels: their names.
        background: those that lie under others on purpose; overlap may leave them out.
    """

    name: str
    labels: tuple[str, ...]
    background: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {plain(label): index for index, label in enumerate(self.labels)}

    def index(self, label: str) -> int | None:
        """The index of a label, written in any case and with any sign between words; None if it is not among them."""
        return self._indices.get(plain(label))

    @cached_property
    def background_indices(self) -> tuple[int, ...]:
        """The indices of `background`."""
        return tuple(self.labels.index(label) for label in self.background)


def plain(label: str) -> str:
    """A label in small letters without the signs between its words: ``On/Off Switch`` and ``On_Off_Switch`` are one."""
    return "".join(character for character in label.lower() if character.isalnum())


PUBLAYNET = Vocabulary("publaynet", ("text", "title", "list", "table", "figure"))
"""In the order of PubLayNet's category ids, which count from 1."""

RICO25 = Vocabulary(
    "rico25",
    (
        "Text", "Image", "Icon", "List Item", "Text Button", "Toolbar", "Web View", "Input", "Card", "Advertisement",
        "Background Image", "Drawer", "Radio Button", "Checkbox", "Multi-Tab", "Pager Indicator", "Modal",
        "On/Off Switch", "Slider", "Map View", "Button Bar", "Video", "Bottom Navigation", "Number Stepper",
        "Date Picker",
    ),
    ("List Item", "Card", "Background Image", "Modal"),
)  # fmt: skip

RICO13 = Vocabulary(
    "rico13",
    (
        "Toolbar", "Image", "Text", "Icon", "Text Button", "Input", "List Item", "Advertisement", "Pager Indicator",
        "Web View", "Background Image", "Drawer", "Modal",
    ),
    ("List Item", "Background Image", "Modal"),
)  # fmt: skip

MAGAZINE = Vocabulary("magazine", ("text", "image", "headline", "text-over-image", "headline-over-image"))

VOCABULARIES = {vocabulary.name: vocabulary for vocabulary in (PUBLAYNET, RICO13, RICO25, MAGAZINE)}


def vocabulary(name: str) -> Vocabulary:
    """The vocabulary of a name.

    Raises:
        SettingsError: if there is none; names those that there are.
    """
    if name not in VOCABULARIES:
        sizes = ", ".join(f"{known} ({len(labels)} labels)" for known, labels in VOCABULARIES.items())
        raise SettingsError(f"vocabulary={name!r}; it is one of {sizes}")
    return VOCABULARIES[name]


def best_vocabulary(labels: Iterable[str], first: str | None = None) -> str | None:
    """The name of the vocabulary that knows the most of some labels; None where none knows any.

    Args:
        labels: as they stand in a file.
        first: the name of the one that is taken among equals; the one with the fewest labels by default.
    """
    distinct = set(map(plain, labels))
    known = {name: sum(one.index(label) is not None for label in distinct) for name, one in VOCABULARIES.items()}
    best = max(known, key=lambda name: (known[name], name == first, -len(VOCABULARIES[name])))
    return best if known[best] else None
