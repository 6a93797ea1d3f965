"""An experiment of one's own: another's text with its comments, its reward a function in a file beside it."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import yaml

from graft_lightning import domains
from graft_lightning.cli.written import of_text
from graft_lightning.durable import replacing_folder
from graft_lightning.rejection.reference import Reference
from graft_lightning.shipped import importable
from graft_lightning.types import SettingsError

EXPERIMENT, REWARDS = "experiment.yaml", "my_rewards.py"
"""The files of the folder."""

OWN_REWARD = "own_reward"
"""The module of a domain whose text is the reward that one starts from."""

HEAD = f"""\
# Begun from {{source}}.
# The reward is the function `score` in {REWARDS}, beside this file. In this folder, where all paths begin:
#   python -m graft_lightning plan --config {EXPERIMENT}      # what it will cost
#   python -m graft_lightning fit  --config {EXPERIMENT}
"""
SECTIONS = {
    "data": "What samples are drawn for, which of them are trained on, and what is held out",
    "collect": "The reward, and how many samples it chooses from",
    "evaluate": "What else is measured on held-out samples; nothing is trained on it",
    "model": "What is trained: the method, the pre-trained model, the optimiser",
    "trainer": "How long, where, and what is kept",
}
"""What stands above the parts of an experiment."""

OWN = {
    ("collect", "reward"): f"{{class_path: FunctionReward, init_args: {{function: {Path(REWARDS).stem}.score}}}}",
    ("data", "init_args", "pool"): "runs/pool",
    ("trainer", "logger", "init_args", "save_dir"): "runs",
}
"""What is another than in the experiment that was begun from, by key."""


def begin(folder: Path, source: Path, name: str) -> None:
    """Writes the folder.

    Args:
        folder: absent as yet.
        source: YAML of a run.
        name: what the head of the new one calls it.

    Raises:
        FileExistsError: if the folder is there.
        SettingsError: if the source is no run that scores samples, or nobody has a reward for its samples.
        OSError: if the source cannot be read, or the folder not be written.
    """
    if folder.exists() or folder.is_symlink():
        raise FileExistsError(f"{folder} is there already; name a folder that is not")
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{name} is no text in UTF-8") from None
    experiment, reward = experiment_of(text, name), reward_of(text, name)
    with replacing_folder(folder) as temporary:
        temporary.mkdir()
        (temporary / EXPERIMENT).write_text(experiment, encoding="utf-8")
        (temporary / REWARDS).write_text(reward, encoding="utf-8")


def experiment_of(text: str, name: str) -> str:
    """The text of an experiment with the settings of `OWN`, and a line of comment above each of its parts.

    Raises:
        SettingsError: if it is no run that scores samples.
    """
    try:
        root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise SettingsError(f"{name} is no YAML: {' '.join(str(error).split())}") from None
    changes = []
    for keys, own in OWN.items():
        found = _pair(root, keys)
        if found is not None:
            key, value = found
            changes.append((key.end_mark.index + 1, _end(text, value), f" {own}"))
        elif keys == ("collect", "reward"):
            raise SettingsError(f"{name} has no collect.reward; begin from a run that has, as digits/pgraft.yaml")
    for key, _ in root.value:
        if key.value in SECTIONS:
            changes.append((key.start_mark.index, key.start_mark.index, f"# {SECTIONS[key.value]}\n"))
    for start, end, own in sorted(changes, reverse=True):
        text = text[:start] + own + text[end:]
    lines = text.splitlines(keepends=True)
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    return HEAD.format(source=name) + "".join(lines)


def _pair(root: Any, keys: tuple[str, ...]) -> tuple[Any, Any] | None:
    """The nodes of a key and its value; None where there is none."""
    found = None, root
    for key in keys:
        pairs = found[1].value if isinstance(found[1], yaml.MappingNode) else []
        found = next((pair for pair in pairs if pair[0].value == key), (None, None))
    return None if found[0] is None else found


def _end(text: str, node: Any) -> int:
    """Where a value ends: a block of lines ends with its last one, comment and all, not where the next key starts."""
    last = node
    while isinstance(last, yaml.CollectionNode) and not last.flow_style and last.value:
        last = last.value[-1][1] if isinstance(last, yaml.MappingNode) else last.value[-1]
    end: int = last.end_mark.index
    return end if last is node else text.find("\n", end) if "\n" in text[end:] else len(text)


def reward_of(text: str, name: str) -> str:
    """The text of a reward for the samples of an experiment: what the domain of its reference starts from.

    Raises:
        SettingsError: if it names no reference, or one whose domain offers none.
    """
    found = of_text(text)
    try:
        _, path = found["model"]["class_path"], found["model"]["init_args"]["reference"]["class_path"]
    except (KeyError, TypeError):
        raise SettingsError(f"{name} is no whole run: it lacks model.class_path, or its reference's") from None
    module = domains.offered_beside(_class(path), OWN_REWARD)
    if module is None:
        raise SettingsError(f"{name}: nobody has a reward for the samples of {path}; experiments/guides/own_reward.md")
    return inspect.getsource(module)


def _class(path: str) -> type:
    """The reference of a dotted path, or of the bare name that configurations may use.

    Raises:
        SettingsError: if there is none.
    """
    importable()
    domains.load_named([path])
    module, _, name = path.rpartition(".")
    try:
        candidates = [vars(importlib.import_module(module)).get(name)] if module else _below(Reference)
    except ImportError as error:
        raise SettingsError(f"{path} cannot be imported: {error}") from None
    found = next((kind for kind in candidates if isinstance(kind, type) and kind.__name__ == name), None)
    if found is None:
        raise SettingsError(f"there is no class {path}")
    return found


def _below(kind: type) -> list[type]:
    subclasses: list[type] = kind.__subclasses__()
    return [found for below in subclasses for found in (below, *_below(below))]
