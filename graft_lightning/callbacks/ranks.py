"""A trainer's processes as the core sees them."""

from collections.abc import Callable
from datetime import timedelta

import lightning as L
from torch.distributed import TCPStore

from graft_lightning.rejection.ranks import Ranks

PATIENCE = timedelta(minutes=30)
"""For which a process waits for the counter of process 0."""


def ranks_of(trainer: L.Trainer) -> Ranks:
    """The processes of a run."""
    strategy = trainer.strategy

    def barrier() -> None:
        strategy.barrier("pool filled")

    shared = Counters(trainer).new if trainer.world_size > 1 else None
    return Ranks(trainer.global_rank, trainer.world_size, strategy.broadcast, barrier, shared)


class Counters:
    """Counters that the processes of a run share, in a store of process 0, which lives as long as this does.

    Args:
        trainer: whose processes they are.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self._trainer = trainer
        self._store: TCPStore | None = None
        self._made = 0

    def new(self) -> Callable[[], int]:
        """A counter that gives 0, 1, 2, … in the order in which processes ask. Collective."""
        store = self._store = self._store or self._opened()
        self._made += 1
        name = f"counter {self._made}"
        return lambda: int(store.add(name, 1)) - 1

    def _opened(self) -> TCPStore:
        strategy = self._trainer.strategy
        environment = getattr(strategy, "cluster_environment", None)
        host = environment.main_address if environment is not None else "127.0.0.1"
        first = self._trainer.is_global_zero
        # Port 0 is any that is free, which the others must be told.
        store = TCPStore(host, 0, is_master=True, timeout=PATIENCE, wait_for_workers=False) if first else None
        port = strategy.broadcast(store.port if store is not None else None)
        return store or TCPStore(host, port, is_master=False, timeout=PATIENCE)
