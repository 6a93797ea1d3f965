"""Which trajectories of a round are asked for, conditions × draws, and where on disk they lie."""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graft_lightning.rejection.pool.beside import Beside
from graft_lightning.rejection.pool.manifest import read_manifest
from graft_lightning.rejection.pool.part import KeptLevel, Origin, Part, parts_of
from graft_lightning.rejection.pool.rows import draws_of, located
from graft_lightning.rejection.pool.shard import Shard


class View:
    """A rectangle of trajectories of a round, in the order that is asked for.

    On disk there may be further draws and conditions, in another order and in several parts. The trajectory of
    condition c and draw d has the index ``c * draws + d`` here.

    Attributes:
        conditions: texts; a condition's number is its place in this list.
        draws: trajectories per condition, M.
        kept_levels: levels of the kept states by state index n, counted from the data.
        parts: all parts of the round on disk.
        shards: those that hold trajectories of this view, written or not.
        fingerprint: of the model that drew it.

    Args:
        pool: folder of the pool.
        origin: what its trajectories come from.
        conditions: of the view; all that the round on disk has, by default.
        draws: of the view; as many as the condition with the most has, by default.
        levels: state indices whose states are asked for; those that all its trajectories have are there in any case.
    """

    def __init__(
        self,
        pool: Path,
        origin: Origin,
        conditions: Sequence[str] | None = None,
        draws: int | None = None,
        levels: Container[int] = (),
    ) -> None:
        self.index, self._origin = origin.round_index, origin
        self.name = f"round-{self.index:04d}"
        self.path = pool / self.name
        self._rewards = pool / "rewards"
        self.fingerprint: dict[str, Any] = read_manifest(self.path, "round")["fingerprint"]
        self.parts = parts_of(self.path, origin)
        held = [part.rows for part in self.parts]
        drawn = draws_of(held)
        self.conditions = list(drawn) if conditions is None else list(conditions)
        self.draws = max(drawn.get(text, 0) for text in self.conditions) if draws is None else draws
        self._part, self._row = located(held, self.conditions, self.draws)
        self._used = [np.zeros(len(rows), dtype=bool) for rows in held]
        for part, used in enumerate(self._used):
            used[self._row[self._part == part]] = True
        self.shards = [
            shard
            for part, used in zip(self.parts, self._used, strict=True)
            for shard in part.shards
            if used[shard.start : shard.stop].any()
        ]
        self._added = added_levels(self.path)
        self._levels = {n: Beside(folder, self.parts) for n, (folder, _) in self._added.items()}
        started = {n for n, _ in self.missing_states()} if self._levels else set()
        # A level that was begun for another view, or could not be added, is none of this one.
        self._levels = {n: beside for n, beside in self._levels.items() if n in levels or n not in started}
        self._whole: set[str] = set()
        self.kept_levels = self._kept()

    def __len__(self) -> int:
        """Trajectories of the complete round: conditions × draws."""
        return len(self.conditions) * self.draws

    def _kept(self) -> dict[int, KeptLevel]:
        """The levels of which every part of the view has the states, or is to get them."""
        parts = [part for part, used in zip(self.parts, self._used, strict=True) if used.any()] or self.parts
        known = {n: level for n, (_, level) in self._added.items()}
        known |= {n: level for part in self.parts for n, level in part.kept_levels.items()}
        return {n: known[n] for n in sorted(known) if n in self._levels or all(n in p.kept_levels for p in parts)}

    @property
    def shard_size(self) -> int:
        """Trajectories in a shard of the first part; the last may have fewer."""
        return self.parts[0].shard_size

    def missing(self) -> list[Shard]:
        """Shards of the view that no process has committed yet."""
        absent = {shard for part in self.parts for shard in part.absent()}
        return [shard for shard in self.shards if shard in absent]

    @property
    def undrawn(self) -> int:
        """Trajectories of the view that no part holds: it was not grown to so many draws or these conditions."""
        return int((self._part < 0).sum())

    @property
    def complete(self) -> bool:
        """Whether every trajectory is on disk, with the states of every kept level."""
        return not self.undrawn and not self.missing() and not self.missing_states()

    def missing_states(self) -> list[tuple[int, Shard]]:
        """State indices that were asked for later, and the shards whose states of them are missing."""
        if not self._levels:
            return []
        absent = {shard for part in self.parts for shard in part.absent()}
        return [
            (n, shard)
            for n, beside in self._levels.items()
            for shard in self.shards
            if n not in self.parts[shard.part].kept_levels and (shard in absent or self._lacks(beside, shard))
        ]

    def _lacks(self, beside: Beside, shard: Shard) -> bool:
        return bool((self.wanted(shard) & ~beside.known(shard)).any())

    def wanted(self, shard: Shard) -> np.ndarray:
        """Which rows of a shard are in the view, bool ``(len(shard),)``."""
        return self._used[shard.part][shard.start : shard.stop]

    def pairs(self, shard: Shard) -> tuple[list[str], list[int]]:
        """The conditions and the draws of all rows of a shard."""
        return self.parts[shard.part].rows.pairs(shard.rows)

    def indices(self, shard: Shard) -> np.ndarray:
        """The indices of a shard's rows in the view, int64 ``(len(shard),)``; −1 of rows that are not in it."""
        found = np.full(len(shard), -1, dtype=np.int64)
        here = np.flatnonzero((self._part == shard.part) & (self._row >= shard.start) & (self._row < shard.stop))
        found[self._row[here] - shard.start] = here
        return found

    def _part_of(self, shard: Shard) -> Part:
        part = self.parts[shard.part] if shard.part < len(self.parts) else self.parts[0]
        if part.shards[shard.index : shard.index + 1] != [shard]:
            raise ValueError(
                f"{shard} is not a shard of {self.path}, which has {len(self.shards)}: {self.shards[0]}, …"
            )
        return part

    def _not_grown(self, index: int) -> str:
        text, draw = self.conditions[index // self.draws], index % self.draws
        there = draws_of([part.rows for part in self.parts]).get(text, 0)
        return f"{self.path} has {there} draws of {text!r}, and draw {draw} is asked for; the next collection adds it"


def added_levels(folder: Path) -> dict[int, tuple[Path, KeptLevel]]:
    """The levels that a round was given later, by state index: where their states are, and which level it is."""
    found = {int(path.name.removeprefix("level-")): path for path in sorted(folder.glob("level-*"))}
    levels = {n: read_manifest(path, "level")["level"] for n, path in found.items()}
    return {n: (path, KeptLevel(*map(float, levels[n]))) for n, path in found.items()}
