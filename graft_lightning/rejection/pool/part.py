"""A part of a round: what was asked for at one time, in files of its own. A round begins with one and grows by more."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from graft_lightning.identity import digest_of
from graft_lightning.rejection.pool.manifest import PoolMismatch, read_manifest
from graft_lightning.rejection.pool.rows import Rows
from graft_lightning.rejection.pool.shard import Shard, damaged, part_name
from graft_lightning.rejection.pool.shard_files import ShardFiles

ROWS = 1 << 16
"""Rows whose seeds are checked together, because of small shards one alone costs more than its rows."""


class KeptLevel(NamedTuple):
    """The noise level of a kept state: t in the reference's native time, and log(alpha_t / sigma_t)."""

    t: float
    log_alpha_sigma: float


class Origin(NamedTuple):
    """What every trajectory of a round comes from.

    Attributes:
        pool: digest of the pool's fingerprint and run seed.
        run_seed: of the pool.
        round_index: which round.
    """

    pool: str
    run_seed: int
    round_index: int


class Part:
    """One part of a round.

    Attributes:
        number: 0 for what the round began with.
        rows: which trajectories it holds.
        kept_levels: of the states that lie in its files.
        keep_as: type that these states are rounded to, or None.
        shards: its files.
        files: the same, to be read.

    Args:
        folder: of the round.
        number: of the part.
        origin: of the round.
        manifest: of the part.
    """

    def __init__(self, folder: Path, number: int, origin: Origin, manifest: Mapping[str, Any]) -> None:
        self.folder, self.number, self._origin = folder, number, origin
        self.rows = Rows(manifest["rows"])
        self.kept_levels = {int(n): KeptLevel(*map(float, level)) for n, level in manifest["kept_levels"].items()}
        self.keep_as: str | None = manifest["keep_as"]
        self.shard_size: int = manifest["shard_size"]
        starts = range(0, len(self.rows), self.shard_size)
        self.shards = [
            Shard(i, start, min(start + self.shard_size, len(self.rows)), number) for i, start in enumerate(starts)
        ]
        # Whatever made the rows stands in every file, so that none is taken for another's.
        self.identity = digest_of({**manifest, "number": number, "origin": list(origin)})
        self.files = ShardFiles(folder, self.shards, self.identity)

    def absent(self) -> list[Shard]:
        """Shards that no process has committed yet."""
        folder = self.folder / part_name(self.number) if self.number else self.folder
        names = set(os.listdir(folder))
        absent = [shard for shard in self.shards if Path(shard.filename).name not in names]
        for shard in absent:
            self.files.forget(shard)
        return absent

    def check_seeds(self) -> None:
        """Holds the seeds in all committed shards against those that follow from run, round, condition and draw.

        Raises:
            DamagedShard: names the file and the first trajectory that is another's.
        """
        absent = set(self.absent())
        committed = [shard for shard in self.shards if shard not in absent]
        together = max(1, ROWS // self.shard_size)
        for first in range(0, len(committed), together):
            shards = committed[first : first + together]
            rows = np.concatenate([np.arange(shard.start, shard.stop) for shard in shards])
            stored = self.files.gather(rows, ["seed"])["seed"]
            right = self.rows.seeds(self._origin.run_seed, self._origin.round_index, rows)
            if not torch.equal(stored, right):
                at = int((stored != right).nonzero()[0])
                (text,), (draw,) = self.rows.pairs(rows[at : at + 1])
                raise damaged(
                    self.files.path(self.shards[int(rows[at]) // self.shard_size]),
                    f"the seed of draw {draw} of {text!r} is {int(stored[at])}, and that of run seed "
                    f"{self._origin.run_seed}, round {self._origin.round_index} is {int(right[at])}",
                )


def parts_of(folder: Path, origin: Origin) -> list[Part]:
    """All parts of a round, in the order in which they came.

    Raises:
        NotAPool: if a manifest is wrong.
        PoolMismatch: if it is that of another pool or round.
    """
    first = {key: value for key, value in read_manifest(folder, "round").items() if key not in ("fingerprint", "index")}
    manifests = [first]
    while (path := folder / part_name(len(manifests))).exists():
        manifests.append(read_manifest(path, "part"))
    for number, manifest in enumerate(manifests):
        if manifest["made_for"] != made_for(origin, number):
            where = folder / part_name(number) if number else folder
            raise PoolMismatch(
                f"{where} was made for another pool, another run seed or another place: its made_for is "
                f"{manifest['made_for']}, here it would be {made_for(origin, number)}. Move it away, and the next run "
                "makes it again"
            )
    return [Part(folder, number, origin, _bare(manifest)) for number, manifest in enumerate(manifests)]


def made_for(origin: Origin, number: int) -> str:
    """What a part's manifest says of where it belongs."""
    return digest_of([*origin, number])


def part_manifest(
    origin: Origin,
    number: int,
    rows: Sequence[Sequence[object]],
    kept_levels: Mapping[int, KeptLevel],
    keep_as: str | None,
    shard_size: int,
) -> dict[str, Any]:
    """The keys that the manifest of a part has, and of a round, whose first part it tells of."""
    return {
        "made_for": made_for(origin, number),
        "rows": rows,
        "kept_levels": {n: kept_levels[n] for n in sorted(kept_levels)},
        "keep_as": keep_as,
        "shard_size": shard_size,
    }


def _bare(manifest: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("made_for", "rows", "kept_levels", "keep_as", "shard_size")
    return {key: manifest[key] for key in keys}
