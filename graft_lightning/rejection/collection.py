"""Collection: draws trajectories from a model and scores them, shard by shard.

Which shard a trajectory belongs to, and which batch of it, depends on what was asked for alone, so any number of
processes makes the same pool.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict

from graft_lightning.identity import describe
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise, trajectory_seeds
from graft_lightning.rejection.filling import fill_shards, open_for_filling, work_through
from graft_lightning.rejection.imported import is_imported, of_imported
from graft_lightning.rejection.judging import Judging, judged_beside
from graft_lightning.rejection.levels import kept_levels
from graft_lightning.rejection.pool import KeptLevel, Round, Shard, TrajectoryPool
from graft_lightning.rejection.ranks import ALONE, Ranks
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.scoring import by_name, declare_rewards, score_round
from graft_lightning.rejection.walked_again import require_the_same_end
from graft_lightning.types import SettingsError, on_device


@dataclass(frozen=True)
class Filled:
    """A round that every process may read.

    Attributes:
        round: the round.
        drawn: how many of its trajectories this process has drawn just now.
    """

    round: Round
    drawn: int


class Collection:
    """M draws of every condition, scored, in a pool on disk: what a run, a command or a notebook has filled.

    What is there already is used: nothing is drawn or scored twice. More draws, further conditions, further levels add
    what is missing; fewer of them use a part of what is there.

    Args:
        reference: gives process, sampler and decoder.
        rewards: whose scores are stored; the first is the one to accept by.
        folder: of the pool; made if absent.
        conditions: every condition, once.
        draws: M, samples per condition.
        keep: shares N_I / N of the sampler's steps, counted from the data, whose states are kept.
        seed: of the run; with the round, the condition and the draw it makes a trajectory's seed.
        batch_size: trajectories sampled at a time, and stored together.
        keep_as: "float16" or "bfloat16" rounds the kept states on disk, and halves them; None keeps them as they are.
        rescore: where a reward has changed since it scored the pool, put the old scores aside and score anew.
        under: makes the context in which networks are called, as that of a reduced precision; rewards are outside.
        precision: its name, which a round's samples depend on; None for full precision.

    Raises:
        ValueError: if two rewards have the same name.
    """

    def __init__(
        self,
        reference: Reference,
        rewards: Sequence[Reward],
        folder: Path | str,
        conditions: Sequence[str],
        draws: int,
        keep: Sequence[float] = (),
        seed: int = 0,
        batch_size: int = 256,
        keep_as: str | None = None,
        rescore: bool = False,
        under: Callable[[], AbstractContextManager[Any]] = nullcontext,
        precision: str | None = None,
    ) -> None:
        self.under, self.precision = under, precision
        self.reference, self.rewards = reference, by_name(rewards)
        self.folder, self.conditions = Path(folder).expanduser(), list(conditions)
        self.draws, self.keep, self.seed, self.batch_size = draws, tuple(keep), seed, batch_size
        self.keep_as, self.rescore = keep_as, rescore

    def fill(
        self,
        denoiser: Denoiser,
        reference_fingerprint: Mapping[str, Any],
        device: torch.device | str = "cpu",
        index: int = 0,
        model: str = "reference",
        ranks: Ranks = ALONE,
        in_step: bool = False,
    ) -> Filled:
        """Draws and scores what a round lacks. Collective.

        Args:
            denoiser: the model that is sampled: the reference, or in later rounds the current model.
            reference_fingerprint: of the reference, which a pool is made for.
            device: where the networks are.
            index: of the round; 0 is drawn from the frozen reference.
            model: what the round is drawn from: "reference", or a digest of the trained weights.
            ranks: the processes that share the work.
            in_step: they share the model's weights in parts, and need each other at every call of it.

        Raises:
            PoolError: if the pool is damaged, or was made for another reference; names each differing key.
            SettingsError: if the reference is not defined for a condition, or a reward does not return one number a
                sample; found out before anything is drawn.
        """
        with open_for_filling(
            ranks,
            lambda verify: self._open(reference_fingerprint, index, model, verify),
            lambda pool, opened: declare_rewards(
                pool, opened, self.reference, self.rewards.values(), device, self.rescore
            ),
        ) as opened:
            return Filled(opened, self.fill_round(opened, denoiser, device, ranks, in_step))

    def open(
        self, reference_fingerprint: Mapping[str, Any], index: int = 0, model: str = "reference", verify: bool = True
    ) -> tuple[TrajectoryPool, Round]:
        """The pool of these settings and one of its rounds, made if absent, rewards declared; arguments as in `fill`.

        Args:
            reference_fingerprint: of the reference.
            index: of the round.
            model: what it is drawn from.
            verify: take the checksums of what is there.

        Raises:
            PoolMismatch: if the folder holds the pool of another reference; names each differing key.
            DamagedShard: if a shard is damaged; names the file.
        """
        pool, opened = self._open(reference_fingerprint, index, model, verify)
        for name, reward in self.rewards.items():
            pool.add_reward(name, describe(reward, evidence=True), reward.groupwise, self.rescore)
        return pool, opened

    def _open(
        self, reference_fingerprint: Mapping[str, Any], index: int, model: str, verify: bool
    ) -> tuple[TrajectoryPool, Round]:
        try:
            self.reference.refuse(self.conditions)  # before they stand in a pool, which no run could complete
        except ValueError as error:
            raise SettingsError(f"data.conditions: {error}") from error
        schedule = self.reference.process.schedule
        levels = kept_levels(self.reference, self.keep)
        kept = {n: KeptLevel(t, float(schedule.log_snr(torch.tensor(t)))) for n, t in levels.items()}
        size = shard_size(self.batch_size, self.draws, list(self.rewards.values()))
        pool = TrajectoryPool.create(self.folder, reference_fingerprint, self.seed, verify)
        for existing in pool.rounds():
            if existing.index == index and is_imported(existing):  # whose samples have no states but x_0
                return pool, of_imported(pool, existing, self.conditions, self.draws)
            if existing.index == index:  # what is derived from t may have been rounded otherwise
                same = {n: level for n, level in existing.kept_levels.items() if n in kept and level.t == kept[n].t}
                kept |= same
        fingerprint = {"model": model, **({} if self.precision is None else {"precision": self.precision})}
        return pool, pool.start_round(index, self.conditions, self.draws, kept, size, fingerprint, self.keep_as)

    def fill_round(
        self, opened: Round, denoiser: Denoiser, device: Any = "cpu", ranks: Ranks = ALONE, in_step: bool = False
    ) -> int:
        """This process's share of what a round lacks, drawn and scored; arguments as in `fill`.

        Returns:
            The number of trajectories that were drawn, 0 if the round was complete.
        """
        # One batch a shard, or calls would not pair up.
        batch_size = max(map(len, opened.shards)) if in_step else self.batch_size

        def make(shard: Shard) -> TensorDict:
            return self.draw(opened, denoiser, shard.start, shard.stop, device, batch_size, shard.part)

        beside = judged_beside(self.rewards.values(), self.batch_size)
        with Judging(opened, self.reference, beside, self.batch_size, device, patient=True) as judging:
            drawn = fill_shards(opened, make, "Sampling", ranks, in_step, judging.judge)
        if in_step or ranks.world > 1:
            ranks.barrier()  # what others have drawn is scored and completed here
        self._add_states(opened, denoiser, device, batch_size, ranks, in_step)
        score_round(opened, self.reference, self.rewards.values(), device, self.batch_size, ranks)
        return drawn

    def draw(
        self,
        opened: Round,
        denoiser: Denoiser,
        start: int,
        stop: int,
        device: Any,
        batch_size: int | None = None,
        part: int = 0,
        levels: Mapping[int, KeptLevel] | None = None,
    ) -> TensorDict:
        """Trajectories of rows ``start .. stop - 1`` of a part of a round, on the CPU.

        Args:
            opened: the round.
            denoiser: the model.
            start: first row; those of a round's first part are conditions × draws, one condition after the other.
            stop: row after the last.
            device: where the networks are.
            batch_size: trajectories at a time.
            part: whose rows these are.
            levels: whose states are kept; those that the part keeps by default.

        Returns:
            seed (int64), x_0, states by state index, and the samples' de-duplication keys.
        """
        step = batch_size or self.batch_size
        # A part that was begun with more kept levels than are asked for now is finished with all of them.
        kept = opened.parts[part].kept_levels if levels is None else levels
        texts, draws = opened.parts[part].rows.pairs(np.arange(start, stop))
        cuts = range(0, stop - start, step)
        parts = [
            self._batch(
                denoiser,
                texts[low : low + step],
                draws[low : low + step],
                {n: level.t for n, level in kept.items()},
                opened.index,
                device,
            )
            for low in cuts
        ]
        joined: TensorDict = torch.cat(parts, 0)  # type: ignore[arg-type,assignment]
        return joined

    def _batch(
        self,
        denoiser: Denoiser,
        texts: list[str],
        draws: list[int],
        keep: Mapping[int, float],
        index: int,
        device: Any,
    ) -> TensorDict:
        reference = self.reference
        seeds = trajectory_seeds(self.seed, index, texts, draws)
        # A decoder may cost as much as a step of the sampler: it is not run for a reference that has no keys.
        keyed = type(reference).keys is not Reference.keys
        with self.under():
            trajectory = reference.sampler.sample(
                denoiser,
                reference.process,
                reference.encode(texts, device),
                Noise(seeds, device),
                reference.shape(texts),
                keep=list(keep.values()),
                static=reference.static_fields(texts, device),
            )
            keys = reference.keys(reference.decode(trajectory.x_0)) if keyed else None
        data = {
            "seed": seeds,
            "key": torch.full((len(texts),), -1) if keys is None else keys.cpu(),
            "x_0": on_device(trajectory.x_0, "cpu"),
        }
        if keep:
            kept = {str(n): on_device(trajectory.states[t], "cpu") for n, t in keep.items()}
            data["states"] = TensorDict(kept, batch_size=[len(texts)])
        return TensorDict(data, batch_size=[len(texts)])

    def _add_states(
        self, opened: Round, denoiser: Denoiser, device: Any, batch_size: int, ranks: Ranks, in_step: bool
    ) -> None:
        """States of levels that were asked for later: trajectories are walked again from their seeds."""
        lacking: dict[Shard, list[int]] = {}
        for n, shard in opened.missing_states():
            lacking.setdefault(shard, []).append(n)

        def walk(shard: Shard) -> TensorDict:
            levels = {n: opened.kept_levels[n] for n in lacking[shard]}
            return self.draw(opened, denoiser, shard.start, shard.stop, device, batch_size, shard.part, levels)

        def work(shard: Shard) -> None:
            again = walk(shard)
            require_the_same_end(opened, shard, again)
            for n in lacking[shard]:
                opened.write_states(n, shard, again.select(("states", str(n))))

        work_through(list(lacking), work, walk, "Sampling again", ranks, in_step)


def shard_size(batch_size: int, draws: int, rewards: Sequence[Reward]) -> int:
    """Trajectories per shard: one batch, or whole groups where a reward looks at groups."""
    if any(reward.groupwise for reward in rewards):
        return -(-batch_size // draws) * draws
    return batch_size
