"""Text-to-image: any diffusers text-to-image pipeline, with its prompts and rewards."""

from graft_lightning.domains.text_to_image.reference import DiffusersReference

__all__ = ["DiffusersReference"]
