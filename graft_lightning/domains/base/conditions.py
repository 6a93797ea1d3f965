"""Lists of conditions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graft_lightning.domains.base.text_files import texts_of
from graft_lightning.types import SettingsError


class Conditions(ABC):
    """A list of conditions, as text: prompts, class names, "n=18", or a single "" where there is nothing to say."""

    @abstractmethod
    def texts(self) -> list[str]:
        """Every condition once; loads what it needs.

        Raises:
            FileNotFoundError: if a file is absent; says where it comes from.
        """

    def averages(self, scores: Mapping[str, float]) -> dict[str, float]:
        """A benchmark's own metrics, from the mean score of every condition: by skill, overall. None by default."""
        return {}


def listed(conditions: Conditions) -> list[str]:
    """The texts of conditions, held to be a list of texts: those of one's own may be anything.

    Raises:
        SettingsError: naming the class, what it returned, and what would be right.
    """
    found: Any = conditions.texts()
    kind, right = type(conditions).__name__, "it must return a list of one or more texts, in an order that stays"
    ordered = isinstance(found, Sequence | np.ndarray) and not isinstance(found, str | bytes)
    if not ordered or len(found) == 0:
        what = f"an object of type {type(found).__name__}" if found is not None and not ordered else repr(found)
        raise SettingsError(f"{kind}.texts returned {what}; {right}")
    wrong = next((place for place, text in enumerate(found) if not isinstance(text, str)), None)
    if wrong is not None:
        item = found[wrong]
        raise SettingsError(f"{kind}.texts returned {item!r} of type {type(item).__name__} at place {wrong}; {right}")
    return [str(text) for text in found]


class Texts(Conditions):
    """Conditions written out.

    Args:
        values: one text a condition.
    """

    def __init__(self, values: list[str]) -> None:
        self.values = values

    def texts(self) -> list[str]:
        return list(self.values)


class TextFile(Conditions):
    """Conditions from a file, one a line, or from a table with a header (``.csv``, ``.tsv``).

    Empty lines and repetitions are left out, and blanks around a text. A ``.jsonl`` file holds a text in quotes a line,
    which is kept as it is.

    Args:
        path: of the file, in UTF-8, or in UTF-16 with a byte order mark.
        limit: at most so many, from the top.
        column: header of the column of texts of a table; "prompt", "prompts", "caption" or "text" by default.
    """

    def __init__(self, path: str, limit: int | None = None, column: str | None = None) -> None:
        self.path = path
        self.limit = limit
        self.column = column

    def texts(self) -> list[str]:
        """Every condition once.

        Raises:
            FileNotFoundError: if the file is absent.
            SettingsError: if it is empty, or in an encoding that cannot be told; names the file.
        """
        file = Path(self.path).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"path={self.path}: there is no such file of conditions, one a line")
        return list(dict.fromkeys(texts_of(file.read_bytes(), self.path, self.column)))[: self.limit]


class Unconditional(Conditions):
    """The one empty condition."""

    def texts(self) -> list[str]:
        return [""]
