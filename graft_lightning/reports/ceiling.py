"""The ceiling of one round: what selection leaves of a pool, on the conditions that are trained on. No torch."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graft_lightning.runs import COLLECTED, belongs, read_json, run_in
from graft_lightning.statistics import Interval, interval

ALL = "one_round_ceiling: all samples"


def ceilings(folders: Iterable[Path], prefix: str = "") -> tuple[dict[str, dict[str, Interval]], int]:
    """Mean rewards of a pool before selection, and of what each rule accepted.

    Runs that read the same of a pool count once; intervals are over the seeds of pools. Where one seed has several
    pools, as of two samplers, or runs read more and less of one, each has rows of its own, which say which it is.

    Args:
        folders: folders that hold run folders, or chains of them.
        prefix: beginning of the names of what is right below.

    Returns:
        ``one_round_ceiling: <rule>`` -> reward -> figure, all samples first; and the number of trajectories that were
        drawn.
    """
    rows: dict[str, dict[str, dict[tuple[int, str], float]]] = {}
    drawn, pools = 0, dict[str, int]()
    found = _records(folders, prefix)
    varies = [key for key in ("pool", "draws", "conditions") if _varies(key, [record for _, record in found])]
    for beginning, record in found:
        if pool := _pool(record):  # which several runs share, and another command may have filled
            pools[pool] = max(pools.get(pool, 0), record["conditions"] * record["draws"])
        else:
            drawn += record["newly_drawn"]
        accepted = f"one_round_ceiling: {_rule(record)}"
        told = {key: f"{record.get(key)} {key}" for key in ("draws", "conditions")}
        told["pool"] = f"in {_below(pool, beginning)}"
        of = "".join(f", {told[key]}" for key in varies)
        for name, means in record["rewards"].items():
            for row, key in ((ALL, "all"), (accepted, "accepted")):
                rows.setdefault(row + of, {}).setdefault(name, {})[record["seed"], pool] = means[key]
    metrics = {
        row: {name: interval(list(values.values())) for name, values in columns.items()}
        for row, columns in rows.items()
    }
    return metrics, drawn + sum(pools.values())


def rules_of(folders: Iterable[Path]) -> dict[Path, str]:
    """By run folder, what its rule accepted by, in the words of the ceiling's rows."""
    files = [file for folder in folders for file in folder.rglob(COLLECTED)]
    found = {file.parent: read_json(file) for file in files}
    return {folder: _rule(record) for folder, record in found.items() if belongs(record, run_in(folder))}


def _rule(record: dict[str, Any]) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in record["acceptance_settings"].items())
    return f"{record['acceptance']}{f'({settings})' if settings else ''} of {record['reward']}"


def _varies(key: str, records: Iterable[dict[str, Any]]) -> bool:
    """Whether runs of one seed differ in what they read."""
    values = defaultdict[int, set[Any]](set)
    for record in records:
        values[record["seed"]].add(record.get(key))
    return any(len(found) > 1 for found in values.values())


def _pool(record: dict[str, Any]) -> str:
    """The folder of the pool of a run, "" of a record that does not tell it."""
    return str(record.get("pool", ""))


def _below(pool: str, beginning: Path) -> str:
    """What a pool is called in its seed's folder, and its path if it lies elsewhere."""
    path, within = Path(pool).resolve(), beginning.resolve()
    return str(path.relative_to(within)) if path.is_relative_to(within) else pool


def _records(folders: Iterable[Path], prefix: str) -> list[tuple[Path, dict[str, Any]]]:
    """The records below some folders, each with the folder of its seed, or that which was asked for."""
    pattern = f"{prefix}*/**/{COLLECTED}" if prefix else f"**/{COLLECTED}"
    files = [(folder, file) for folder in folders for file in sorted(folder.glob(pattern))]
    found = [(folder, file, read_json(file)) for folder, file in files]
    return [
        (folder / file.relative_to(folder).parts[0] if prefix else folder, record)
        for folder, file, record in found
        if belongs(record, run_in(file.parent))
    ]
