"""Kinds of diffusers pipelines, one file each."""

from graft_lightning.domains.base.scheduler import PipelineGrid
from graft_lightning.domains.text_to_image.pipelines.base import Family
from graft_lightning.domains.text_to_image.pipelines.sd3 import StableDiffusion3
from graft_lightning.domains.text_to_image.pipelines.sdxl import StableDiffusionXL
from graft_lightning.domains.text_to_image.pipelines.stable_diffusion import StableDiffusion
from graft_lightning.types import SettingsError

FAMILIES: dict[str, type[Family]] = {
    kind.pipeline: kind for kind in (StableDiffusion, StableDiffusionXL, StableDiffusion3)
}
"""By the pipeline's class in diffusers."""


def family_of(class_name: str, model: str) -> type[Family]:
    """The family of a pipeline class.

    Raises:
        SettingsError: for a class that is not supported; names those that are.
    """
    if class_name not in FAMILIES:
        raise SettingsError(
            f"model={model} is a {class_name}; supported are {', '.join(FAMILIES)}. A new kind is a subclass of "
            "graft_lightning.domains.text_to_image.pipelines.Family, listed in FAMILIES there"
        )
    return FAMILIES[class_name]


__all__ = [
    "FAMILIES",
    "Family",
    "PipelineGrid",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
    "family_of",
]
