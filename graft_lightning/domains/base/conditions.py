"""Lists of conditions."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path


class Conditions(ABC):
    """A list of conditions, as text: prompts, class names, "n=18", or a single "" where there is nothing to say."""

    @abstractmethod
    def texts(self) -> list[str]:
        """Every condition once; loads what it needs.

        Raises:
            FileNotFoundError: if a file is absent; says where it comes from.
        """

    def averages(self, scores: Mapping[str, float]) -> dict[str, float]:
        """A benchmark's own figures, from the mean score of every condition: by skill, overall. None by default."""
        return {}


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
    """Conditions from a file, one a line; empty lines and repetitions are left out.

    Args:
        path: of the file.
        limit: at most so many, from the top.
    """

    def __init__(self, path: str, limit: int | None = None) -> None:
        self.path = path
        self.limit = limit

    def texts(self) -> list[str]:
        file = Path(self.path)
        if not file.is_file():
            raise FileNotFoundError(f"path={self.path}: there is no such file of conditions, one a line")
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        return list(dict.fromkeys(line for line in lines if line))[: self.limit]


class Unconditional(Conditions):
    """The one empty condition."""

    def texts(self) -> list[str]:
        return [""]
