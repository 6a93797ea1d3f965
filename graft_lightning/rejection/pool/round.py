"""One round of the pool: M draws for each condition, from one model, as they are asked for."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from graft_lightning.rejection.pool.beside import Beside
from graft_lightning.rejection.pool.manifest import PoolError, read_manifest
from graft_lightning.rejection.pool.part import KeptLevel, Origin, Part, parts_of
from graft_lightning.rejection.pool.rows import draws_of, located
from graft_lightning.rejection.pool.shard import Field, Shard, read_header, verify_shard, write_shard
from graft_lightning.rejection.pool.shard_files import layout_difference
from graft_lightning.rejection.pool.writing import flat, rounded, trajectories, widened

COLUMNS = ("condition", "draw", "seed", "key")
"""The scalar fields that every trajectory has."""


class Round:
    """The trajectories of a round, conditions × draws; `TrajectoryPool.start_round` and `TrajectoryPool.round` make it.

    It is a view: on disk there may be further draws, further conditions, in another order and in several parts. The
    trajectory of condition c and draw d has the index ``c * draws + d`` here. Reads see shards that other processes
    commit meanwhile. May be pickled and forked.

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
    """

    def __init__(
        self, pool: Path, origin: Origin, conditions: Sequence[str] | None = None, draws: int | None = None
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
        return {n: known[n] for n in sorted(known) if n in self._added or all(n in p.kept_levels for p in parts)}

    @property
    def shard_size(self) -> int:
        """Trajectories in a shard of the first part; the last may have fewer."""
        return self.parts[0].shard_size

    # ---- what there is

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
        """State indices that were asked for later, and the committed shards whose states of them are missing."""
        absent = {shard for part in self.parts for shard in part.absent()}
        return [
            (n, shard)
            for n, beside in self._levels.items()
            for shard in self.shards
            if n not in self.parts[shard.part].kept_levels and shard not in absent and self._lacks(beside, shard)
        ]

    def _lacks(self, beside: Beside, shard: Shard) -> bool:
        return bool((self.wanted(shard) & ~beside.known(shard)).any())

    def wanted(self, shard: Shard) -> np.ndarray:
        """Which rows of a shard are in the view, bool ``(len(shard),)``."""
        return self._used[shard.part][shard.start : shard.stop]

    def pairs(self, shard: Shard) -> tuple[list[str], list[int]]:
        """The conditions and the draws of all rows of a shard."""
        return self.parts[shard.part].rows.pairs(shard.start, shard.stop)

    def indices(self, shard: Shard) -> np.ndarray:
        """The indices of a shard's rows in the view, int64 ``(len(shard),)``; −1 of rows that are not in it."""
        found = np.full(len(shard), -1, dtype=np.int64)
        here = np.flatnonzero((self._part == shard.part) & (self._row >= shard.start) & (self._row < shard.stop))
        found[self._row[here] - shard.start] = here
        return found

    # ---- writing

    def write(self, shard: Shard, data: TensorDictBase) -> None:
        """Commits a shard.

        Args:
            shard: one of `missing`.
            data: batch ``(len(shard),)`` in the order of its rows (`pairs`), with ``x_0`` (tensor or TensorDict),
                ``seed`` (int64, `trajectory_seeds`), ``states`` (by state index as text, exactly the kept ones; absent
                where none is) and ``key`` (int64, equal for duplicates, −1 where there is none; the default).
                ``condition`` and ``draw`` follow from the shard and are compared where given. Further fields are kept
                as they are.

        Raises:
            ValueError: names the field, what it is and what it should be.
            PoolError: if the shard is there already.
        """
        path = self.path / shard.filename
        part = self._part_of(shard)
        if path.exists():
            raise PoolError(f"{path} is already written; delete it to make it again")
        seeds = part.rows.seeds(self._origin.run_seed, self.index, shard.start, shard.stop)
        tensors = trajectories(part, shard, data, seeds)
        fields = {name: Field(tensor.dtype, tuple(tensor.shape[1:]), 0) for name, tensor in tensors.items()}
        difference = self._difference(part, fields)
        if difference:
            raise ValueError(f"{path}: {difference}")
        part.files.forget(shard)
        write_shard(path, shard, tensors, of=part.identity)

    def _difference(self, part: Part, fields: dict[str, Field]) -> str | None:
        """In words, how a shard differs from others of its part; before it has any, of another one, states aside."""
        if (layout := part.files.layout()) is not None:
            return layout_difference(fields, layout)
        others = next((one for one in (other.files.layout() for other in self.parts) if one), None)
        one, two = (
            {name: f for name, f in found.items() if not name.startswith("states/")} for found in (fields, others or {})
        )
        return layout_difference(one, two or None)

    def write_states(self, n: int, shard: Shard, data: TensorDictBase, known: Tensor | None = None) -> None:
        """Commits states of a level that was asked for later.

        Args:
            n: state index.
            shard: one of `missing_states`.
            data: batch ``(len(shard),)`` with ``states`` of this index, as in `write`.
            known: which rows these are; all by default.
        """
        part = self._part_of(shard)
        tensors = {name: rounded(name, value, part.keep_as) for name, value in flat(shard, data).items()}
        self._levels[n].write(shard, tensors, known)

    def _part_of(self, shard: Shard) -> Part:
        part = self.parts[shard.part] if shard.part < len(self.parts) else self.parts[0]
        if part.shards[shard.index : shard.index + 1] != [shard]:
            raise ValueError(
                f"{shard} is not a shard of {self.path}, which has {len(self.shards)}: {self.shards[0]}, …"
            )
        return part

    # ---- reading

    @property
    def fields(self) -> list[str]:
        """Names of the stored fields; those of nested states are joined by "/". Empty as long as nothing is written."""
        layouts = (part.files.layout() for part in self.parts)
        names = list(next((layout for layout in layouts if layout), ()))
        added = [name for n, beside in self._levels.items() if n in self.kept_levels for name in beside.fields()]
        kept = {f"states/{n}" for n in self.kept_levels}
        return [
            name
            for name in dict.fromkeys([*names, *added])
            if not name.startswith("states/") or "/".join(name.split("/")[:2]) in kept
        ]

    def read(self, indices: Tensor | np.ndarray | Sequence[int], fields: Sequence[str] | None = None) -> TensorDict:
        """Gathers trajectories from the shards; loads nothing else.

        Args:
            indices: global indices ``(batch,)``, in any order, repeated or not.
            fields: names as in `fields`, or the beginning of some: "x_0", "states", "states/12". All by default.

        Raises:
            IndexError: if an index is outside the round, or its shard is not written yet.
            KeyError: for an unknown field; lists the known ones.
        """
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        if index.size and (index.min() < 0 or index.max() >= len(self)):
            raise IndexError(f"indices from {index.min()} to {index.max()}; {self.path} has 0 to {len(self) - 1}")
        values: dict[str, Any] = {}
        for name, value in self._gather(index, self._select(fields)).items():
            *parents, leaf = name.split("/")
            inner = values
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[leaf] = value
        return TensorDict(values, batch_size=[len(index)])

    def _gather(self, index: np.ndarray, names: list[str]) -> dict[str, Tensor]:
        if not self.fields:
            raise IndexError(f"{self.path} holds no trajectories yet")
        parts, rows = self._part[index], self._row[index]
        if (parts < 0).any():
            raise IndexError(self._not_grown(int(index[np.flatnonzero(parts < 0)[0]])))
        follow = {"condition": index // self.draws, "draw": index % self.draws}
        found = {name: torch.from_numpy(follow[name]) for name in names if name in follow}
        stored = [name for name in names if name not in follow]
        several = np.unique(parts).tolist() or [0]
        if len(several) == 1:
            return found | self._of_part(several[0], rows, stored)
        for part in several:
            at = torch.from_numpy(np.flatnonzero(parts == part))
            for name, value in self._of_part(part, rows[at.numpy()], stored).items():
                if name not in found:
                    found[name] = torch.empty(len(index), *value.shape[1:], dtype=value.dtype)
                found[name][at] = value
        return found

    def _of_part(self, number: int, rows: np.ndarray, names: list[str]) -> dict[str, Tensor]:
        part = self.parts[number]
        layout = part.files.layout()
        if layout is None:
            raise IndexError(f"{part.files.path(part.shards[0])} is not written yet, and no other of its part")
        found = part.files.gather(rows, [name for name in names if name in layout])
        for n, beside in self._levels.items():
            added = [name for name in names if name not in layout and name.split("/")[:2] == ["states", str(n)]]
            if added:
                self._require_states(n)
                found |= beside.gather(number, rows, added)
        return widened(found, layout, part.keep_as)

    def _require_states(self, n: int) -> None:
        if f"states/{n}" not in self._whole:
            lacking = [shard for level, shard in self.missing_states() if level == n]
            if lacking:
                raise IndexError(
                    f"{self.path}: {len(lacking)} shards lack the states of {n}; the next collection adds them"
                )
            self._whole.add(f"states/{n}")

    def _not_grown(self, index: int) -> str:
        text, draw = self.conditions[index // self.draws], index % self.draws
        there = draws_of([part.rows for part in self.parts]).get(text, 0)
        return f"{self.path} has {there} draws of {text!r}, and draw {draw} is asked for; the next collection adds it"

    def _select(self, fields: Sequence[str] | None) -> list[str]:
        known = self.fields
        if fields is None or not known:
            return known
        chosen = {field: [name for name in known if name == field or name.startswith(f"{field}/")] for field in fields}
        unknown = [field for field, names in chosen.items() if not names]
        if unknown:
            raise KeyError(f"{self.path} has no {', '.join(unknown)}; it has {', '.join(known)}")
        return [name for names in chosen.values() for name in names]

    def column(self, name: str) -> Tensor:
        """A field of the complete round with conditions and draws as axes: ``(conditions, draws, *row shape)``."""
        values = self._gather(np.arange(len(self)), self._select([name]))[name]
        return values.reshape(len(self.conditions), self.draws, *values.shape[1:])

    # ---- rewards

    def write_rewards(self, name: str, shard: Shard, values: Tensor, known: Tensor | None = None) -> None:
        """Commits the scores of a shard; they belong to its present bytes, and are void if the shard is made again.

        Args:
            name: a reward that `TrajectoryPool.add_reward` has declared.
            shard: a committed shard.
            values: ``(len(shard),)``; NaN where the reward has failed.
            known: which rows have been scored, bool ``(len(shard),)``; all by default.

        Raises:
            ValueError: if the values have another shape.
            IndexError: if the shard is not written yet.
            PoolError: if the reward is not declared.
        """
        self._part_of(shard)
        if tuple(values.shape) != (len(shard),):
            raise ValueError(f"reward {name!r}: values are {tuple(values.shape)}; {shard} has ({len(shard)},)")
        self._scores(name).write(shard, {"reward": values.float()}, known)

    def write_scores(self, name: str, values: Tensor, known: Tensor | None = None) -> None:
        """Commits the scores of the whole view, as of a table that a person has filled in.

        Args:
            name: a reward that `TrajectoryPool.add_reward` has declared.
            values: ``(conditions, draws)``, or the same in one row.
            known: which of them are scores, of the same shape; all by default.
        """
        flat_values = values.reshape(len(self)).float()
        mask = torch.ones(len(self), dtype=torch.bool) if known is None else known.reshape(len(self))
        for shard in self.shards:
            index = torch.from_numpy(self.indices(shard))
            told = (index >= 0) & mask[index.clamp(min=0)]
            if told.any():
                self.write_rewards(name, shard, flat_values[index.clamp(min=0)], told)

    def missing_rewards(self, name: str) -> list[Shard]:
        """Shards that ``name`` has not scored as they are now; those that are not drawn yet are among them."""
        scores, absent = self._scores(name), set(self.missing())
        return [shard for shard in self.shards if shard in absent or self._lacks(scores, shard)]

    def unscored(self, name: str, shard: Shard) -> np.ndarray:
        """Which rows of a committed shard are in the view and not scored, bool ``(len(shard),)``."""
        return self.wanted(shard) & ~self._scores(name).known(shard)

    def rewards(self, name: str) -> Tensor:
        """All scores by ``name``, float32 ``(conditions, draws)``.

        Raises:
            PoolError: if some are missing; counts them.
        """
        if self.undrawn:
            raise PoolError(self._not_grown(int(np.flatnonzero(self._part < 0)[0])))
        missing = self.missing_rewards(name)
        if missing:
            raise PoolError(f"{self.path}: reward {name!r} lacks {len(missing)} of {len(self.shards)} shards")
        return self._read_rewards(name, self.shards)[1].reshape(-1, self.draws)

    def scored(self, name: str) -> tuple[Tensor, Tensor]:
        """Which trajectories of the view have a score, and the scores, NaN without one; ``(len(self),)`` each."""
        absent = set(self.missing())
        shards = [shard for shard in self.shards if shard not in absent]
        return self._read_rewards(name, shards)

    def _scores(self, name: str) -> Beside:
        folder = self._rewards / name
        if not (folder / "manifest.json").exists():
            raise PoolError(f"reward {name!r} is not declared in {self._rewards.parent}; add_reward does that")
        # What a groupwise reward says of a sample is another thing in a group of another size.
        groups = read_manifest(folder, "reward")["groupwise"]
        inner = self.name if not groups else f"{self.name}/groups-of-{self.draws:04d}"
        return Beside(folder / inner, self.parts)

    def _read_rewards(self, name: str, shards: Sequence[Shard]) -> tuple[Tensor, Tensor]:
        scores = self._scores(name)
        values = [torch.full((len(part.rows),), torch.nan) for part in self.parts]
        known = [torch.zeros(len(part.rows), dtype=torch.bool) for part in self.parts]
        for shard in shards:
            values[shard.part][shard.start : shard.stop] = scores.values(shard, "reward")
            known[shard.part][shard.start : shard.stop] = torch.from_numpy(scores.known(shard))
        found, mask = torch.full((len(self),), torch.nan), torch.zeros(len(self), dtype=torch.bool)
        for number in range(len(self.parts)):
            here = np.flatnonzero(self._part == number)
            mask[here] = known[number][self._row[here]]
            found[here] = values[number][self._row[here]].where(mask[here], torch.nan)
        return mask, found

    # ---- the whole

    def table(self, rewards: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """A row for every trajectory of the view on disk, column by column: ``pandas.DataFrame(round.table())``.

        Args:
            rewards: names of the rewards to add as columns; NaN where a shard is not scored.

        Returns:
            "round", "index" (the global index, as `read` takes it), "condition" (its text), "draw", "seed", "key",
            and the rewards.
        """
        absent = set(self.missing())
        shards = [shard for shard in self.shards if shard not in absent]
        there = [np.zeros(len(used), dtype=bool) for used in self._used]
        for shard in shards:
            there[shard.part][shard.start : shard.stop] = True
        on_disk = np.zeros(len(self), dtype=bool)
        for number, rows in enumerate(there):
            here = np.flatnonzero(self._part == number)
            on_disk[here] = rows[self._row[here]]
        index = np.flatnonzero(on_disk)
        data = self._gather(index, list(COLUMNS)) if shards else dict.fromkeys(COLUMNS, torch.zeros(0).long())
        columns = {"round": np.full(len(index), self.index), "index": index}
        columns |= {name: data[name].numpy() for name in COLUMNS}
        columns["condition"] = np.array(self.conditions, dtype=object)[columns["condition"]]
        for name in rewards:
            columns[name] = self._read_rewards(name, shards)[1].numpy()[index]
        return columns

    def committed(self) -> list[tuple[Path, Shard]]:
        """Every file of the round, in this view or not: trajectories first, then what is told of them."""
        shards = [shard for part in self.parts for shard in part.shards]
        folders = [self.path, *(beside.folder for beside in self._levels.values())]
        for folder in sorted(self._rewards.glob(f"*/{self.name}")):
            folders += [folder, *sorted(folder.glob("groups-of-*"))]
        files = ((folder / shard.filename, shard) for folder in folders for shard in shards)
        return [(path, shard) for path, shard in files if path.exists()]

    def verify(self, path: Path, shard: Shard, checksum: bool) -> None:
        """Holds one of the `committed` files against its size, the layout of the round and, if asked, its checksum.

        Trajectories must moreover have been made for this place, and have the seeds that follow from it.

        Raises:
            DamagedShard: names the file.
        """
        if checksum:
            verify_shard(path, shard)
        if path == self.path / shard.filename:
            part = self.parts[shard.part]
            part.files.header(shard)
            part.check_seeds(shard)
        else:
            read_header(path, shard)


def added_levels(folder: Path) -> dict[int, tuple[Path, KeptLevel]]:
    """The levels that a round was given later, by state index: where their states are, and which level it is."""
    found = {int(path.name.removeprefix("level-")): path for path in sorted(folder.glob("level-*"))}
    levels = {n: read_manifest(path, "level")["level"] for n, path in found.items()}
    return {n: (path, KeptLevel(*map(float, levels[n]))) for n, path in found.items()}
