"""The ceiling of one round: what selection leaves of a pool, on the conditions that are trained on. No torch."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graft_lightning.runs import COLLECTED
from graft_lightning.statistics import Interval, interval

ALL = "one_round_ceiling: all samples"


def ceilings(folders: Iterable[Path], prefix: str = "") -> tuple[dict[str, dict[str, Interval]], int]:
    """Mean rewards of a pool before selection, and of what each rule accepted.

    Runs of one seed read the same pool, and count once; intervals are over seeds.

    Args:
        folders: folders that hold run folders, or chains of them.
        prefix: beginning of the names of what is right below.

    Returns:
        ``one_round_ceiling: <rule>`` -> reward -> figure, all samples first; and the number of trajectories that were
        drawn.
    """
    rows: dict[str, dict[str, dict[int, float]]] = {}
    drawn = 0
    for record in _records(folders, prefix):
        drawn += record["newly_drawn"]
        accepted = f"one_round_ceiling: {_rule(record)}"
        for name, means in record["rewards"].items():
            for row, key in ((ALL, "all"), (accepted, "accepted")):
                rows.setdefault(row, {}).setdefault(name, {})[record["seed"]] = means[key]
    metrics = {
        row: {name: interval(list(values.values())) for name, values in columns.items()}
        for row, columns in rows.items()
    }
    return metrics, drawn


def _rule(record: dict[str, Any]) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in record["acceptance_settings"].items())
    return f"{record['acceptance']}{f'({settings})' if settings else ''} of {record['reward']}"


def _records(folders: Iterable[Path], prefix: str) -> list[dict[str, Any]]:
    files = [file for folder in folders for file in sorted(folder.glob(f"{prefix}*/**/{COLLECTED}"))]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]
