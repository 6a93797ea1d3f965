"""Paths: one kind of field a file, and each knows its own prior, noising, prediction, reversal and loss."""

from graft_lightning.processes.paths.base import LossSettings, Noised, Path, Shape
from graft_lightning.processes.paths.categorical import CategoricalKernel, CategoricalPath
from graft_lightning.processes.paths.gaussian import CentredGaussianPath, GaussianKernel, GaussianPath
from graft_lightning.processes.transitions import sample_classes

__all__ = [
    "CategoricalKernel",
    "CategoricalPath",
    "CentredGaussianPath",
    "GaussianKernel",
    "GaussianPath",
    "LossSettings",
    "Noised",
    "Path",
    "Shape",
    "sample_classes",
]
