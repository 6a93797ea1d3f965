"""The alarms of runs, for reports; plain Python, no torch."""

from collections.abc import Iterable
from pathlib import Path

from graft_lightning.runs import ALARMS, last_records


def alarms_of(folders: Iterable[Path]) -> dict[str, list[str]]:
    """The alarms that the last evaluation of each stage and method raised, by run; without those of the base.

    Args:
        folders: run folders, or folders that hold some.
    """
    found: dict[str, list[str]] = {}
    for folder in folders:
        for file in sorted(folder.rglob(ALARMS)):
            run = "this run" if file.parent == folder else str(file.parent.relative_to(folder))
            for record in last_records(file.parent, ALARMS):
                if record["alarms"] and record["method"] != "base":
                    where = f"{run}, {record['stage']} of {record['method']} at step {record['step']}"
                    found[where] = list(record["alarms"].values())
    return found
