"""What a configuration takes from the environment: used, but not written down."""

import copy
import os
import re
from collections.abc import Sequence
from typing import Any

from graft_lightning.cli.words import with_files
from graft_lightning.identity import hide

FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*([A-Za-z_]\w*)[^}]*\}")

_written: dict[str, str] = {}
"""By the text that stands in a parsed configuration what was written in its place."""


def note_secrets(args: Sequence[str]) -> None:
    """Notes what a command line, and the files that it names, take from the environment.

    From now on identities show these values as digests, and `unresolved` puts the references back.
    """
    _written.clear()
    for text in with_files(args):
        note_text(text)


def note_text(text: str) -> None:
    """The same of one text, as of a file that is found while a configuration is parsed."""
    for found in FROM_ENVIRONMENT.finditer(text):
        value = os.environ.get(found[1])
        if value:
            _written[value] = found[0]
            hide(_written)


def unresolved(value: Any) -> Any:
    """A copy of a configuration that refers to the environment again where it was taken from there."""
    if isinstance(value, str):
        for secret in sorted(_written, key=len, reverse=True):
            if value == secret or (len(secret) > 5 and secret in value):
                value = value.replace(secret, _written[secret])
        return value
    if isinstance(value, list | tuple):
        return type(value)(unresolved(item) for item in value)
    if isinstance(value, dict):
        return {key: unresolved(item) for key, item in value.items()}
    if hasattr(value, "items"):
        found = copy.copy(value)
        vars(found).update({key: unresolved(item) for key, item in vars(value).items()})
        return found
    return value
