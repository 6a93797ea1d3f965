"""A trainer's processes as the core sees them."""

import lightning as L

from graft_lightning.rejection.ranks import Ranks


def ranks_of(trainer: L.Trainer) -> Ranks:
    """The processes of a run."""
    strategy = trainer.strategy
    return Ranks(trainer.global_rank, trainer.world_size, strategy.broadcast, lambda: strategy.barrier("pool filled"))
