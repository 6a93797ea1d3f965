"""Command lines as words: the configurations that they name are looked up, and read for what these name."""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from graft_lightning.shipped import config_file

CONFIG = ("-c", "--config")


def words_of(args: Any) -> list[str]:
    """The words of a command line; of a configuration that was given in its place, its text."""
    if args is None:
        return sys.argv[1:]
    return [str(word) for word in args] if isinstance(args, list | tuple) else [str(args)]


def with_shipped(words: Sequence[str]) -> list[str]:
    """The words of a command line, in which configurations that are not there are those that ship."""
    return [option + (str(config_file(value)) if is_config else value) for option, value, is_config in _parted(words)]


def configurations(words: Sequence[str]) -> list[Path]:
    """The files that a command line names as configurations, in its order."""
    return [file for _, value, is_config in _parted(words) if is_config and (file := _file(value)) is not None]


def with_files(words: Sequence[str]) -> list[str]:
    """Words, and the texts of the files that they name, and of the YAML files that these name."""
    texts, waiting, seen = list(words), [*configurations(words), *_named(words, Path())], set[Path]()
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            texts.append(file.read_text(encoding="utf-8", errors="replace"))
            waiting += _named(texts[-1:], file.parent)
    return texts


def _named(texts: Sequence[str], folder: Path) -> Iterator[Path]:
    """The YAML files that texts name, seen from here or from a folder; one path each, however it is written."""
    for text in texts:
        for word in re.split(r"[\s=\"']+", text):
            ends = [word.rfind(suffix) + len(suffix) for suffix in (".yaml", ".yml") if suffix in word]
            for place in (Path(), folder) if ends else ():
                if (file := _file(os.path.normpath(place / word[: max(ends)]))) is not None:
                    yield file


def _parted(words: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """Each word in two: ``--option=`` or nothing, and a value; and whether this is a configuration."""
    for before, word in zip(["", *words], words, strict=False):
        option, is_set, value = word.partition("=")
        if is_set and option.startswith("-"):
            yield f"{option}=", value, option in CONFIG
        elif re.match("-c[^-]", word):  # as argparse takes it too
            yield "-c", word[2:], True
        else:
            yield "", word, before in CONFIG


def _file(name: str) -> Path | None:
    try:
        return file if (file := Path(name)).is_file() else None
    except (OSError, ValueError):  # too long for a name, or with a zero byte: a text
        return None


def add_layers(parser: argparse.ArgumentParser, what: str, required: bool = False) -> None:
    """The option --config, which may be given again as for fit: its files, in order, are ``config`` of what is parsed.

    Args:
        parser: gets the option.
        what: they are, for --help.
        required: whether there has to be one.
    """
    text = f"{what}; may be given again, later over earlier"
    parser.add_argument(
        "--config", type=config_file, action="append", default=[], required=required, metavar="FILE", help=text
    )
