"""What was chosen on the tuning conditions before the runs of a comparison, as a table of a report. No torch."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from graft_lightning.runs import CHOSEN, read_json

TEXT = (
    "Each method has tried as many settings as stand here, in runs with a seed of their own, and took those with the "
    "highest reward on the conditions of `data.validation`."
)


def chosen_section(folders: Iterable[Path], prefix: str = "") -> tuple[list[str], dict[str, Any]]:
    """Table and record of all runs below some folders; nothing where none had a choice.

    Args:
        folders: folders of runs, or above them.
        prefix: beginning of the names of what is right below.
    """
    pattern = f"{prefix}*/**/{CHOSEN}" if prefix else f"**/{CHOSEN}"
    found: dict[str, Any] = {}
    for file in sorted({file for folder in folders for file in folder.glob(pattern)}):
        found.setdefault(file.parent.name, read_json(file))  # all seeds have the same choice
    if not found:
        return [], {}
    lines = ["| run | chosen | tried: reward on the tuning conditions |", "|---|---|---|"]
    for name, choice in found.items():
        tried = ", ".join(f"{_shown(one)}: {_reward(one)}" for one in choice["tried"])
        lines.append(f"| {name} | {_shown(choice['chosen'])} | {tried} |")
    return ["### Chosen settings", "", TEXT, "", *lines, ""], {"chosen": found}


def _shown(settings: Mapping[str, Any]) -> str:
    """Settings by the last part of their keys."""
    own = {key: value for key, value in settings.items() if key != "reward"}
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in own.items())


def _reward(tried: Mapping[str, Any]) -> str:
    return "failed" if tried["reward"] is None else f"{tried['reward']:.3f}"
