"""The ceiling of one round: what selection leaves of a pool, on the conditions that are trained on. No torch."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from graft_lightning.reports.comparison import Run, last_runs
from graft_lightning.reports.tables import markdown_table
from graft_lightning.runs import COLLECTED, belongs, read_json, run_in
from graft_lightning.statistics import Interval, interval

ALL = "one_round_ceiling: all samples"

OF_A_RUN = 2
"""Parts of the path of a file of a run right below a folder; with more the run lies in a chain."""


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


def reached(runs: Sequence[Run], stage: str) -> dict[str, dict[str, Interval]]:
    """What part of its one-round ceiling each method has gained, seed by seed.

    The gain is that of the reward which was trained on, above the base of the same seed and chain, on held-out
    conditions; what there was to gain is what selection raises it by in the pool, on those that are trained on:
    conditions that accepted nothing are left out on both sides. Methods whose rule does not look at the reward have no
    ceiling and no row, nor have those that drew a pool of their own, as by another sampler, and no base of its kind.

    Args:
        runs: evaluations.
        stage: which held-out conditions.

    Returns:
        Method -> "gain", "to gain", "share" -> figure over seeds.
    """
    last = last_runs(runs, stage)
    records = {run.folder: record for run in last if (record := _record(run.folder / COLLECTED)) is not None}
    pools = {
        run: Counter(_pool(records[f]) for f in records if f.parent == run.parent).most_common(1) for run in records
    }
    rows: dict[str, list[tuple[float, float]]] = {}
    for run in last:
        base, record = _base_of(run, last), records.get(run.folder)
        if _is_base(run) or base is None or record is None or not record.get("implied", {}).get("kl"):
            continue
        if _pool(record) != pools[run.folder][0][0] and _setting(base) != _setting(run) and base.folder != run.folder:
            continue  # another sampler's or another model's pool, of which there is no base
        reward = record["reward"]
        means = record["rewards"].get(reward, {})
        if reward in run.values and reward in base.values and means:
            gain = run.values[reward] - base.values[reward]
            # older records tell no mean of the conditions that accepted any
            before = record.get("rewards_before", {}).get(reward, means["all"])
            rows.setdefault(run.method, []).append((gain, means["accepted"] - before))
    return {
        method: {
            "gain": interval([gain for gain, _ in pairs]),
            "to gain": interval([room for _, room in pairs]),
            "share": interval([gain / room for gain, room in pairs if room > 0]),
        }
        for method, pairs in rows.items()
    }


def _is_base(run: Run) -> bool:
    return run.method.rpartition(": ")[2] == "base"


def _setting(run: Run) -> str:
    """What a method is called before its name, as in ``eta 0: graft``."""
    return run.method.rpartition(": ")[0]


def _base_of(run: Run, runs: Iterable[Run]) -> Run | None:
    """The base that a run itself has measured, else its chain's; of several that with its own ``setting: ``."""
    bases = [one for one in runs if _is_base(one) and one.seed == run.seed]
    for near in (run.folder, run.folder.parent):
        found = {_setting(one): one for one in bases if near in (one.folder, one.folder.parent)}
        if found:
            return found.get(_setting(run), found.get(""))
    return None


def _record(file: Path) -> dict[str, Any] | None:
    """The record of a run's own collection."""
    if not file.is_file():
        return None
    found: dict[str, Any] = read_json(file)
    return found if belongs(found, run_in(file.parent)) else None


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
    if path.is_relative_to(within):
        return str(path.relative_to(within))
    parts = Path(pool).parts  # a record that has moved tells where its pool was: the seed's folder by its name
    names = [place for place, part in enumerate(parts) if part == within.name]
    return "/".join(parts[names[-1] + 1 :]) if names and names[-1] + 1 < len(parts) else pool


def _records(folders: Iterable[Path], prefix: str) -> list[tuple[Path, dict[str, Any]]]:
    """The records below some folders, each with the folder of its chain, or that which was asked for."""
    pattern = f"{prefix}*/**/{COLLECTED}" if prefix else f"**/{COLLECTED}"
    files = [(folder, file) for folder in folders for file in sorted(folder.glob(pattern))]
    found = [(folder, file, read_json(file)) for folder, file in files]
    return [
        (folder / parts[0] if prefix or len(parts) > OF_A_RUN else folder, record)
        for folder, file, record in found
        for parts in [file.relative_to(folder).parts]
        if belongs(record, run_in(file.parent))
    ]


def ceiling_section(
    runs: Sequence[Run], folders: Sequence[Path], prefix: str, stage: str
) -> tuple[list[str], dict[str, Any]]:
    """What one round of selection could reach at most, and how much of it was: lines, and metrics for report.json."""
    found, drawn = ceilings(folders, prefix)
    if not found:
        return [], {}
    rewards = list(dict.fromkeys(name for row in found.values() for name in row))
    shown = {row.removeprefix("one_round_ceiling: "): metrics for row, metrics in found.items()}
    intro = f"Mean rewards of the pools, on the conditions that are trained on; {drawn} trajectories were drawn in all."
    table = markdown_table(shown, dict(zip(rewards, rewards, strict=True)), "accepted")
    lines = ["### One-round ceiling", "", intro, "", *table, ""]
    shares = reached(runs, stage)
    if not shares:
        return lines, found
    intro = (
        "What each method has gained above the base on held-out conditions, what selection raises the reward by in the "
        "pool, and the first as a share of the second; over seeds."
    )
    columns = ("gain", "to gain", "share")
    lines += [intro, "", *markdown_table(shares, dict(zip(columns, columns, strict=True))), ""]
    return lines, {**found, "share_of_ceiling": shares}
