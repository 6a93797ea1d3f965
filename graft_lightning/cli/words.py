"""Command lines as words: the configurations that they name are looked up, and read for what these name."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft_lightning.shipped import config_file


def words_of(args: Any) -> list[str]:
    """The words of a command line; of a configuration that was given in its place, its text."""
    if args is None:
        return sys.argv[1:]
    return [str(word) for word in args] if isinstance(args, list | tuple) else [str(args)]


def with_shipped(words: Sequence[str]) -> list[str]:
    """The words of a command line, in which configurations that are not there are those that ship."""
    found = []
    for before, word in zip(["", *words], words, strict=False):
        option, is_set, value = word.partition("=")
        if before in ("-c", "--config"):
            word = str(config_file(word))
        elif is_set and option in ("-c", "--config"):
            word = f"{option}={config_file(value)}"
        found.append(word)
    return found


def with_files(words: Sequence[str]) -> list[str]:
    """Words, and the texts of the YAML files that they name, and of those that these name."""
    texts, waiting, seen = list(words), list(words), set[Path]()
    while waiting:
        for name in re.findall(r"[^\s=\"']+\.ya?ml", waiting.pop()):
            file = Path(name)
            if file not in seen and file.is_file():
                seen.add(file)
                texts.append(file.read_text(encoding="utf-8", errors="replace"))
                waiting.append(texts[-1])
    return texts


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
