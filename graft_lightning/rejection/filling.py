"""Filling a round of a pool: one run at a time, every process the shards that are its own and still missing."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from tensordict import TensorDictBase
from tqdm import tqdm

from graft_lightning.refusals import Refusal
from graft_lightning.rejection.pool import Round, Shard, TrajectoryPool
from graft_lightning.rejection.ranks import Ranks


@contextlib.contextmanager
def open_for_filling(
    ranks: Ranks,
    opens: Callable[[bool], tuple[TrajectoryPool, Round]],
    tries: Callable[[Round], None] | None = None,
) -> Iterator[Round]:
    """Inside, every process of the run may fill the round; afterwards it is filled for all. Collective.

    Process 0 opens first, takes the checksums and the lock; the others open what it has found to be sound.

    Args:
        ranks: the processes of the run.
        opens: makes or opens pool and round; is told whether to take the checksums.
        tries: finds out, before anything is made, what would not work.

    Raises:
        PoolError: on all processes, where the pool cannot be used as it was asked for.
        SettingsError: on all processes, where ``opens`` or ``tries`` refuses.
    """
    with contextlib.ExitStack() as held:
        error, opened = None, None
        if ranks.rank == 0:
            try:
                pool, opened = opens(True)
                held.enter_context(pool.locked())  # before any other process of this run begins
                if tries is not None:
                    tries(opened)
            except (Refusal, OSError) as found:
                error = found
        error = ranks.broadcast(error)
        if error is not None:
            raise error  # on all processes: none is left waiting
        yield opened or opens(False)[1]
        ranks.barrier()


def fill_shards(
    pool_round: Round,
    make: Callable[[int, int], TensorDictBase],
    what: str,
    ranks: Ranks,
    in_step: bool = False,
) -> int:
    """Makes and commits the shards that a round lacks; this process's share of them.

    Args:
        pool_round: the round.
        make: gives the trajectories of the global indices ``start .. stop - 1``, as `Round.write` takes them; it must
            depend on the indices alone.
        what: the bar's caption.
        ranks: the processes; each has the shards ``rank, rank + world, ...``.
        in_step: every process calls ``make`` equally often, where a call needs all of them; what a process makes for
            company alone is thrown away.

    Returns:
        The number of trajectories that were made.
    """
    everything = pool_round.missing()
    missing = share(everything, ranks.rank, ranks.world)
    quiet = not missing or ranks.rank != 0
    with tqdm(total=sum(map(len, missing)), desc=what, unit="sample", disable=quiet) as bar:
        for shard in missing:
            pool_round.write(shard, make(shard.start, shard.stop))
            bar.update(len(shard))
    if in_step:
        for _ in range(max(len(share(everything, r, ranks.world)) for r in range(ranks.world)) - len(missing)):
            make(everything[0].start, everything[0].stop)
    return sum(map(len, missing))


def share(shards: Sequence[Shard], rank: int, world: int) -> list[Shard]:
    """Those of the shards that one process makes."""
    return [shard for shard in shards if shard.index % world == rank]
