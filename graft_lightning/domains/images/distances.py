"""Distances of generated images from real ones: those of `domains.base`, under the names that files of images use."""

from graft_lightning.domains.base.distances import (
    CloserToTraining,
    FrechetDistance,
    KernelDistance,
    Precision,
    Recall,
)

__all__ = ["CloserToTraining", "FrechetDistance", "KernelDistance", "Precision", "Recall"]
