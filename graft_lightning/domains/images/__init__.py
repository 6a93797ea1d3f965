"""Unconditional images from folders, archives and databases; flows and DDPMs of them by any network of diffusers."""

from graft_lightning.domains.images.architectures import Architecture, DiffusersNetwork, NCSNpp
from graft_lightning.domains.images.diffusion import ImageDiffusion
from graft_lightning.domains.images.distances import (
    CloserToTraining,
    FrechetDistance,
    KernelDistance,
    Precision,
    Recall,
)
from graft_lightning.domains.images.examples import ImageFiles
from graft_lightning.domains.images.flow import ImageFlow
from graft_lightning.domains.images.inception import Inception

__all__ = [
    "Architecture",
    "CloserToTraining",
    "DiffusersNetwork",
    "FrechetDistance",
    "ImageDiffusion",
    "ImageFiles",
    "ImageFlow",
    "Inception",
    "KernelDistance",
    "NCSNpp",
    "Precision",
    "Recall",
]
