"""A trainer's processes as the core sees them."""

import lightning as L
import torch.distributed as dist

from graft_lightning.rejection.ranks import Ranks


def ranks_of(trainer: L.Trainer) -> Ranks:
    """The processes of a run."""
    strategy = trainer.strategy
    return Ranks(trainer.global_rank, trainer.world_size, strategy.broadcast, lambda: strategy.barrier("pool filled"))


def gathered_numbers(value: float) -> list[float]:
    """A number of every process, in the order of their ranks. Collective."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return [value]
    found: list[float] = [0.0] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found
