"""GRAFT, P-GRAFT and inverse noise correction as a PyTorch Lightning framework.

For scripts and notebooks `graft_lightning.api` has all of it by one import.

.. include:: README.md
"""

__version__ = "0.1.0"
