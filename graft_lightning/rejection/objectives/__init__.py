"""Objectives over whole groups of a pool, as GRAFT's own is over accepted draws."""

from graft_lightning.rejection.objectives.base import Answers, PoolObjective
from graft_lightning.rejection.objectives.unselected import UnselectedBaseline

__all__ = ["Answers", "PoolObjective", "UnselectedBaseline"]
