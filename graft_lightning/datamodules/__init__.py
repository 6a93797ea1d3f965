"""LightningDataModules: streams of examples and of held-out conditions."""

from graft_lightning.datamodules.accepted import AcceptedTrajectories
from graft_lightning.datamodules.inverse_noise import InverseNoise
from graft_lightning.datamodules.pretraining import PretrainingExamples

__all__ = ["AcceptedTrajectories", "InverseNoise", "PretrainingExamples"]
