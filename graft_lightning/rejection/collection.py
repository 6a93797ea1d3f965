"""Collection: draws trajectories from a model and scores them, shard by shard.

A shard is a range of global indices, ``condition index * draws + draw``. Which shard a trajectory belongs to, and which
batch of it, depends on the configuration alone, so any number of processes makes the same pool.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from graft_lightning.identity import describe
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise, trajectory_seeds
from graft_lightning.rejection.filling import fill_shards, open_for_filling, share
from graft_lightning.rejection.levels import kept_levels
from graft_lightning.rejection.pool import KeptLevel, Round, Shard, TrajectoryPool
from graft_lightning.rejection.ranks import ALONE, Ranks
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.reward import Reward, RewardError, score
from graft_lightning.types import SettingsError, StateLike, on_device, take


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

    What is there already is used: nothing is drawn or scored twice.

    Args:
        reference: gives process, sampler and decoder.
        rewards: whose scores are stored; the first is the one to accept by.
        folder: of the pool; made if absent.
        conditions: every condition, once.
        draws: M, samples per condition.
        keep: shares N_I / N of the sampler's steps, counted from the data, whose states are kept.
        seed: of the run; with the round, the condition and the draw it makes a trajectory's seed.
        batch_size: trajectories sampled at a time, and stored together.
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
    ) -> None:
        self.reference, self.rewards = reference, {reward.name: reward for reward in rewards}
        self.folder, self.conditions = Path(folder).expanduser(), list(conditions)
        self.draws, self.keep, self.seed, self.batch_size = draws, tuple(keep), seed, batch_size

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
            SettingsError: if a reward does not return one number a sample; found out before anything is drawn.
        """
        with open_for_filling(
            ranks,
            lambda verify: self.open(reference_fingerprint, index, model, verify),
            lambda opened: self._try_rewards(opened, device),
        ) as opened:
            return Filled(opened, self.fill_round(opened, denoiser, device, ranks, in_step))

    def open(
        self, reference_fingerprint: Mapping[str, Any], index: int = 0, model: str = "reference", verify: bool = True
    ) -> tuple[TrajectoryPool, Round]:
        """The pool of these settings and one of its rounds, made if absent; arguments as in `fill`.

        Args:
            reference_fingerprint: of the reference.
            index: of the round.
            model: what it is drawn from.
            verify: take the checksums of what is there.

        Raises:
            PoolMismatch: if the folder holds the pool of another reference; names each differing key.
            DamagedShard: if a shard is damaged; names the file.
        """
        schedule = self.reference.process.schedule
        levels = kept_levels(self.reference, self.keep)
        kept = {n: KeptLevel(t, float(schedule.log_snr(torch.tensor(t)))) for n, t in levels.items()}
        size = shard_size(self.batch_size, self.draws, list(self.rewards.values()))
        pool = TrajectoryPool.create(self.folder, reference_fingerprint, self.seed, verify)
        for existing in pool.rounds():
            if existing.index == index and set(kept) <= set(existing.kept_levels):
                kept, size = existing.kept_levels, existing.shard_size  # more levels, or other shards, serve as well
        opened = pool.start_round(index, self.conditions, self.draws, kept, size, {"model": model})
        for name, reward in self.rewards.items():
            pool.add_reward(name, describe(reward, evidence=True))
        return pool, opened

    def fill_round(
        self, opened: Round, denoiser: Denoiser, device: Any = "cpu", ranks: Ranks = ALONE, in_step: bool = False
    ) -> int:
        """This process's share of what a round lacks, drawn and scored; arguments as in `fill`.

        Returns:
            The number of trajectories that were drawn, 0 if the round was complete.
        """
        batch_size = opened.shard_size if in_step else self.batch_size  # one batch a shard, or calls would not pair up

        def make(start: int, stop: int) -> TensorDict:
            return self.draw(opened, denoiser, start, stop, device, batch_size)

        drawn = fill_shards(opened, make, "Sampling", ranks, in_step)
        for name, reward in self.rewards.items():
            self._score(opened, name, reward, device, ranks)
        return drawn

    def draw(
        self, opened: Round, denoiser: Denoiser, start: int, stop: int, device: Any, batch_size: int | None = None
    ) -> TensorDict:
        """Trajectories of the global indices ``start .. stop - 1`` of a round, on the CPU.

        Returns:
            condition, draw, seed (int64), x_0, states by state index, and the samples' de-duplication keys.
        """
        step = batch_size or self.batch_size
        # A round that was begun with more kept levels than are asked for now is finished with all of them.
        keep = {n: level.t for n, level in opened.kept_levels.items()}
        parts = []
        for low in range(start, stop, step):
            indices = range(low, min(low + step, stop))
            parts.append(self._batch(denoiser, indices, keep, opened.index, device))
        joined: TensorDict = torch.cat(parts, 0)  # type: ignore[arg-type,assignment]
        return joined

    def _batch(
        self, denoiser: Denoiser, indices: range, keep: Mapping[int, float], index: int, device: Any
    ) -> TensorDict:
        reference = self.reference
        conditions, draws = [i // self.draws for i in indices], [i % self.draws for i in indices]
        texts = [self.conditions[i] for i in conditions]
        seeds = trajectory_seeds(self.seed, index, texts, draws)
        trajectory = reference.sampler.sample(
            denoiser,
            reference.process,
            reference.encode(texts, device),
            Noise(seeds, device),
            reference.shape(texts),
            keep=list(keep.values()),
            static=reference.static_fields(texts, device),
        )
        # A decoder may cost as much as a step of the sampler: it is not run for a reference that has no keys.
        keyed = type(reference).keys is not Reference.keys
        keys = reference.keys(reference.decode(trajectory.x_0)) if keyed else None
        data = {
            "condition": torch.tensor(conditions),
            "draw": torch.tensor(draws),
            "seed": seeds,
            "key": torch.full((len(texts),), -1) if keys is None else keys.cpu(),
            "x_0": on_device(trajectory.x_0, "cpu"),
        }
        if keep:
            kept = {str(n): on_device(trajectory.states[t], "cpu") for n, t in keep.items()}
            data["states"] = TensorDict(kept, batch_size=[len(texts)])
        return TensorDict(data, batch_size=[len(texts)])

    def _score(self, opened: Round, name: str, reward: Reward, device: Any, ranks: Ranks) -> None:
        """Writes the scores that a round lacks; this process's share of them."""
        missing = share(opened.missing_rewards(name), ranks.rank, ranks.world)
        quiet = not missing or ranks.rank != 0
        reward.to(device)
        with tqdm(total=sum(map(len, missing)), desc=name, unit="sample", disable=quiet) as bar:
            for shard in missing:
                start, stop = _scored_together(shard, self.draws) if reward.groupwise else (shard.start, shard.stop)
                x_0 = opened.read(torch.arange(start, stop), ["x_0"])["x_0"]
                texts = [self.conditions[i // self.draws] for i in range(start, stop)]
                scores = score_states(self.reference, reward, x_0, texts, self.batch_size, device)
                opened.write_rewards(name, shard, scores[shard.start - start : shard.stop - start])
                bar.update(len(shard))
        reward.to("cpu")  # its memory is needed for training

    def _try_rewards(self, opened: Round, device: Any) -> None:
        """Scores states of pure noise before anything is sampled: a reward that cannot work is found out here."""
        rewards = [reward for name, reward in self.rewards.items() if opened.missing_rewards(name)]
        if not rewards:
            return
        few = self.draws if any(reward.groupwise for reward in rewards) else min(2, self.draws)
        reference, texts = self.reference, self.conditions[:1] * few
        noise = Noise(torch.arange(few), device)
        x = reference.process.prior(reference.shape(texts), noise, reference.static_fields(texts, device))
        samples = reference.decode(x)
        for reward in rewards:
            try:
                score(reward.to(device), samples, texts)
            except RewardError as error:
                raise SettingsError(f"collect: {error}") from error


def score_states(
    reference: Reference, reward: Reward, x_0: StateLike, texts: Sequence[str], batch_size: int, device: Any
) -> Tensor:
    """Rewards of finished states, float32 ``(batch,)`` on the CPU; a groupwise reward is given all of them at once."""
    scores = []
    step = len(texts) if reward.groupwise else batch_size
    for low in range(0, len(texts), step):
        samples = reference.decode(on_device(take(x_0, slice(low, low + step)), device))
        scores.append(score(reward, samples, texts[low : low + step]))
    return torch.cat(scores)


def shard_size(batch_size: int, draws: int, rewards: Sequence[Reward]) -> int:
    """Trajectories per shard: one batch, or whole groups where a reward looks at groups."""
    if any(reward.groupwise for reward in rewards):
        return -(-batch_size // draws) * draws
    return batch_size


def _scored_together(shard: Shard, draws: int) -> tuple[int, int]:
    """The whole groups that a shard has a part in; more than itself where a pool was not made for groupwise rewards."""
    return shard.start // draws * draws, -(-shard.stop // draws) * draws
