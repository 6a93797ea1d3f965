"""The pool as a whole: its rounds, its rewards, its lock."""

import contextlib
import fcntl
import logging
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from graft_lightning.rejection.pool.manifest import claim_folder, plain, read_manifest, require_same
from graft_lightning.rejection.pool.round import COLUMNS, KeptLevel, Round

log = logging.getLogger(__name__)
ABANDONED = 3600
"""Seconds after which a temporary file that nobody has written to belongs to a process that died."""


class TrajectoryPool:
    """Every drawn trajectory of one reference, sampler and run seed; `create` and `open` make it."""

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.fingerprint: dict[str, Any] = manifest["fingerprint"]
        self.run_seed: int = manifest["run_seed"]

    @classmethod
    def create(
        cls, path: str | Path, fingerprint: Mapping[str, Any], run_seed: int, verify: bool = True
    ) -> "TrajectoryPool":
        """A new pool, or the one that is there if it was made with the same settings.

        Args:
            path: its folder; parents are created.
            fingerprint: what the trajectories depend on (weights, process, sampler, …): nested dicts of plain values.
            run_seed: the seed from which those of the trajectories derive.
            verify: see `open`.

        Raises:
            PoolMismatch: if it was made with others; names each key and both values.
            NotAPool: if something else is in the folder.
            DamagedShard: see `open`.
        """
        path = Path(path).expanduser().resolve()  # a link to an empty folder is that folder
        claim_folder(path, "pool", {"fingerprint": plain(fingerprint), "run_seed": run_seed})
        return cls.open(path, fingerprint, run_seed, verify)

    @classmethod
    def open(
        cls,
        path: str | Path,
        expect: Mapping[str, Any] | None = None,
        run_seed: int | None = None,
        verify: bool = True,
    ) -> "TrajectoryPool":
        """An existing pool.

        Args:
            path: its folder.
            expect: the fingerprint it must have; any if None.
            run_seed: the run seed it must have; any if None.
            verify: whether the checksum of every shard is taken (about 1 GB/s; with several processes, let one do it).
                Sizes and headers are checked in any case.

        Raises:
            FileNotFoundError: if there is no such folder.
            NotAPool: if the folder is something else.
            PoolMismatch: names each differing key and both values.
            DamagedShard: names the first damaged file.
        """
        path = Path(path).expanduser()
        manifest = read_manifest(path, "pool")
        wanted = {"fingerprint": manifest["fingerprint"] if expect is None else expect}
        wanted["run_seed"] = manifest["run_seed"] if run_seed is None else run_seed
        require_same(path, {key: manifest[key] for key in wanted}, wanted)
        pool = cls(path, manifest)
        pool.verify(verify)
        return pool

    def verify(self, checksums: bool = True) -> None:
        """Holds every file against its header and, if asked, its checksum; shows a bar when that takes seconds.

        Raises:
            DamagedShard: names the first damaged file, which may be deleted and made again.
        """
        files = [(round_, *file) for round_ in self.rounds() for file in round_.committed()]
        total = sum(path.stat().st_size for _, path, _ in files) if checksums else len(files)
        unit = {"unit": "B", "unit_scale": True} if checksums else {"unit": "shard"}
        with tqdm(total=total, desc=f"Verifying {self.path}", delay=2, leave=False, **unit) as bar:
            for round_, path, shard in files:
                round_.verify(path, shard, checksums)
                bar.update(path.stat().st_size if checksums else 1)

    # ---- rounds

    def start_round(
        self,
        index: int,
        conditions: Sequence[str],
        draws: int,
        kept_levels: Mapping[int, KeptLevel | tuple[float, float]],
        shard_size: int,
        fingerprint: Mapping[str, Any],
    ) -> Round:
        """A new round, or the one that is there if it was started with the same arguments.

        Args:
            index: 0, 1, ….
            conditions: one text per condition; a condition's place in this list is its number.
            draws: trajectories per condition, M.
            kept_levels: state index n (counted from the data) → its level (t, log(alpha_t / sigma_t)).
            shard_size: trajectories per file.
            fingerprint: of the model that draws this round, which changes from round to round.

        Raises:
            PoolMismatch: names each differing key and both values.
            ValueError: if a number is out of range.
        """
        if isinstance(conditions, str) or not conditions or not all(isinstance(text, str) for text in conditions):
            raise ValueError(f"conditions={conditions!r:.100}; it must be a list of one or more texts")
        for name, value, least in (("index", index, 0), ("draws", draws, 1), ("shard_size", shard_size, 1)):
            if value < least:
                raise ValueError(f"{name}={value}; it must be at least {least}")
        body = plain(
            {
                "conditions": list(conditions),
                "draws": draws,
                "kept_levels": {n: KeptLevel(*map(float, kept_levels[n])) for n in sorted(kept_levels)},
                "shard_size": shard_size,
                "fingerprint": fingerprint,
            },
            "round",
        )
        folder = self.path / f"round-{index:04d}"
        claim_folder(folder, "round", body)
        manifest = read_manifest(folder, "round")
        require_same(folder, {key: value for key, value in manifest.items() if key in body}, body)
        return Round(self.path, index)

    def round(self, index: int) -> Round:
        """A round that was started."""
        return Round(self.path, index)

    def rounds(self) -> list[Round]:
        """All rounds that were started, in order."""
        names = (re.fullmatch(r"round-(\d{4,})", name) for name in os.listdir(self.path))
        return [Round(self.path, index) for index in sorted(int(match[1]) for match in names if match)]

    # ---- rewards

    def add_reward(self, name: str, fingerprint: Mapping[str, Any]) -> None:
        """Declares a reward, so that its scores can be written and will never be mixed with those of another one.

        Args:
            name: of its folder, and of its column in `table`.
            fingerprint: its configuration: nested dicts of plain values.

        Raises:
            PoolMismatch: if the name belongs to a reward of another configuration; names each key and both values.
            ValueError: if the name cannot be used.
        """
        if not re.fullmatch(r"\w[\w.-]*", name) or name in (*COLUMNS, "round", "index"):
            raise ValueError(f"reward name {name!r}: letters, digits, '_', '.' and '-', and not that of another column")
        folder = self.path / "rewards" / name
        claim_folder(folder, "reward", {"fingerprint": plain(fingerprint)})
        require_same(folder, read_manifest(folder, "reward")["fingerprint"], fingerprint)

    def reward_fingerprints(self) -> dict[str, dict[str, Any]]:
        """The declared rewards and their fingerprints."""
        folders = sorted(path.parent for path in self.path.glob("rewards/*/manifest.json"))
        names = [folder for folder in folders if not folder.name.startswith(".")]
        return {folder.name: read_manifest(folder, "reward")["fingerprint"] for folder in names}

    # ---- the whole

    def table(self) -> dict[str, np.ndarray]:
        """A row for every trajectory on disk, over all rounds; see `Round.table`."""
        tables = [round_.table(self.reward_fingerprints()) for round_ in self.rounds()]
        return {name: np.concatenate([table[name] for table in tables]) for name in (tables[0] if tables else {})}

    def statistics(self) -> dict[str, Any]:
        """Counts: "rounds", "trajectories", "missing" ones, "bytes"; "rewards", by name: "scored" and "not_finite"."""
        rounds = self.rounds()
        missing = sum(len(shard) for round_ in rounds for shard in round_.missing())
        scores: dict[str, dict[str, int]] = {}
        for name in self.reward_fingerprints():
            values = [round_.table([name])[name] for round_ in rounds]
            unscored = sum(len(shard) for round_ in rounds for shard in round_.missing_rewards(name))
            finite = sum(int(np.isfinite(value).sum()) for value in values)
            scored = sum(map(len, rounds)) - unscored
            scores[name] = {"scored": scored, "not_finite": scored - finite}
        return {
            "rounds": len(rounds),
            "trajectories": sum(map(len, rounds)) - missing,
            "missing": missing,
            "rewards": scores,
            "bytes": sum(path.stat().st_size for round_ in rounds for path, _ in round_.committed()),
        }

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second run from collecting into this pool at the same time: it waits, and then finds it filled.

        One process per run takes the lock (rank 0, before the barrier at which the others wait). Reading needs none.
        """
        with open(self.path / "lock", "a+", encoding="utf-8") as file:
            self._acquire(file)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            self._sweep()
            try:
                yield
            finally:  # not left to close(): a worker forked meanwhile holds the file open too
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)

    def _acquire(self, file: Any) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            log.warning("%s is being filled by %s; waiting for it", self.path, file.read() or "another process")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:  # some cluster file systems are mounted without locks
            log.warning("%s cannot be locked (%s): see to it that no two runs fill it at once", self.path, error)

    def _sweep(self) -> None:
        """Removes what processes that were killed while writing have left."""
        for folder in (self.path, *self.path.glob("round-*"), *self.path.glob("rewards/*/round-*")):
            for path in folder.glob(".*.safetensors.*.tmp"):
                with contextlib.suppress(FileNotFoundError):  # another process commits its shard just now
                    if time.time() - path.stat().st_mtime > ABANDONED:
                        path.unlink()
