"""The alarms of runs, for reports; plain Python, no torch."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ALARMS = "alarms.jsonl"


def alarms_of(folders: Iterable[Path]) -> dict[str, list[str]]:
    """The alarms that the last evaluation of each stage and method raised, by run; without those of the base.

    Args:
        folders: run folders, or folders that hold some.
    """
    found: dict[str, list[str]] = {}
    for folder in folders:
        for file in sorted(folder.rglob(ALARMS)):
            run = "this run" if file.parent == folder else str(file.parent.relative_to(folder))
            for record in _last(file):
                if record["alarms"] and record["method"] != "base":
                    where = f"{run}, {record['stage']} of {record['method']} at step {record['step']}"
                    found[where] = list(record["alarms"].values())
    return found


def _last(file: Path) -> list[dict[str, Any]]:
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that a killed run did not finish
        last[record["stage"], record["method"]] = record
    return list(last.values())
