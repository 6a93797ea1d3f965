"""Objectives over whole groups of a pool, as GRAFT's own is over accepted draws."""

from graft_lightning.rejection.objectives.advantages import advantages
from graft_lightning.rejection.objectives.awm import AWM
from graft_lightning.rejection.objectives.base import Answers, PoolObjective
from graft_lightning.rejection.objectives.dgpo import DGPO
from graft_lightning.rejection.objectives.dpo import DPO
from graft_lightning.rejection.objectives.nft import NFT
from graft_lightning.rejection.objectives.rwr import RAFT, RWR
from graft_lightning.rejection.objectives.unselected import UnselectedBaseline

__all__ = ["AWM", "DGPO", "DPO", "NFT", "RAFT", "RWR", "Answers", "PoolObjective", "UnselectedBaseline", "advantages"]
