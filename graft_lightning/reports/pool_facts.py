"""What a pool holds, in words and as rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from graft_lightning.rejection.collected import fillings
from graft_lightning.rejection.imported import is_imported
from graft_lightning.rejection.pool import Round, TrajectoryPool

SHOWN = 3
"""Fillings that are told, the last ones."""


def sample_id(seed: int) -> str:
    """A sample's name for people: its seed, which is its own in a pool; a letter first, as no spreadsheet has numbers.

    Args:
        seed: int64.
    """
    return f"s{seed & (1 << 64) - 1:016x}"


def rows_of(pool: TrajectoryPool, index: int | None = None) -> list[dict[str, Any]]:
    """One row a trajectory on disk: id, condition, draw, seed, round, index in its round, and scores by name.

    Args:
        pool: an open pool.
        index: of a round; all by default.
    """
    names = list(pool.reward_fingerprints())
    found = []
    for opened in pool.rounds():
        if index is None or opened.index == index:
            table = opened.table(names)
            for place in range(len(table["seed"])):
                row = {name: table[name][place] for name in ("condition", "draw", "seed", "round", "index")}
                own = {name: float(table[name][place]) for name in names}
                found.append({"id": sample_id(int(row["seed"])), **{k: _plain(v) for k, v in row.items()}, **own})
    return found


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def told_of_pool(folder: Path) -> str:
    """What a pool holds, as `pool FOLDER` prints it.

    Raises:
        PoolError: if it is none, or damaged.
    """
    return "\n".join(_lines(folder))


def _lines(folder: Path) -> Iterator[str]:
    pool = TrajectoryPool.open(folder, verify=False)
    counts = pool.statistics()
    yield f"pool: {folder}: {counts['trajectories']:,} trajectories, {_bytes(counts['bytes'])}, seed {pool.run_seed}"
    if counts["missing"]:
        yield f"  {counts['missing']:,} more were begun and are missing; the next `collect` or `fit` draws them"
    for opened in pool.rounds():
        yield f"  round {opened.index}: {_of_round(opened)}"
    names = list(counts["rewards"])
    if names:
        width = max(len("reward"), *map(len, names))
        yield ""
        heads = " ".join(f"{head:>10}" for head in ("mean", "deviation", "lowest", "highest"))
        yield f"  {'reward':<{width}} {'scored':>9} {heads}  not finite"
        for name in names:
            yield f"  {name:<{width}} {_scores(pool, name, counts['rewards'][name])}"
    for record in fillings(folder)[-SHOWN:]:
        what = ", ".join(map(str, record.get("scored", ()))) or "nothing"
        made = f"{record['imported']:,} imported" if "imported" in record else f"{record.get('drawn', 0):,} drawn"
        yield f"  {record.get('time', '')}: {made}, scored: {what}"


def _of_round(opened: Round) -> str:
    levels = ", ".join(f"{level.t:g}" for level in opened.kept_levels.values()) or "none"
    if is_imported(opened):
        return f"{len(opened.conditions):,} conditions x {opened.draws:,} imported samples; x_0 alone (hand-off 0)"
    source = opened.fingerprint.get("model", "unknown")
    source = "the reference" if source == "reference" else f"the model {source}"
    draws = f"{'up to ' if opened.undrawn else ''}{opened.draws:,} draws"
    return f"{len(opened.conditions):,} conditions x {draws} of {source}; states kept at t = {levels}"


def _scores(pool: TrajectoryPool, name: str, counts: dict[str, int]) -> str:
    columns = [opened.scored(name) for opened in pool.rounds()]
    values = np.concatenate([values[mask].numpy() for mask, values in columns])
    finite = values[np.isfinite(values)].astype(np.float64)
    cells = [finite.mean(), finite.std(), finite.min(), finite.max()] if len(finite) else []
    shown = " ".join(f"{cell:>10.4g}" for cell in cells) or f"{'':>43}"
    return f"{counts['scored']:>9,} {shown}  {counts['not_finite']:,}"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
