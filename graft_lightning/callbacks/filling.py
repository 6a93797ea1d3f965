"""How callbacks fill pools: one run at a time, all processes together, refusals before any work."""

import contextlib
from collections.abc import Callable, Iterator

import lightning as L

from graft_lightning.rejection.pool import PoolError, Round, TrajectoryPool
from graft_lightning.types import SettingsError


@contextlib.contextmanager
def filling(
    trainer: L.Trainer,
    opens: Callable[[bool], tuple[TrajectoryPool, Round]],
    tries: Callable[[Round], None] | None = None,
) -> Iterator[Round]:
    """Inside, every process of the run may fill the round; afterwards it is filled for all. Collective.

    Args:
        trainer: of the run.
        opens: makes or opens pool and round; is told whether to take the checksums.
        tries: finds out, before anything is made, what would not work.

    Raises:
        PoolError: on all processes, where the pool cannot be used as it was asked for.
        SettingsError: on all processes, where ``opens`` or ``tries`` refuses.
    """
    with contextlib.ExitStack() as held:
        error = None
        if trainer.is_global_zero:
            try:
                pool, opened = opens(True)
                held.enter_context(pool.locked())  # before any other process of this run begins
                if tries is not None:
                    tries(opened)
            except (PoolError, SettingsError) as found:
                error = found
        error = trainer.strategy.broadcast(error)
        if error is not None:
            raise error  # on all processes: none is left waiting
        _, opened = opens(False)
        yield opened
        trainer.strategy.barrier("pool filled")
