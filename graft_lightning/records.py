"""What a run writes down beside its checkpoints: evaluations and alarms, one JSON object a line. No torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EVALUATIONS = "evaluation.jsonl"
"""Of every evaluation the figures; reports are made from these files."""

ALARMS = "alarms.jsonl"
"""Of every evaluation what was watched, and the alarms that it raised."""

COLLECTED = "collected.json"
"""Of a run's first round: the acceptance rule, counts, rewards before and after."""


def append_record(folder: Path, name: str, record: Mapping[str, Any]) -> None:
    """Adds a record, which has ``stage``, ``method`` and ``step``, to a file of a run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read_records(folder: Path, name: str = EVALUATIONS) -> list[dict[str, Any]]:
    """The records of a run; of several of the same stage, method and step the last, as a resumed run repeats itself."""
    file = folder / name
    if not file.is_file():
        return []
    records = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that a killed run did not finish
        records[(record["stage"], record["method"], record["step"])] = record
    return list(records.values())


def last_records(folder: Path, name: str = EVALUATIONS) -> list[dict[str, Any]]:
    """The records of a run, of every stage and method the last."""
    return list({(record["stage"], record["method"]): record for record in read_records(folder, name)}.values())


def retire_records(folder: Path) -> None:
    """Sets the records of an earlier fit in the same folder aside: a report must not mix the two."""
    for name in (EVALUATIONS, ALARMS):
        file = folder / name
        if file.is_file():
            file.replace(folder / f"earlier-{name}")
