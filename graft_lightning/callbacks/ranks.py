"""A trainer's processes as the core sees them."""

from collections.abc import Callable
from typing import Any

import lightning as L
import torch.distributed as dist

from graft_lightning.rejection.ranks import Ranks


def ranks_of(trainer: L.Trainer) -> Ranks:
    """The processes of a run."""
    strategy = trainer.strategy
    return Ranks(trainer.global_rank, trainer.world_size, strategy.broadcast, lambda: strategy.barrier("pool filled"))


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
