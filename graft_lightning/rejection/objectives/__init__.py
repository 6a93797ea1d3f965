"""Objectives over whole groups of a pool, as GRAFT's own is over accepted draws."""

from graft_lightning.rejection.objectives.advantages import advantages
from graft_lightning.rejection.objectives.awm import AWM
from graft_lightning.rejection.objectives.base import Answers, PoolObjective
from graft_lightning.rejection.objectives.ddpo import DDPO
from graft_lightning.rejection.objectives.dgpo import DGPO
from graft_lightning.rejection.objectives.dpo import DPO
from graft_lightning.rejection.objectives.flow_grpo import FlowGRPO
from graft_lightning.rejection.objectives.nft import NFT
from graft_lightning.rejection.objectives.policy import PolicyObjective
from graft_lightning.rejection.objectives.rwr import RAFT, RWR
from graft_lightning.rejection.objectives.unselected import UnselectedBaseline
from graft_lightning.rejection.objectives.weighed import WeighedObjective

__all__ = [
    "AWM",
    "DDPO",
    "DGPO",
    "DPO",
    "NFT",
    "RAFT",
    "RWR",
    "Answers",
    "FlowGRPO",
    "PolicyObjective",
    "PoolObjective",
    "UnselectedBaseline",
    "WeighedObjective",
    "advantages",
]
