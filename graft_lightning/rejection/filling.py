"""Filling a round of the pool: every process makes the shards that are its own and still missing."""

from collections.abc import Callable, Sequence

from tensordict import TensorDictBase
from tqdm import tqdm

from graft_lightning.rejection.pool import Round, Shard


def fill_shards(
    pool_round: Round,
    make: Callable[[int, int], TensorDictBase],
    what: str,
    rank: int = 0,
    world: int = 1,
    in_step: bool = False,
) -> int:
    """Makes and commits the shards that a round lacks; this process's share of them.

    Args:
        pool_round: the round.
        make: gives the trajectories of the global indices ``start .. stop - 1``, as `Round.write` takes them; it must
            depend on the indices alone.
        what: the bar's caption.
        rank: of this process; it has the shards ``rank, rank + world, ...``.
        world: number of processes.
        in_step: every process calls ``make`` equally often, where a call needs all of them; what a process makes for
            company alone is thrown away.

    Returns:
        The number of trajectories that were made.
    """
    everything = pool_round.missing()
    missing = share(everything, rank, world)
    with tqdm(total=sum(map(len, missing)), desc=what, unit="sample", disable=not missing or rank != 0) as bar:
        for shard in missing:
            pool_round.write(shard, make(shard.start, shard.stop))
            bar.update(len(shard))
    if in_step:
        for _ in range(max(len(share(everything, r, world)) for r in range(world)) - len(missing)):
            make(everything[0].start, everything[0].stop)
    return sum(map(len, missing))


def share(shards: Sequence[Shard], rank: int, world: int) -> list[Shard]:
    """Those of the shards that one process makes."""
    return [shard for shard in shards if shard.index % world == rank]
