"""Messages of the parser and of constructors, brought to one sentence with the whole path of the key."""

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from graft_lightning.cli.settings import path_of
from graft_lightning.ranges import parameters

NOISE = re.compile(
    r"Does not validate against any|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>"
    r"|Problem with given class_path|Expected a path but|Not a valid subclass|Subclass types expect"
    r"|a class path \(str\)|a dict with"
)
VALUE = re.compile(r"(?:got|Got value:) (.*)$")
GIVEN = re.compile(r"Given value: (.*)$", re.M)
CLASS = re.compile(r"(?:dot import path string: |No module named |class_path )'?([\w.]+)")
KEY = re.compile(r"Parser key \"([^\"]+)\":?\s*(.*)")


def sentence(message: str, sources: Sequence[Any] = ()) -> str:
    """One sentence of the parser's account of every type that it tried in vain: the deepest key, and what is wrong.

    Args:
        message: of the parser.
        sources: the configurations as they were written, in which the key is looked up where the parser leaves out what
            it stands below.
    """
    keys: list[str] = []
    said: list[str] = []
    for line in message.splitlines():
        text = line.strip().removeprefix("- ").strip()
        if found := KEY.match(text):
            keys.append(found[1])
            said, text = [], found[2]
        if text and not NOISE.match(text):
            said.append(text)
    what = "; ".join(dict.fromkeys(plain(line) for line in said)) if said else " ".join(message.split())
    key = ".".join(keys)
    value = VALUE.search(what) or GIVEN.search(message)
    absent = re.search(r"[Kk]ey \"([\w.]+)\" is required|arguments? (?:is|are) required: (?:--|\w+\.)?([\w.]+)", what)
    if absent:
        name = absent[1] or absent[2]
        where = [p for source in sources for p in _lacking(name, source, keys[-1] if keys else "")]
        return f"{where[0] if where else f'{key}.{name}'.strip('.')} is not set; it has no default"
    for last, shown in (("class_path", CLASS.search(what)), (keys[-1] if keys else "", value)):
        for source in sources if last and shown else ():
            if path := path_of(last, str(shown[1]) if shown else "", source):
                return f"{path}: {what}"
    return f"{key}: {what}" if key else what


def _lacking(name: str, settings: Any, above: str, path: str = "") -> Iterator[str]:
    """Paths of an argument that is left empty, or that is left out below a key of this name.

    Where the parser does not say what it stands below, it is every class that needs such an argument and has none.
    """
    if isinstance(settings, list):
        for place, item in enumerate(settings):
            yield from _lacking(name, item, above, f"{path}[{place}]")
    elif isinstance(settings, dict):
        here = re.sub(r"\[\d+\]$", "", path).rpartition(".")[2]
        given = settings.get("init_args") or {}
        if "class_path" in settings and given.get(name) is None:
            needed = here == above.rpartition(".")[2] if above else _needs(str(settings["class_path"]), name)
            if name in given or needed:
                yield f"{path}.{name}"
        for key, item in settings.items():
            yield from _lacking(name, item, above, path if key == "init_args" else f"{path}.{key}".strip("."))


def _needs(class_path: str, argument: str) -> bool:
    """Whether a class cannot be made without an argument of this name; a bare name is one of ours."""
    module, _, name = class_path.rpartition(".")
    ours = [found for path, found in list(sys.modules.items()) if path.startswith("graft_lightning.")]
    places = [sys.modules[module]] if module in sys.modules else ours if not module else []
    kinds = {vars(place)[name] for place in places if isinstance(vars(place).get(name), type)}
    return any(parameters(kind).get(argument, (None, None))[1] is inspect.Parameter.empty for kind in kinds)


def plain(text: str) -> str:
    """A line of the parser in words."""
    text = re.sub(r"Expected an? <class '([\w.]+)'>\.? ?Got value: (.*)", r"expected \1, got \2", text)
    text = re.sub(r"<class '([\w.]+)'>", r"\1", text)
    return text.rstrip(".:")


def innermost(message: str) -> str:
    """What a constructor said, out of the parser's account of every type that it tried in vain."""
    return sentence(message) if "Parser key" in message or "Does not validate" in message else message


def with_path(message: str, settings: Any) -> str:
    """A constructor's message, its key with the whole path where the configuration has it at one place only."""
    found = re.match(r"([\w.]+)(=|: )(.*)", message, re.S)
    if found is not None:
        path = path_of(found[1], found[3], settings)
        return f"{path}{message[len(found[1]) :]}" if path else message
    # Lightning shows its own in the middle of a sentence.
    for key, value in re.findall(r"\b(\w+)=('[^']*'|[^\s`)]+)", message):
        if path := path_of(key, value, settings) or path_of(key, value.strip("'"), settings):
            return f"{path}: {message}"
    return message
