"""LightningModules: thin adapters around the mathematics."""

from graft_lightning.modules.graft import Graft, PGraft
from graft_lightning.modules.pretrain import Pretrain

__all__ = ["Graft", "PGraft", "Pretrain"]
