"""Prompt sets: what is asked of a text-to-image model, and how scores by prompt become a table.

A set is named by its files and reads them when it is first asked. Prompts are kept byte for byte where a benchmark
defines them (a leading blank changes the tokens of a question that quotes the prompt); plain lists are stripped.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from graft_lightning.domains.base import Conditions
from graft_lightning.domains.base.text_files import decoded
from graft_lightning.domains.base.text_files import lines as lines
from graft_lightning.types import SettingsError


@dataclass(frozen=True)
class Prompt:
    """One prompt: its id within the set, the text, and the tags (skills, categories) under which it is averaged."""

    id: str
    text: str
    tags: tuple[str, ...] = ()


Overall = Callable[[Sequence[Prompt], Tensor], float]
"""Prompts and their scores to one figure."""


class PromptSet(Conditions):
    """An ordered set of prompts. Constructors read nothing; the first question does.

    Scores are given in the order of `prompts` as ``(prompts,)`` or, with several images a prompt, ``(prompts,
    images)``; or as a dictionary from text to the mean score of its images.
    """

    _read: list[Prompt] | None = None

    @abstractmethod
    def read(self) -> list[Prompt]:
        """Reads the prompts from their files.

        Raises:
            MissingPromptsError: if a file is absent; says where it comes from.
        """

    def prompts(self) -> list[Prompt]:
        """Every prompt, in the order of the files."""
        if self._read is None:
            self._read = self.read()
        return self._read

    def texts(self) -> list[str]:
        """Every text once, in order of appearance: what a text-to-image model is asked for."""
        return list(dict.fromkeys(prompt.text for prompt in self.prompts()))

    def tags(self) -> list[tuple[str, ...]]:
        """The tags of every prompt, in the order of `prompts`."""
        return [prompt.tags for prompt in self.prompts()]

    def __len__(self) -> int:
        return len(self.prompts())

    def __bool__(self) -> bool:
        """A set is there, whatever it holds: asking must not read its files."""
        return True

    def averages(self, scores: Sequence[float] | Tensor | Mapping[str, float]) -> dict[str, float]:
        """The mean score under "overall" and under every tag, tags in order of appearance.

        A NaN score makes every mean that it belongs to NaN: a table must not hide what could not be judged.

        Raises:
            ValueError: if there is not one score, or one row of scores, a prompt.
            KeyError: if a dictionary lacks a text.
        """
        if isinstance(scores, Mapping):
            scores = [scores[prompt.text] for prompt in self.prompts()]
        return averages(self.prompts(), scores, self.overall)

    def overall(self, prompts: Sequence[Prompt], scores: Tensor) -> float:
        """The benchmark's own single figure, from one score a prompt; here the plain mean."""
        return float(scores.mean())


class MissingPromptsError(FileNotFoundError):
    """A prompt file that is not where it was looked for."""

    def __init__(self, path: Path, where: str) -> None:
        super().__init__(f"prompt file {str(path)!r} is absent; {where}")


def averages(prompts: Sequence[Prompt], scores: Sequence[float] | Tensor, overall: Overall) -> dict[str, float]:
    """`PromptSet.averages` for any list of prompts."""
    values = torch.as_tensor(scores, dtype=torch.float64)
    if values.ndim not in (1, 2) or len(values) != len(prompts):
        raise ValueError(
            f"scores of shape {tuple(values.shape)} for {len(prompts)} prompts; "
            f"expected ({len(prompts)},) or ({len(prompts)}, images per prompt)"
        )
    values = values if values.ndim == 1 else values.mean(1)
    rows: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        for tag in prompt.tags:
            rows.setdefault(tag, []).append(row)
    means = {tag: float(values[members].mean()) for tag, members in rows.items()}
    return {"overall": overall(prompts, values), **means}


def read_bytes(path: Path, where: str) -> bytes:
    """The content of a prompt file.

    Raises:
        MissingPromptsError: if it is absent; ``where`` says where to get it.
        SettingsError: if it is a folder, or not readable.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingPromptsError(path, where) from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror})") from error


def read_text(path: Path, where: str) -> str:
    """The text of a prompt file, in any encoding that `decoded` can tell.

    Raises:
        MissingPromptsError: if it is absent; ``where`` says where to get it.
        SettingsError: if it is empty, or in another encoding; names the file.
    """
    text = decoded(read_bytes(path, where), path)
    if not text.strip():
        raise SettingsError(f"{path} is empty: it holds no prompt")
    return text
