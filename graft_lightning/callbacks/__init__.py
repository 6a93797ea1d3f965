"""Callbacks: the only place where references, data and models meet."""

from graft_lightning.callbacks.alarms import Alarms
from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.ema import TrainableEMA
from graft_lightning.callbacks.evaluate import Evaluate
from graft_lightning.callbacks.failures import TellOthers
from graft_lightning.callbacks.files import SaveReference, WriteSamples
from graft_lightning.callbacks.inversion_measures import HeldOutNoise, RoundTrips
from graft_lightning.callbacks.invert import Invert
from graft_lightning.callbacks.keep_best import KeepBest
from graft_lightning.callbacks.measures import FlopsPerSample
from graft_lightning.callbacks.steer import Steer

__all__ = [
    "Alarms",
    "Collect",
    "Evaluate",
    "FlopsPerSample",
    "HeldOutNoise",
    "Invert",
    "KeepBest",
    "RoundTrips",
    "SaveReference",
    "Steer",
    "TellOthers",
    "TrainableEMA",
    "WriteSamples",
]
