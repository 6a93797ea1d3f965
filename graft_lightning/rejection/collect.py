"""Collection: draws trajectories from a model and scores them, shard by shard.

A shard is a range of global indices, ``condition index * draws + draw``. Which shard a trajectory belongs to, and which
batch of it, depends on the configuration alone, so any number of processes makes the same pool.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise, trajectory_seeds
from graft_lightning.rejection.filling import fill_shards, share
from graft_lightning.rejection.pool import Round, Shard
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.reward import Reward, score
from graft_lightning.types import StateLike, on_device, rows


@dataclass(frozen=True)
class Plan:
    """What is drawn in one round.

    Attributes:
        conditions: every condition, once.
        draws: M, samples per condition.
        keep: levels of the kept states by state index n on the sampler's grid.
        run_seed: with the round, the condition and the draw it makes a trajectory's seed.
        round_index: 0 for the frozen reference.
        batch_size: trajectories sampled at a time.
    """

    conditions: Sequence[str]
    draws: int
    keep: dict[int, float]
    run_seed: int
    round_index: int
    batch_size: int

    def pairs(self, start: int, stop: int) -> tuple[list[int], list[int]]:
        """Condition index and draw of the global indices ``start .. stop - 1``."""
        return [i // self.draws for i in range(start, stop)], [i % self.draws for i in range(start, stop)]


def kept_levels(reference: Reference, fractions: Sequence[float]) -> dict[int, float]:
    """State index N_I and its level for fractions of the sampler's steps, counted from the data; 0 is left out.

    Raises:
        ValueError: if a fraction lies outside [0, 1).
    """
    levels = reference.sampler.levels(reference.process)
    return {n: levels[n] for n in sorted({state_index(reference, f) for f in fractions}) if n > 0}


def state_index(reference: Reference, fraction: float) -> int:
    """N_I, the state index that a fraction of the sampler's steps stands for.

    Raises:
        ValueError: if the fraction lies outside [0, 1), or is so near to 1 that no step would be left.
    """
    if not 0 <= fraction < 1:
        raise ValueError(
            f"handoff={fraction}: N_I / N must lie in [0, 1); "
            "0 trains every level (GRAFT), 1 would leave nothing to train"
        )
    index = round(fraction * reference.sampler.steps)
    if index == reference.sampler.steps:
        raise ValueError(
            f"handoff={fraction} of {index} steps is nearest to N_I = {index}, which leaves nothing to train; "
            f"the largest that does is {(index - 1) / index:g}"
        )
    return index


def draw(reference: Reference, denoiser: Denoiser, plan: Plan, start: int, stop: int, device: Any) -> TensorDict:
    """Trajectories of the global indices ``start .. stop - 1``, on the CPU.

    Returns:
        condition, draw, seed (int64), x_0, states by state index, and the samples' de-duplication keys.
    """
    parts = []
    for low in range(start, stop, plan.batch_size):
        parts.append(_batch(reference, denoiser, plan, low, min(low + plan.batch_size, stop), device))
    joined: TensorDict = torch.cat(parts, 0)  # type: ignore[arg-type,assignment]
    return joined


def _batch(reference: Reference, denoiser: Denoiser, plan: Plan, start: int, stop: int, device: Any) -> TensorDict:
    indices, draws = plan.pairs(start, stop)
    texts = [plan.conditions[i] for i in indices]
    seeds = trajectory_seeds(plan.run_seed, plan.round_index, texts, draws)
    trajectory = reference.sampler.sample(
        denoiser,
        reference.process,
        reference.encode(texts, device),
        Noise(seeds, device),
        reference.shape(texts),
        keep=list(plan.keep.values()),
        carried=reference.carried(texts, device),
    )
    # A decoder may cost as much as a step of the sampler: it is not run for a reference that has no keys.
    keyed = type(reference).keys is not Reference.keys
    keys = reference.keys(reference.decode(trajectory.x_0)) if keyed else None
    data = {
        "condition": torch.tensor(indices),
        "draw": torch.tensor(draws),
        "seed": seeds,
        "key": torch.full((len(texts),), -1) if keys is None else keys.cpu(),
        "x_0": on_device(trajectory.x_0, "cpu"),
    }
    if plan.keep:
        kept = {str(n): on_device(trajectory.states[t], "cpu") for n, t in plan.keep.items()}
        data["states"] = TensorDict(kept, batch_size=[len(texts)])
    return TensorDict(data, batch_size=[len(texts)])


def score_states(
    reference: Reference, reward: Reward, x_0: StateLike, texts: Sequence[str], batch_size: int, device: Any
) -> Tensor:
    """Rewards of finished states, float32 ``(batch,)`` on the CPU; a groupwise reward is given all of them at once."""
    scores = []
    step = len(texts) if reward.groupwise else batch_size
    for low in range(0, len(texts), step):
        samples = reference.decode(on_device(rows(x_0, slice(low, low + step)), device))
        scores.append(score(reward, samples, texts[low : low + step]))
    return torch.cat(scores)


def shard_size(batch_size: int, draws: int, rewards: Sequence[Reward]) -> int:
    """Trajectories per shard: one batch, or whole groups where a reward looks at groups."""
    if any(reward.groupwise for reward in rewards):
        return -(-batch_size // draws) * draws
    return batch_size


def fill(
    pool_round: Round,
    reference: Reference,
    denoiser: Denoiser,
    plan: Plan,
    rewards: Mapping[str, Reward],
    device: Any,
    rank: int = 0,
    world: int = 1,
    in_step: bool = False,
) -> int:
    """Draws and scores what a round lacks; this process's share of it.

    Args:
        pool_round: the round, whose settings are those of ``plan``.
        reference: decodes what is drawn.
        denoiser: the model that is sampled: the reference, or in later rounds the current model.
        plan: what is drawn.
        rewards: by name; they must have been declared to the pool.
        device: where the networks are.
        rank: of this process; it has the shards ``rank, rank + world, ...``.
        world: number of processes.
        in_step: the processes share the model's weights in parts, and need each other at every call of it.

    Returns:
        The number of trajectories that were drawn, 0 if the round was complete.
    """
    # A round that was begun with more kept levels than are asked for now is finished with all of them.
    plan = replace(plan, keep={n: level.t for n, level in pool_round.kept_levels.items()})

    def make(start: int, stop: int) -> TensorDict:
        return draw(reference, denoiser, plan, start, stop, device)

    if in_step:  # one batch a shard, or calls would not pair up
        plan = replace(plan, batch_size=pool_round.shard_size)
    drawn = fill_shards(pool_round, make, "Sampling", rank, world, in_step)
    for name, reward in rewards.items():
        missing = share(pool_round.missing_rewards(name), rank, world)
        reward.to(device)
        with tqdm(total=sum(map(len, missing)), desc=name, unit="sample", disable=not missing or rank != 0) as bar:
            for shard in missing:
                start, stop = _scored_together(shard, plan.draws) if reward.groupwise else (shard.start, shard.stop)
                indices, _ = plan.pairs(start, stop)
                x_0 = pool_round.read(torch.arange(start, stop), ["x_0"])["x_0"]
                texts = [plan.conditions[i] for i in indices]
                scores = score_states(reference, reward, x_0, texts, plan.batch_size, device)
                pool_round.write_rewards(name, shard, scores[shard.start - start : shard.stop - start])
                bar.update(len(shard))
        reward.to("cpu")  # its memory is needed for training
    return drawn


def _scored_together(shard: Shard, draws: int) -> tuple[int, int]:
    """The whole groups that a shard has a part in; more than itself where a pool was not made for groupwise rewards."""
    return shard.start // draws * draws, -(-shard.stop // draws) * draws
