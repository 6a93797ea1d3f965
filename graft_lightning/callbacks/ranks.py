"""A trainer's processes as the core sees them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lightning as L
import torch.distributed as dist
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


def sum_of_all(number: float) -> float:
    """The sum of a number over the processes of a run. Collective."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return number
    parts: list[float] = [0.0] * dist.get_world_size()
    dist.all_gather_object(parts, number)
    return sum(parts)


def ready(trainer: L.Trainer, module: Any) -> None:
    """Puts a module where a trainer would, with its networks built, for a command that trains nothing. Collective."""
    trainer.strategy.connect(module)
    trainer.strategy.setup_environment()
    module.configure_model()
    module.to(trainer.strategy.root_device).eval()


def on_all_processes(trainer: L.Trainer, work: Callable[[], object]) -> None:
    """Does the work of a command of ours on every process that a trainer's strategy asks for, and starts them."""
    launcher = trainer.strategy.launcher
    if launcher is None:
        work()
    else:
        launcher.launch(work)


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
        port = strategy.broadcast(store.port if store is not None else 0)
        return store or TCPStore(host, port, is_master=False, timeout=PATIENCE)
