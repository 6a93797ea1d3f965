"""One round of the pool: M draws for each condition, from one model, as they are asked for."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

from graft_lightning.identity import digest_of
from graft_lightning.rejection.pool.beside import Beside
from graft_lightning.rejection.pool.manifest import PoolError, read_manifest
from graft_lightning.rejection.pool.part import Part
from graft_lightning.rejection.pool.reading import Reading
from graft_lightning.rejection.pool.shard import Field, Shard, read_header, verify_shard, write_shard
from graft_lightning.rejection.pool.shard_files import layout_difference
from graft_lightning.rejection.pool.writing import flat, rounded, trajectories

COLUMNS = ("condition", "draw", "seed", "key")
"""The scalar fields that every trajectory has."""


class Round(Reading):
    """The trajectories of a round, conditions × draws; `TrajectoryPool.start_round` and `TrajectoryPool.round` make it.

    It is a view (`View` says of what). Reads see shards that other processes commit meanwhile. May be pickled and
    forked.
    """

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
        seeds = part.rows.seeds(self._origin.run_seed, self.index, shard.rows)
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
        known, values = self.scored(name)
        if not known.all():
            missing = self.missing_rewards(name)
            raise PoolError(
                f"{self.path}: reward {name!r} lacks {len(missing)} of {len(self.shards)} shards; "
                f"{int((~known).sum())} of {len(self)} trajectories have no score. `rescore` gives them one, or a "
                "person (`pool --export`, `--verdicts`); or ask for those that have one: fewer draws or conditions"
            )
        return values.reshape(-1, self.draws)

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
        manifest = read_manifest(folder, "reward")
        inner = self.name if not manifest["groupwise"] else f"{self.name}/groups-of-{self.draws:04d}"
        return Beside(folder / inner, self.parts, digest_of([manifest["fingerprint"], inner]))

    def _read_rewards(self, name: str, shards: Sequence[Shard]) -> tuple[Tensor, Tensor]:
        scores = self._scores(name)
        values = [torch.full((len(part.rows),), torch.nan) for part in self.parts]
        known = [torch.zeros(len(part.rows), dtype=torch.bool) for part in self.parts]
        for shard in shards:
            told, rows = scores.told(shard, "reward")
            values[shard.part][shard.start : shard.stop] = told
            known[shard.part][shard.start : shard.stop] = torch.from_numpy(rows)
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

        Trajectories must moreover have been made for this place; `check_seeds` is about what they hold.

        Raises:
            DamagedShard: names the file.
        """
        if checksum:
            verify_shard(path, shard)
        if path == self.path / shard.filename:
            self.parts[shard.part].files.header(shard)
        elif not checksum:
            read_header(path, shard)

    def check_seeds(self) -> None:
        """Holds the seeds of all trajectories on disk, in this view or not, against those that follow from their place.

        Raises:
            DamagedShard: names the file and the first trajectory that is another's.
        """
        for part in self.parts:
            part.check_seeds()
