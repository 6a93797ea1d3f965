"""The pool as a whole: its rounds and its rewards."""

import contextlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from graft_lightning.identity import comparable, differences, digest_of
from graft_lightning.rejection.pool.declared import check, declare
from graft_lightning.rejection.pool.growth import grown
from graft_lightning.rejection.pool.lock import locked, locked_if_free
from graft_lightning.rejection.pool.manifest import claim_folder, plain, read_manifest, require_same
from graft_lightning.rejection.pool.part import KeptLevel, Origin
from graft_lightning.rejection.pool.round import Round
from graft_lightning.rejection.pool.writing import HALF


class TrajectoryPool:
    """Every drawn trajectory of one reference, sampler and run seed; `create` and `open` make it."""

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.fingerprint: dict[str, Any] = manifest["fingerprint"]
        self.run_seed: int = manifest["run_seed"]
        self.digest = digest_of([self.fingerprint, self.run_seed])

    @classmethod
    def create(
        cls, path: str | Path, fingerprint: Mapping[str, Any], run_seed: int, verify: bool = True
    ) -> "TrajectoryPool":
        """A new pool, or the one that is there if it was made with the same settings.

        As long as nothing is drawn, the last settings count: a model that failed at once can be mended.

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
        body = {"fingerprint": plain(fingerprint), "run_seed": run_seed}
        if _is_left_undrawn(path, body):
            with locked_if_free(path) as free:
                if free and _is_left_undrawn(path, body):
                    aside = path.rename(path.with_name(f".{path.name}.{os.getpid()}.undrawn"))
                    shutil.rmtree(aside)
        claim_folder(path, "pool", body)
        return cls.open(path, fingerprint, run_seed, verify)

    @classmethod
    def open(
        cls,
        path: str | Path,
        expect: Mapping[str, Any] | None = None,
        run_seed: int | None = None,
        verify: bool | None = True,
    ) -> "TrajectoryPool":
        """An existing pool.

        Args:
            path: its folder.
            expect: the fingerprint it must have; any if None.
            run_seed: the run seed it must have; any if None.
            verify: whether the checksum of every shard is taken (about 1 GB/s; with several processes, let one do it).
                Sizes, headers and seeds are checked in any case; None leaves them, too, until a file is read.

        Raises:
            FileNotFoundError: if there is no such folder.
            NotAPool: if the folder is something else.
            PoolMismatch: names each differing key and both values.
            DamagedShard: names the first damaged file.
        """
        path = Path(path).expanduser()
        manifest = read_manifest(path, "pool")
        stored = manifest["fingerprint"]
        expected = stored if expect is None else expect
        seed = manifest["run_seed"]
        require_same(
            path,
            {"fingerprint": comparable(stored, expected), "run_seed": seed},
            {"fingerprint": comparable(expected, stored), "run_seed": seed if run_seed is None else run_seed},
        )
        pool = cls(path, manifest)
        if verify is not None:
            pool.verify(verify)
        return pool

    def verify(self, checksums: bool = True) -> None:
        """Holds every file against its header and, if asked, its checksum; shows a bar when that takes seconds.

        Raises:
            DamagedShard: names the first damaged file, which may be deleted and made again.
        """
        rounds = self.rounds()
        files = [(round_, *file) for round_ in rounds for file in round_.committed()]
        total = sum(path.stat().st_size for _, path, _ in files) if checksums else len(files)
        unit = {"unit": "B", "unit_scale": True} if checksums else {"unit": "shard"}
        with tqdm(total=total, desc=f"Verifying {self.path}", delay=2, leave=False, **unit) as bar:
            for round_, path, shard in files:
                round_.verify(path, shard, checksums)
                bar.update(path.stat().st_size if checksums else 1)
        for round_ in rounds:
            round_.check_seeds()

    # ---- rounds

    def start_round(
        self,
        index: int,
        conditions: Sequence[str],
        draws: int,
        kept_levels: Mapping[int, KeptLevel | tuple[float, float]],
        shard_size: int,
        fingerprint: Mapping[str, Any],
        keep_as: str | None = None,
    ) -> Round:
        """A new round, or the one that is there: as it is, in part, or grown by what it lacks.

        More draws, further conditions and further levels are added to what is on disk; fewer of them, or another order,
        are a view of it. `Round.missing` and `Round.missing_states` say what is left to make.

        Args:
            index: 0, 1, ….
            conditions: one text per condition; a condition's place in this list is its number.
            draws: trajectories per condition, M.
            kept_levels: state index n (counted from the data) → its level (t, log(alpha_t / sigma_t)).
            shard_size: trajectories per file, of files that are not there yet.
            fingerprint: of the model that draws this round, which changes from round to round.
            keep_as: "float16" or "bfloat16" rounds kept states, of files that are not there yet; None leaves them.

        Raises:
            PoolMismatch: if another model drew it; names each differing key and both values.
            ValueError: if a number is out of range.
        """
        if isinstance(conditions, str) or not conditions or not all(isinstance(text, str) for text in conditions):
            raise ValueError(f"conditions={conditions!r:.100}; it must be a list of one or more texts")
        for name, value, least in (("index", index, 0), ("draws", draws, 1), ("shard_size", shard_size, 1)):
            if value < least:
                raise ValueError(f"{name}={value}; it must be at least {least}")
        if keep_as not in (None, *HALF):
            raise ValueError(f"keep_as={keep_as!r}; it is one of None, {', '.join(map(repr, HALF))}")
        levels = {int(n): KeptLevel(*map(float, level)) for n, level in kept_levels.items()}
        return grown(self.path, self._origin(index), conditions, draws, levels, shard_size, fingerprint, keep_as)

    def round(self, index: int, conditions: Sequence[str] | None = None, draws: int | None = None) -> Round:
        """A round that was started.

        Args:
            index: which one.
            conditions: those to read; all that it has by default.
            draws: how many of each, the first ones; by default as many as the condition with the most has.
        """
        return Round(self.path, self._origin(index), conditions, draws)

    def rounds(self) -> list[Round]:
        """All rounds that were started, in order, each with all that it has."""
        names = (re.fullmatch(r"round-(\d{4,})", name) for name in os.listdir(self.path))
        return [self.round(index) for index in sorted(int(match[1]) for match in names if match)]

    def _origin(self, index: int) -> Origin:
        return Origin(self.digest, self.run_seed, index)

    # ---- rewards

    def add_reward(
        self, name: str, fingerprint: Mapping[str, Any], groupwise: bool = False, rescore: bool = False
    ) -> None:
        """Declares a reward, so that its scores can be written and will never be mixed with those of another one.

        As long as nothing is scored, the last declaration counts: a reward that failed at once can be mended.

        Args:
            name: of its folder, and of its column in `table`.
            fingerprint: its configuration: nested dicts of plain values.
            groupwise: whether a score depends on the other draws of its condition, and thereby on their number.
            rescore: if the name has scores of another reward, put them aside (`aside`) and begin anew.

        Raises:
            PoolMismatch: if the name has scores of a reward of another configuration; names each key and both values.
            ValueError: if the name cannot be used.
        """
        declare(self.path / "rewards", name, fingerprint, groupwise, rescore)

    def check_reward(self, name: str, fingerprint: Mapping[str, Any], groupwise: bool = False) -> bool:
        """Whether `add_reward` finds the name free, or declared like this; raises what it would raise."""
        return check(self.path / "rewards", name, fingerprint, groupwise)

    def reward_fingerprints(self) -> dict[str, dict[str, Any]]:
        """The declared rewards and their fingerprints; those put aside are among them."""
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
        total = sum(len(round_) - round_.undrawn for round_ in rounds)
        scores: dict[str, dict[str, int]] = {}
        for name in self.reward_fingerprints():
            known = [round_.scored(name) for round_ in rounds]
            scored = sum(int(mask.sum()) for mask, _ in known)
            finite = sum(int((mask & values.isfinite()).sum()) for mask, values in known)
            scores[name] = {"scored": scored, "not_finite": scored - finite}
        return {
            "rounds": len(rounds),
            "trajectories": total - missing,
            "missing": missing,
            "rewards": scores,
            "bytes": sum(path.stat().st_size for round_ in rounds for path, _ in round_.committed()),
        }

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keeps a second run from collecting into this pool at the same time: it waits, and then finds it filled.

        One process per run takes the lock (rank 0, before the barrier at which the others wait). Reading needs none.

        Raises:
            PoolError: if the folder cannot be written.
        """
        return locked(self.path)


def _is_left_undrawn(path: Path, body: Mapping[str, Any]) -> bool:
    """Whether a folder is a pool of other settings that nothing was drawn into."""
    if not (path / "manifest.json").exists():
        return False
    names = [name for name in os.listdir(path) if not re.fullmatch(r"manifest\.json|lock|rewards|round-\d{4,}", name)]
    if names or any(path.rglob("*.safetensors*")):
        return False
    stored = read_manifest(path, "pool")
    return bool(differences(comparable({key: stored[key] for key in body}, body), comparable(body, stored)))
