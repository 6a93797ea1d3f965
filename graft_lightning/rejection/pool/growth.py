"""How a round begins and grows: whoever asks for more than there is claims a part for what is missing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graft_lightning.rejection.pool.manifest import claim_folder, plain, read_manifest, require_same
from graft_lightning.rejection.pool.part import KeptLevel, Origin, part_manifest, parts_of
from graft_lightning.rejection.pool.round import Round
from graft_lightning.rejection.pool.rows import missing_runs
from graft_lightning.rejection.pool.shard import part_name
from graft_lightning.rejection.pool.view import added_levels


def grown(
    pool: Path,
    origin: Origin,
    conditions: Sequence[str],
    draws: int,
    kept_levels: Mapping[int, KeptLevel],
    shard_size: int,
    fingerprint: Mapping[str, Any],
    keep_as: str | None,
) -> Round:
    """A round that holds, or is to hold, what is asked for; arguments as in `TrajectoryPool.start_round`.

    Several processes may ask at the same time: of two parts of the same number the first one wins, and the second
    process looks again at what is missing.

    Raises:
        PoolMismatch: if the round on disk is of another model, or its levels are others; names both values.
    """
    folder = pool / f"round-{origin.round_index:04d}"
    whole = [(text, 0, draws) for text in dict.fromkeys(conditions)]
    first = part_manifest(origin, 0, whole, kept_levels, keep_as, shard_size)
    claim_folder(folder, "round", {"index": origin.round_index, "fingerprint": plain(fingerprint), **first})
    require_same(
        folder, {"fingerprint": read_manifest(folder, "round")["fingerprint"]}, {"fingerprint": plain(fingerprint)}
    )
    parts = parts_of(folder, origin)
    known = {n: level for part in parts for n, level in part.kept_levels.items()}
    known |= {n: level for n, (_, level) in added_levels(folder).items()}
    both = known.keys() & kept_levels.keys()
    require_same(
        folder,
        {"kept_levels": plain({n: known[n] for n in both})},
        {"kept_levels": {n: kept_levels[n] for n in both}},
        "The levels of a sampler's grid do not change: choose another folder.",
    )
    while runs := missing_runs([part.rows for part in parts], conditions, draws):
        number = len(parts)
        body = part_manifest(origin, number, runs, {**known, **kept_levels}, keep_as, shard_size)
        claim_folder(folder / part_name(number), "part", body)
        parts = parts_of(folder, origin)
    opened = Round(pool, origin, conditions, draws, kept_levels)
    lacking = [n for n in kept_levels if n not in opened.kept_levels]
    for n in lacking:
        claim_folder(folder / f"level-{n:04d}", "level", {"made_for": parts[0].identity, "level": kept_levels[n]})
    return Round(pool, origin, conditions, draws, kept_levels) if lacking else opened
