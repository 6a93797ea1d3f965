"""Scores of what a pool holds: by the rewards of a collection, or by further ones at any later time."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft_lightning.identity import describe
from graft_lightning.processes.noise import Noise
from graft_lightning.rejection.filling import open_for_filling, work_through
from graft_lightning.rejection.judging import Judging, judged_beside, wait_for
from graft_lightning.rejection.pool import PoolMismatch, Round, Shard, TrajectoryPool
from graft_lightning.rejection.ranks import ALONE, Ranks
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.reward import Reward, RewardError, score
from graft_lightning.types import SettingsError, StateLike, on_device, take


def by_name(rewards: Iterable[Reward]) -> dict[str, Reward]:
    """Rewards by the names of their columns.

    Raises:
        ValueError: if two have the same name: one of them would be dropped in silence.
    """
    found: dict[str, Reward] = {}
    for reward in rewards:
        if found.setdefault(reward.name, reward) is not reward:
            raise ValueError(
                f"two rewards are called {reward.name!r}; their scores need columns of their own: give one another "
                "name (WeightedSum, Lexicographic and CallableReward take `name`, others say theirs by a property)"
            )
    return found


def rescore(
    pool: TrajectoryPool,
    reference: Reference,
    rewards: Iterable[Reward],
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    ranks: Ranks = ALONE,
    index: int = 0,
    conditions: Sequence[str] | None = None,
    draws: int | None = None,
    anew: bool = False,
) -> Round:
    """Scores what is there by further rewards; nothing is drawn. Resumable. Collective.

    Args:
        pool: an open pool.
        reference: that decodes its states.
        rewards: further ones, or those that have not scored everything yet.
        device: where they work.
        batch_size: samples at a time.
        ranks: the processes that share the work.
        index: of the round.
        conditions: to score; all that there are by default.
        draws: to score of each condition; all that there are by default.
        anew: where a reward has changed since it scored the pool, put the old scores aside and score anew.

    Returns:
        The round, whose trajectories on disk are all scored.

    Raises:
        PoolMismatch: if a column has the scores of another reward; names each differing key.
        SettingsError: if a reward does not return one number a sample.
    """
    named = by_name(rewards)
    with open_for_filling(
        ranks,
        lambda verify: (pool, pool.round(index, conditions, draws)),
        lambda opened_pool, opened: declare_rewards(opened_pool, opened, reference, named.values(), device, anew),
    ) as opened:
        score_round(opened, reference, named.values(), device, batch_size, ranks)
    return opened


def declare_rewards(
    pool: TrajectoryPool,
    opened: Round,
    reference: Reference,
    rewards: Iterable[Reward],
    device: Any = "cpu",
    anew: bool = False,
) -> bool:
    """Declares rewards once they have been tried: one that fails owns no name.

    Args:
        pool: where they are declared.
        opened: the round that they are to score.
        reference: decodes what they are tried on.
        rewards: all of a collection.
        device: where they work.
        anew: put the scores of changed rewards aside.

    Returns:
        Whether there is something to score.

    Raises:
        PoolMismatch: if a name has the scores of another reward; names each differing key.
        SettingsError: if a reward does not return one number a sample.
    """
    unscored = []
    identities = {reward.name: describe(reward, evidence=True) for reward in rewards}
    for reward in rewards:
        try:
            free = pool.check_reward(reward.name, identities[reward.name], reward.groupwise)
        except PoolMismatch:
            if not anew:
                raise
            free = True
        if free or opened.missing_rewards(reward.name):
            unscored.append(reward)
    try_rewards(unscored, reference, opened, device)
    for reward in unscored:
        pool.add_reward(reward.name, identities[reward.name], reward.groupwise, anew)
    return bool(unscored)


def try_rewards(rewards: Sequence[Reward], reference: Reference, opened: Round, device: Any) -> None:
    """Scores states of pure noise before anything is sampled: a reward that cannot work is found out here.

    Raises:
        SettingsError: if one does not return one number a sample.
    """
    if not rewards:
        return
    wait_for(rewards)
    few = opened.draws if any(reward.groupwise for reward in rewards) else min(2, opened.draws)
    texts = opened.conditions[:1] * few
    noise = Noise(torch.arange(few), device)
    x = reference.process.prior(reference.shape(texts), noise, reference.static_fields(texts, device))
    samples = reference.decode(x)
    for reward in rewards:
        try:
            score(reward.to(device), samples, texts, shared=True)
        except RewardError as error:
            raise SettingsError(f"collect: {error}") from error


def score_round(
    opened: Round,
    reference: Reference,
    rewards: Iterable[Reward],
    device: Any = "cpu",
    batch_size: int = 256,
    ranks: Ranks = ALONE,
) -> None:
    """Writes the scores that a round lacks of what is on disk; this process's share of them.

    Args:
        opened: the round.
        reference: decodes its states.
        rewards: declared ones.
        device: where they work.
        batch_size: samples at a time.
        ranks: the processes that share the work.
    """
    for reward in rewards:
        absent = set(opened.missing())
        missing = [shard for shard in opened.missing_rewards(reward.name) if shard not in absent]
        if judged_beside([reward], batch_size):
            with Judging(opened, reference, [reward], batch_size, device) as judging:
                work_through(missing, judging.judge, judging.judge, reward.name, ranks)
            continue

        def work(shard: Shard, reward: Reward = reward) -> None:
            opened.write_rewards(reward.name, shard, *_scores(opened, reference, reward, shard, batch_size, device))

        reward.to(device)
        work_through(missing, work, work, reward.name, ranks)
        reward.to("cpu")  # its memory is needed for training


def _scores(
    opened: Round, reference: Reference, reward: Reward, shard: Shard, batch_size: int, device: Any
) -> tuple[Tensor, Tensor]:
    """Scores of a shard, and which of its rows were asked for: those in the view that have none yet."""
    rows = opened.unscored(reward.name, shard)
    index = opened.indices(shard)[rows]
    draws = opened.draws
    # A groupwise reward is given whole groups, also where a shard holds a part of them.
    read = (np.unique(index // draws)[:, None] * draws + np.arange(draws)).reshape(-1) if reward.groupwise else index
    texts = [opened.conditions[i] for i in (read // draws).tolist()]
    x_0 = opened.read(read, ["x_0"])["x_0"]
    scores = score_states(reference, reward, x_0, texts, batch_size, device)
    values = torch.full((len(shard),), torch.nan)
    if reward.groupwise:
        scores = scores[torch.from_numpy(np.searchsorted(read, index))]
    values[torch.from_numpy(rows)] = scores
    return values, torch.from_numpy(rows)


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
