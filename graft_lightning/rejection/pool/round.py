"""One round of the pool: M draws for each condition, from one model."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from graft_lightning.rejection.pool.manifest import PoolError, read_manifest, sync_folder
from graft_lightning.rejection.pool.shard import Field, Header, Shard, read_header, verify_shard, write_shard
from graft_lightning.rejection.pool.shard_files import ShardFiles, layout_difference

COLUMNS = ("condition", "draw", "seed", "key")
"""The scalar fields that every trajectory has."""


class KeptLevel(NamedTuple):
    """The noise level of a kept state: t in the reference's native time, and log(alpha_t / sigma_t)."""

    t: float
    log_alpha_sigma: float


class Round:
    """The trajectories of one round; made by `TrajectoryPool.start_round` and `TrajectoryPool.round`.

    Reads see shards that other processes commit meanwhile. May be pickled and forked.

    Attributes:
        conditions: texts; a condition's number is its place in this list.
        draws: trajectories per condition, M.
        kept_levels: levels of the kept states by state index n, counted from the data.
        shard_size: trajectories in a shard; the last may have fewer.
        shards: all shards of the round, written or not.
        fingerprint: of the model that drew it.

    Args:
        pool: folder of the pool.
        index: which round.
    """

    def __init__(self, pool: Path, index: int) -> None:
        self.index = index
        self.name = f"round-{index:04d}"
        self.path = pool / self.name
        self._rewards = pool / "rewards"
        manifest = read_manifest(self.path, "round")
        self.conditions: list[str] = manifest["conditions"]
        self.draws: int = manifest["draws"]
        self.fingerprint: dict[str, Any] = manifest["fingerprint"]
        self.kept_levels = {int(n): KeptLevel(*level) for n, level in manifest["kept_levels"].items()}
        self.shard_size: int = manifest["shard_size"]
        starts = range(0, len(self), self.shard_size)
        self.shards = [Shard(i, start, min(start + self.shard_size, len(self))) for i, start in enumerate(starts)]
        self._files = ShardFiles(self.path, self.shards)

    def __len__(self) -> int:
        """Trajectories of the complete round: conditions × draws."""
        return len(self.conditions) * self.draws

    # ---- writing

    def missing(self) -> list[Shard]:
        """Shards that no process has committed yet."""
        names = set(os.listdir(self.path))
        missing = [shard for shard in self.shards if shard.filename not in names]
        for shard in missing:
            self._files.forget(shard)
        return missing

    @property
    def complete(self) -> bool:
        """Whether every shard is on disk."""
        return not self.missing()

    def write(self, shard: Shard, data: TensorDictBase) -> None:
        """Commits a shard.

        Args:
            shard: one of `missing`.
            data: batch ``(len(shard),)`` in the order of the global index, with ``x_0`` (tensor or TensorDict),
                ``seed`` (int64), ``states`` (by state index as text, exactly the kept ones; absent where none is) and
                ``key`` (int64, equal for duplicates, −1 where there is none; the default). ``condition`` and ``draw``
                follow from the shard and are compared where given. Further fields are kept as they are.

        Raises:
            ValueError: names the field, what it is and what it should be.
            PoolError: if the shard is there already.
        """
        path = self.path / shard.filename
        self._require_mine(shard)
        if path.exists():
            raise PoolError(f"{path} is already written; delete it to make it again")
        tensors = self._flatten(shard, data)
        fields = {name: Field(tensor.dtype, tuple(tensor.shape[1:]), 0) for name, tensor in tensors.items()}
        difference = layout_difference(fields, self._files.layout())
        if difference:
            raise ValueError(f"{path}: {difference}")
        self._files.forget(shard)
        write_shard(path, shard, tensors)

    def _require_mine(self, shard: Shard) -> None:
        if self.shards[shard.index : shard.index + 1] != [shard]:
            raise ValueError(
                f"{shard} is not a shard of {self.path}, which has {len(self.shards)}: {self.shards[0]}, …"
            )

    def _flatten(self, shard: Shard, data: TensorDictBase) -> dict[str, Tensor]:
        """The fields by name, nested names joined by "/"; complete and checked."""
        if tuple(data.batch_size[:1]) != (len(shard),):
            raise ValueError(f"data has batch size {tuple(data.batch_size)}; {shard} has {len(shard)} trajectories")
        tensors: dict[str, Tensor] = {}
        for key, value in data.items(include_nested=True, leaves_only=True):
            parts = (key,) if isinstance(key, str) else key
            if not isinstance(value, Tensor) or any("/" in part for part in parts):
                raise ValueError(f"field {key!r} ({type(value).__name__}) must be a tensor, without '/' in its name")
            tensors["/".join(parts)] = value
        index = torch.arange(shard.start, shard.stop)
        for name, expected in (("condition", index // self.draws), ("draw", index % self.draws)):
            if name in tensors and not torch.equal(tensors[name].cpu(), expected):
                raise ValueError(f"{name} does not follow the global index: {shard} begins with {int(expected[0])}")
            tensors[name] = expected
        tensors.setdefault("key", torch.full((len(shard),), -1))
        self._require_fields(tensors)
        return tensors

    def _require_fields(self, tensors: dict[str, Tensor]) -> None:
        for name in ("seed", "key"):
            found = f"{tensors[name].dtype} {tuple(tensors[name].shape)}" if name in tensors else "absent"
            if not found.startswith("torch.int64") or tensors[name].ndim != 1:
                raise ValueError(f"{name} is {found}; it must be torch.int64, one per trajectory")
        top = {name.split("/")[0] for name in tensors}
        if "x_0" not in top:
            raise ValueError(f"x_0 is absent; there are {sorted(top)}")
        kept = {name.split("/")[1] for name in tensors if name.startswith("states/")}
        wanted = {str(n) for n in self.kept_levels}
        if kept != wanted:
            raise ValueError(f"states are {sorted(kept)}; this round keeps {sorted(wanted)}")

    # ---- reading

    @property
    def fields(self) -> list[str]:
        """Names of the stored fields; those of nested states are joined by "/". Empty as long as nothing is written."""
        return list(self._files.layout() or ())

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
        for name, value in self._files.gather(index, self._select(fields)).items():
            *parents, leaf = name.split("/")
            inner = values
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[leaf] = value
        return TensorDict(values, batch_size=[len(index)])

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
        values = self._files.gather(np.arange(len(self)), self._select([name]))[name]
        return values.reshape(len(self.conditions), self.draws, *values.shape[1:])

    # ---- rewards

    def write_rewards(self, name: str, shard: Shard, values: Tensor) -> None:
        """Commits the scores of a shard; they belong to its present bytes, and are void if the shard is made again.

        Args:
            name: a reward that `TrajectoryPool.add_reward` has declared.
            shard: a committed shard.
            values: ``(len(shard),)``; NaN where the reward has failed.

        Raises:
            ValueError: if the values have another shape.
            IndexError: if the shard is not written yet.
            PoolError: if the reward is not declared.
        """
        self._require_mine(shard)
        if tuple(values.shape) != (len(shard),):
            raise ValueError(f"reward {name!r}: values are {tuple(values.shape)}; {shard} has ({len(shard)},)")
        folder = self._reward_folder(name)
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)
        write_shard(folder / shard.filename, shard, {"reward": values.float()}, of=self._files.header(shard).digest)

    def missing_rewards(self, name: str) -> list[Shard]:
        """Shards that ``name`` has not scored as they are now; those that are not drawn yet are among them."""
        folder, absent = self._reward_folder(name), set(self.missing())
        return [shard for shard in self.shards if shard in absent or self._scored(folder, shard) is None]

    def rewards(self, name: str) -> Tensor:
        """All scores by ``name``, float32 ``(conditions, draws)``.

        Raises:
            PoolError: if some are missing; counts them.
        """
        missing = self.missing_rewards(name)
        if missing:
            raise PoolError(f"{self.path}: reward {name!r} lacks {len(missing)} of {len(self.shards)} shards")
        return torch.cat([self._read_rewards(name, shard) for shard in self.shards]).reshape(-1, self.draws)

    def _reward_folder(self, name: str) -> Path:
        if not (self._rewards / name / "manifest.json").exists():
            raise PoolError(f"reward {name!r} is not declared in {self._rewards.parent}; add_reward does that")
        return self._rewards / name / self.name

    def _scored(self, folder: Path, shard: Shard) -> Header | None:
        """The header of a committed shard's scores, if they are those of its present bytes."""
        path = folder / shard.filename
        header = read_header(path, shard) if path.exists() else None
        return header if header and header.of == self._files.header(shard).digest else None

    def _read_rewards(self, name: str, shard: Shard) -> Tensor:
        """Scores of a committed shard, ``(len(shard),)``; NaN where it is not scored."""
        folder = self._reward_folder(name)
        header = self._scored(folder, shard)
        if header is None:
            return torch.full((len(shard),), float("nan"))
        offset = header.fields["reward"].offset
        return torch.from_numpy(np.fromfile(folder / shard.filename, np.float32, offset=offset))

    # ---- the whole

    def table(self, rewards: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """A row for every trajectory on disk, column by column: ``pandas.DataFrame(round.table())``.

        Args:
            rewards: names of the rewards to add as columns; NaN where a shard is not scored.

        Returns:
            "round", "index" (the global index, as `read` takes it), "condition" (its text), "draw", "seed", "key",
            and the rewards.
        """
        absent = set(self.missing())
        shards = [shard for shard in self.shards if shard not in absent]
        index = np.concatenate([np.zeros(0, np.int64), *(np.arange(shard.start, shard.stop) for shard in shards)])
        data = self._files.gather(index, list(COLUMNS)) if shards else dict.fromkeys(COLUMNS, torch.zeros(0).long())
        columns = {"round": np.full(len(index), self.index), "index": index}
        columns |= {name: data[name].numpy() for name in COLUMNS}
        columns["condition"] = np.array(self.conditions, dtype=object)[columns["condition"]]
        for name in rewards:
            values = [self._read_rewards(name, shard).numpy() for shard in shards]
            columns[name] = np.concatenate([np.zeros(0, np.float32), *values])
        return columns

    def committed(self) -> list[tuple[Path, Shard]]:
        """Every file of the round, trajectories first, then scores."""
        folders = [self.path, *sorted(self._rewards.glob(f"*/{self.name}"))]
        files = ((folder / shard.filename, shard) for folder in folders for shard in self.shards)
        return [(path, shard) for path, shard in files if path.exists()]

    def verify(self, path: Path, shard: Shard, checksum: bool) -> None:
        """Holds one of the `committed` files against its size, the layout of the round and, if asked, its checksum.

        Raises:
            DamagedShard: names the file.
        """
        if checksum:
            verify_shard(path, shard)
        if path.parent == self.path:
            self._files.header(shard)
        else:
            read_header(path, shard)
