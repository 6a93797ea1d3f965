"""The ceiling of one round: what selection leaves of a pool, on the conditions that are trained on. No torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graft_lightning.runs import COLLECTED, belongs, read_json, run_in
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
    drawn, pools = 0, dict[str, int]()
    for record in _records(folders, prefix):
        if "pool" in record:  # which several runs share, and another command may have filled
            pools[record["pool"]] = record["conditions"] * record["draws"]
        else:
            drawn += record["newly_drawn"]
        accepted = f"one_round_ceiling: {_rule(record)}"
        for name, means in record["rewards"].items():
            for row, key in ((ALL, "all"), (accepted, "accepted")):
                rows.setdefault(row, {}).setdefault(name, {})[record["seed"]] = means[key]
    metrics = {
        row: {name: interval(list(values.values())) for name, values in columns.items()}
        for row, columns in rows.items()
    }
    return metrics, drawn + sum(pools.values())


def _rule(record: dict[str, Any]) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in record["acceptance_settings"].items())
    return f"{record['acceptance']}{f'({settings})' if settings else ''} of {record['reward']}"


def _records(folders: Iterable[Path], prefix: str) -> list[dict[str, Any]]:
    pattern = f"{prefix}*/**/{COLLECTED}" if prefix else f"**/{COLLECTED}"
    files = [file for folder in folders for file in sorted(folder.glob(pattern))]
    found = [(file.parent, read_json(file)) for file in files]
    return [record for folder, record in found if belongs(record, run_in(folder))]
