"""The parser of a command that is not about one configuration: its page says what the function's docstring says."""

import argparse
import inspect
import re
from collections.abc import Callable
from typing import Any

PROGRAM = "python -m graft_lightning"
SAYS_DEFAULT = re.compile(r"\bdefaults?\b")
EXITS = re.compile(r"^ *SystemExit: (.*?)\s*(?=^\S|^ {4}\w+: |\Z)", re.MULTILINE | re.DOTALL)
"""What a docstring says of exit statuses, in its section on errors."""


class Command(argparse.ArgumentParser):
    """The parser of a command.

    Args:
        name: of the command, and of what stands below it.
        function: that runs it; the first paragraph of its docstring opens the page, its exit statuses end it.
        more: said after that paragraph.
        epilog: said before the exit statuses.
        kwargs: `argparse.ArgumentParser`'s.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], more: str = "", epilog: str = "", **kwargs: Any
    ) -> None:
        text = inspect.getdoc(function) or ""
        said = [" ".join(text.partition("\n\n")[0].split()), more]
        found = EXITS.search(text)
        status = f"Exit status: 0, or {' '.join(found[1].split())}" if found else ""
        super().__init__(
            prog=f"{PROGRAM} {name}",
            description=" ".join(part for part in said if part),
            epilog="\n\n".join(part for part in (epilog, status) if part),
            formatter_class=_Page,
            **kwargs,
        )


class _Page(argparse.HelpFormatter):
    """Says the default of every option that has one, unless its text does; keeps paragraphs apart."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(super(_Page, self)._fill_text(part, width, indent) for part in text.split("\n\n"))

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        number_or_name = isinstance(action.default, str | int | float) and not isinstance(action.default, bool)
        if not text or not action.option_strings or not number_or_name or action.default in ("", argparse.SUPPRESS):
            return text
        return text if SAYS_DEFAULT.search(text) else f"{text} (default: %(default)s)"
