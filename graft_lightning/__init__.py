"""GRAFT, P-GRAFT and inverse noise correction as a PyTorch Lightning framework."""

__version__ = "0.1.0"
