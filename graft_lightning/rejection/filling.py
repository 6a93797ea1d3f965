"""Filling a round of a pool: one run at a time, every process the shards that nobody has made or is making."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence

from tensordict import TensorDictBase
from tqdm import tqdm

from graft_lightning.refusals import Refusal, SettingsError
from graft_lightning.rejection.pool import Round, Shard, TrajectoryPool
from graft_lightning.rejection.ranks import Ranks

GUARD = "a script begins what it does below `if __name__ == '__main__':`, for such processes import it once more"
"""What a script needs whose rewards start processes."""


def refuse_import_by_a_process() -> None:
    """Refuses work in a process that has only been started for a reward, and imports the script of who started it.

    It would wait for ever for the pool that the script fills in its own process.

    Raises:
        SettingsError: saying what the script lacks.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__mp_main__":
            raise SettingsError(f"{frame.f_code.co_filename} runs again in a process of one of its rewards: {GUARD}")
        frame = frame.f_back


@contextlib.contextmanager
def open_for_filling(
    ranks: Ranks,
    opens: Callable[[bool], tuple[TrajectoryPool, Round]],
    prepares: Callable[[TrajectoryPool, Round], bool] | None = None,
) -> Iterator[Round]:
    """Inside, every process of the run may fill the round; afterwards it is filled for all. Collective.

    Process 0 opens first, takes the checksums and the lock; the others open what it has found to be sound. Where there
    is nothing to do no lock is taken, so that a pool which can only be read serves as well.

    Args:
        ranks: the processes of the run.
        opens: makes or opens pool and round; is told whether to take the checksums.
        prepares: says whether something beside trajectories is to be made, after it has found out what would not work.

    Raises:
        PoolError: on all processes, where the pool cannot be used as it was asked for.
        SettingsError: on all processes, where ``opens`` or ``prepares`` refuses.
    """
    refuse_import_by_a_process()
    with contextlib.ExitStack() as held:
        error, opened = None, None
        if ranks.rank == 0:
            try:
                pool, opened = opens(True)
                more = prepares is not None and prepares(pool, opened)
                if more or not opened.complete:
                    held.enter_context(pool.locked())  # before any other process of this run begins
                    # as long as nothing was drawn, a run of other settings may have taken the pool
                    TrajectoryPool.open(pool.path, pool.fingerprint, pool.run_seed, verify=None)
            except (Refusal, OSError) as found:
                error = found
        error = ranks.broadcast(error)
        if error is not None:
            raise error  # on all processes: none is left waiting
        yield opened or opens(False)[1]
        ranks.barrier()


def fill_shards(
    pool_round: Round,
    make: Callable[[Shard], TensorDictBase],
    what: str,
    ranks: Ranks,
    in_step: bool = False,
    then: Callable[[Shard], object] = lambda shard: None,
) -> int:
    """Makes and commits the shards that a round lacks; this process's share of them. Collective.

    Processes take shard after shard as they come to it, so that a slow one, or one with slow rewards, keeps none of the
    others waiting; where a call of the model needs all of them, they are shared out beforehand.

    Args:
        pool_round: the round.
        make: gives the trajectories of a shard, as `Round.write` takes them; it must depend on its rows alone.
        what: the bar's caption.
        ranks: the processes.
        in_step: every process calls ``make`` equally often, where a call needs all of them; what a process makes for
            company alone is thrown away.
        then: called with every shard that this process has committed.

    Returns:
        The number of trajectories that were made.
    """

    def work(shard: Shard) -> None:
        pool_round.write(shard, make(shard))
        then(shard)

    return work_through(pool_round.missing(), work, make, what, ranks, in_step)


def work_through(
    shards: Sequence[Shard],
    work: Callable[[Shard], object],
    company: Callable[[Shard], object],
    what: str,
    ranks: Ranks,
    in_step: bool = False,
) -> int:
    """This process's share of work on shards, with a bar.

    Args:
        shards: of all processes.
        work: makes and commits one.
        company: makes one and commits nothing.
        what: the bar's caption.
        ranks: the processes.
        in_step: see `fill_shards`.

    Returns:
        The number of trajectories in this process's shards.
    """
    if ranks.counter is not None and not in_step:
        return _taken(shards, work, what, ranks, ranks.counter)
    mine = share(shards, ranks.rank, ranks.world)
    quiet = not mine or ranks.rank != 0
    with tqdm(total=sum(map(len, mine)), desc=what, unit="sample", disable=quiet) as bar:
        for shard in mine:
            work(shard)
            bar.update(len(shard))
    if in_step:
        for _ in range(max(len(share(shards, r, ranks.world)) for r in range(ranks.world)) - len(mine)):
            company(shards[0])
    return sum(map(len, mine))


def _taken(
    shards: Sequence[Shard],
    work: Callable[[Shard], object],
    what: str,
    ranks: Ranks,
    counter: Callable[[], Callable[[], int]],
) -> int:
    """Works on the next shard that no process has taken, until none is left; the bar shows those of all processes."""
    # What process 0 found missing: another one may look when the first shards are there already.
    shards = ranks.broadcast(list(shards))
    if not shards:
        return 0
    following = counter()
    made = 0
    with tqdm(total=sum(map(len, shards)), desc=what, unit="sample", disable=ranks.rank != 0) as bar:
        while (place := following()) < len(shards):
            work(shards[place])
            made += len(shards[place])
            bar.update(sum(map(len, shards[: place + 1])) - bar.n)
    return made


def share(shards: Sequence[Shard], rank: int, world: int) -> list[Shard]:
    """Those of the shards that one process makes; the parts of a round, often of one shard, begin with another one."""
    return [shard for shard in shards if (shard.part + shard.index) % world == rank]
