"""Rewards that know no domain: a function, a sum, another process, a memory."""

from graft_lightning.rejection.rewards.cached import CachedReward
from graft_lightning.rejection.rewards.function import FunctionReward
from graft_lightning.rejection.rewards.remote import RemoteReward, RemoteRewardError
from graft_lightning.rejection.rewards.weighted import WeightedSum

__all__ = ["CachedReward", "FunctionReward", "RemoteReward", "RemoteRewardError", "WeightedSum"]
