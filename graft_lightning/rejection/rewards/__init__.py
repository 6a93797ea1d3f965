"""Rewards that know no domain: a function, a sum, an order of precedence, other processes, a memory."""

from graft_lightning.rejection.rewards.cached import CachedReward
from graft_lightning.rejection.rewards.function import FunctionReward
from graft_lightning.rejection.rewards.lexicographic import Lexicographic
from graft_lightning.rejection.rewards.parallel import ParallelReward
from graft_lightning.rejection.rewards.remote import RemoteReward, RemoteRewardError
from graft_lightning.rejection.rewards.unscored import Unscored
from graft_lightning.rejection.rewards.weighted import WeightedSum

__all__ = [
    "CachedReward",
    "FunctionReward",
    "Lexicographic",
    "ParallelReward",
    "RemoteReward",
    "RemoteRewardError",
    "Unscored",
    "WeightedSum",
]
