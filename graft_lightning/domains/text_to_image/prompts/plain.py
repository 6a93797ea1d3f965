"""Prompts from lists of one's own: plain text, JSON Lines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft_lightning.domains.base.text_files import COLUMNS, decoded, say_blank, table, texts_of
from graft_lightning.domains.text_to_image.prompts.base import Prompt, PromptSet, read_bytes, read_text
from graft_lightning.types import SettingsError


class PromptFile(PromptSet):
    """Plain text, one prompt a line, or a table with a header (``.csv``, ``.tsv``).

    Surrounding blanks and empty prompts are dropped; of a table, it is said how many.

    Args:
        path: the file.
        column: header of a table's column of prompts; "prompt", "prompts", "caption" or "text" by default.
        tags: header of a table's column of tags, one a prompt; none by default.
    """

    def __init__(self, path: str, column: str | None = None, tags: str | None = None) -> None:
        self.path = path
        self.column = column
        self.tag_column = tags

    def read(self) -> list[Prompt]:
        content = read_bytes(
            Path(self.path).expanduser(), "write one prompt a line into it, or set `path` to such a file"
        )
        if self.tag_column is None:
            found = texts_of(content, self.path, self.column)
            return [Prompt(str(number), text) for number, text in enumerate(found)]
        rows = table(decoded(content, self.path), self.path, [self.column or COLUMNS, self.tag_column])
        kept = [(text.strip(), tag.strip()) for text, tag in rows if text.strip()]
        if not kept:
            raise SettingsError(f"{self.path} is empty: it holds no prompt")
        say_blank(self.path, len(rows) - len(kept))
        return [Prompt(str(number), text, (tag,) if tag else ()) for number, (text, tag) in enumerate(kept)]


class JSONLines(PromptSet):
    """One JSON object a line, or one array of objects. Blank prompts are dropped, and it is said how many.

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
            ValueError: if a line is not an object with the field ``text``, or a tag is no text; names the line.
            SettingsError: if no prompt is left.
        """
        text = read_text(
            Path(self.path).expanduser(), f'write one object {{"{self.text}": "..."}} a line into it, or set `path`'
        )
        found = [self._prompt(number, record) for number, record in enumerate(json_lines(text, self.path))]
        kept = [prompt for prompt in found if prompt.text.strip()]
        if not kept:
            raise SettingsError(f"{self.path} is empty: it holds no prompt")
        say_blank(self.path, len(found) - len(kept))
        return kept

    def _prompt(self, number: int, record: Mapping[str, Any]) -> Prompt:
        if self.text in record and not isinstance(record[self.text], str):
            value = record[self.text]
            raise ValueError(
                f"{self.path}: object {number + 1} has {self.text}={value!r}, which is {_kind(value)} and no text; "
                'write it in "quotes", or set `text` to the name of the field that holds the prompt'
            )
        if self.text not in record:
            raise ValueError(
                f"{self.path}: object {number + 1} has no text under {self.text!r} (it has {', '.join(record)}); "
                "set `text` to the name of the field that holds the prompt"
            )
        identity = record.get(self.id, number)
        if not isinstance(identity, str | int) or isinstance(identity, bool):
            raise ValueError(
                f"{self.path}: object {number + 1} has {self.id}={identity!r}; an id is a text or a number"
            )
        tags = tags_of(record.get(self.tag_field), f"{self.path}: object {number + 1} has {self.tag_field}")
        return Prompt(str(identity), record[self.text], tags)


def tags_of(value: Any, where: str) -> tuple[str, ...]:
    """Tags from a field that holds a text, a list of texts, or nothing.

    Raises:
        ValueError: for anything else; ``where`` names the field.
    """
    tags = [] if value is None or value == "" else [value] if isinstance(value, str) else value
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError(f"{where}={value!r} ({type(value).__name__}); tags are a text or a list of texts")
    return tuple(tags)


def json_lines(text: str, path: str) -> list[dict[str, Any]]:
    """The objects of a JSON Lines text, or of one JSON array; ``path`` is for the error.

    Raises:
        ValueError: if a line is not a JSON object, or holds half a character: no model encodes that.
    """
    found = _array(text)
    values = _lines(text, path) if found is None else [(f"element {i}", one) for i, one in enumerate(found, start=1)]
    records = []
    for where, record in values:
        if not isinstance(record, dict):
            raise ValueError(f"{path}, {where}: {_kind(record)}, expected an object")
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise ValueError(f"{path}, {where}: {half} is half a character, as of a text that was cut") from None
        records.append(record)
    return records


def _array(text: str) -> list[Any] | None:
    """The elements of a text that is one JSON array, on however many lines; None of another."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return None  # its lines say what is wrong
    return found if isinstance(found, list) else None


def _lines(text: str, path: str) -> list[tuple[str, Any]]:
    """What each line holds, and which one it is."""
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append((f"line {number}", json.loads(line)))
        except json.JSONDecodeError as error:
            over = "; an object must stand on one line, or all of them in one array" if line.strip() in "[{" else ""
            raise ValueError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno}){over}") from error
    return found


def _kind(value: Any) -> str:
    """What JSON calls a value, in words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}
    return names[type(value)]
