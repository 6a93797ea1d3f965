"""Prompts from lists of one's own: plain text, JSON Lines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft_lightning.domains.text_to_image.prompts.base import Prompt, PromptSet, lines, read_text


class PromptFile(PromptSet):
    """Plain text, one prompt a line; surrounding blanks and empty lines are dropped.

    Args:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> list[Prompt]:
        text = read_text(Path(self.path).expanduser(), "write one prompt a line into it, or set `path` to such a file")
        return [Prompt(str(number), line) for number, line in enumerate(lines(text))]


class JSONLines(PromptSet):
    """One JSON object a line.

    Args:
        path: the file.
        text: the field that holds the prompt.
        tags: the field that holds a tag or a list of tags; objects without it have none.
        id: the field that holds the id; objects without it are numbered by line, from 0.
    """

    def __init__(self, path: str, text: str = "prompt", tags: str = "tags", id: str = "id") -> None:  # noqa: A002
        self.path = path
        self.text = text
        self.tag_field = tags
        self.id = id

    def read(self) -> list[Prompt]:
        """Reads the file.

        Raises:
            MissingPromptsError: if it is absent.
            ValueError: if a line is not an object with the field ``text``; names the line.
        """
        text = read_text(
            Path(self.path).expanduser(), f'write one object {{"{self.text}": "..."}} a line into it, or set `path`'
        )
        return [self._prompt(number, record) for number, record in enumerate(json_lines(text, self.path))]

    def _prompt(self, number: int, record: Mapping[str, Any]) -> Prompt:
        if not isinstance(record.get(self.text), str):
            raise ValueError(
                f"{self.path}: object {number + 1} has no text under {self.text!r} (it has {', '.join(record)}); "
                "set `text` to the name of the field that holds the prompt"
            )
        tags = record.get(self.tag_field) or ()
        tags = (tags,) if isinstance(tags, str) else tuple(map(str, tags))
        return Prompt(str(record.get(self.id, number)), record[self.text], tags)


def json_lines(text: str, path: str) -> list[dict[str, Any]]:
    """The objects of a JSON Lines text; ``path`` is for the error.

    Raises:
        ValueError: if a line is not a JSON object.
    """
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno})") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number}: a {type(record).__name__}, expected an object")
        records.append(record)
    return records
