"""The parser of configurations: an error has the whole path of its key, fits on the screen, and says what was meant."""

import difflib
import functools
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import yaml
from jsonargparse import get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from graft_lightning.cli.mistakes import mistakes
from graft_lightning.cli.secrets import note_text
from graft_lightning.cli.sentences import sentence
from graft_lightning.cli.words import configurations
from graft_lightning.cli.written import merged, overridden, overrides, read_yaml, require_keys_once
from graft_lightning.refusals import SettingsError

REFERS = ("${", "???")
"""What OmegaConf understands in a text."""

SHOWN = 80
"""Letters of a text that an error shows."""


def load(text: str) -> Any:
    """What a value stands for; texts that refer to something are left to OmegaConf, whose loader takes a while.

    Raises:
        yaml.YAMLError: if it is no YAML, or has a key twice in one place.
    """
    note_text(text)
    found = get_loader("yaml")(text)
    if isinstance(found, dict | list):
        try:
            require_keys_once(text)
        except yaml.constructor.ConstructorError as error:
            Parser.twice = f"{error.problem}, of {_shown(text)}"
            raise
    if not isinstance(found, dict | list) or not any(mark in text for mark in REFERS):
        return found
    from omegaconf import OmegaConf

    resolved = OmegaConf.to_object(OmegaConf.load(io.StringIO(text)))
    return found if resolved == {text: None} else resolved


def _shown(text: str) -> str:
    first = text.strip().partition("\n")[0]
    return first if first == text.strip() and len(first) < SHOWN else f"{first[:SHOWN]} ..."


set_loader("omegaconf", load, (yaml.YAMLError,))


class Parser(LightningArgumentParser):
    """A parser whose errors fit on the screen and suggest what was meant.

    Attributes:
        sources: the configurations as they were written; in them an error finds the whole path of its key.
        words: of the command line.
        sections: by key of a configuration, the class whose arguments stand below it.
        declared: by key, the type of what else stands there.
        twice: what is wrong with a text, if one has a key twice in one place; the parser takes it for a name.
    """

    twice: ClassVar[str] = ""
    sources: ClassVar[list[Any]] = []
    words: ClassVar[Sequence[str]] = ()
    sections: ClassVar[Mapping[str, Any]] = {}
    declared: ClassVar[Mapping[str, Any]] = {}

    def add_method_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Without a group of the method's own: one is called ``collect``, as a block of the configuration is."""
        kwargs["as_group"] = False
        return super().add_method_arguments(*args, **kwargs)

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """A configuration as text, not held against its types once more: it was, when it was parsed."""
        kwargs.setdefault("skip_validation", True)
        return super().dump(*args, **kwargs)

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Prints the message, without the usage text, and exits with 2."""
        if kwargs.get("ex") is not None or args:
            message = message or str(args[0] if args else kwargs["ex"])
        told = self._of_a_setting(message) or self._of_the_parser(message)
        if Parser.twice and ("there is no" in told or "twice" in told):  # not of a text that only looks like YAML
            key = re.match(r"[\w.\[\]]+(?=[=:])", told)
            told = f"{key[0]}: {Parser.twice}" if key else Parser.twice
        raise Mistaken(told)

    def _of_a_setting(self, message: str) -> str | None:
        """What is wrong with the first setting that cannot be meant; None where there is none, or one is lacking."""
        if "required" in message:
            return None
        if "expected one argument" in message:
            return next((f"--{key} needs a value" for key, value in overrides(Parser.words) if value is None), None)
        settings = overridden(functools.reduce(merged, Parser.sources, {}), Parser.words)
        return next(mistakes(settings, Parser.sections, Parser.declared, message), None)

    def _of_the_parser(self, message: str) -> str:
        """The parser's own words, and what was meant."""
        parsers = [self, *(p for a in self._actions for p in (getattr(a, "_name_parser_map", None) or {}).values())]
        known = [action.dest for parser in parsers for action in parser._actions]
        told = sentence(message, Parser.sources)
        if "required" in message and not Parser.sources:
            told += "; name a configuration with --config FILE"
        for wrong in re.findall(r"[Oo]ption '([\w.]+)'|[Uu]nrecognized arguments: --([\w.]+)", message):
            name = next(part for part in wrong if part)
            close = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(
                name.rsplit(".", 1)[-1], [k.rsplit(".", 1)[-1] for k in known], n=1
            )
            if close and "did you mean" not in told:
                told += f"; did you mean '{close[0]}'?"
        return told


class Mistaken(SystemExit):
    """A command line or configuration that the parser refuses.

    Attributes:
        message: what is wrong.
    """

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message


def read_sources(args: Sequence[str]) -> None:
    """Reads the configurations that a command line names, for errors to find their keys in; refuses files of many runs.

    Raises:
        SettingsError: if a file cannot be read as text, is none of YAML, or describes many runs; says what that is for.
    """
    Parser.sources, Parser.words = [], list(args)
    for file in configurations(args):
        found = read_yaml(file)
        if isinstance(found, dict) and {"cells", "chains"} <= found.keys():
            raise SettingsError(f"{file} describes many runs: python -m graft_lightning sweep {file}")
        Parser.sources.append(found)
