"""Networks of flows of images, as configurations of diffusers' own classes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import nn

Config = dict[str, Any]
"""A configuration of diffusers: the class under ``_class_name``, and its constructor's arguments."""


_DDPM_256: Config = {
    "_class_name": "UNet2DModel",
    "sample_size": 256,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-06,
}
_DDPM_SCHEDULER: Config = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "num_train_timesteps": 1000,
    "clip_sample": True,
    "variance_type": "fixed_small",
}
PUBLISHED: dict[str, tuple[Config, Config]] = {
    f"google/ddpm-{ema}{data}-256": (_DDPM_256, _DDPM_SCHEDULER)
    for ema in ("", "ema-")
    for data in ("bedroom", "cat", "celebahq", "church")
}
"""Network and scheduler of DDPMs on the hub (arXiv 2006.11239): what `plan` needs where the weights are not."""


class Architecture(ABC):
    """A network that is trained here; the constructor builds nothing."""

    @abstractmethod
    def config(self) -> Config:
        """The configuration that diffusers builds the network from, and writes beside its weights."""

    def initialise(self, network: nn.Module) -> None:
        """Changes how a new network starts; by default it starts as diffusers has it."""
        return


class DiffusersNetwork(Architecture):
    """Any unconditional model of diffusers, e.g. ``UNet2DModel`` or ``DiTTransformer2DModel``.

    Args:
        class_name: of diffusers.
        arguments: of its constructor, by name.
    """

    def __init__(self, class_name: str, arguments: dict[str, Any]) -> None:
        self.class_name, self.arguments = class_name, dict(arguments)

    def config(self) -> Config:
        return {"_class_name": self.class_name, **self.arguments}


class NCSNpp(Architecture):
    """The NCSN++ U-Net (arXiv 2011.13456), by diffusers' ``UNet2DModel``.

    Residual blocks that resample with a [1, 3, 3, 1] filter, skips of the image into the way down (summed) and out of
    the way up, sums of two scaled by 1 / sqrt(2), Fourier features of log time. At 256 pixels the defaults are the
    network of CelebA-HQ and LSUN-Church: 65.57 million weights, 533 GFLOP a call; with ``width=64`` 16.43 million, 134.

    Args:
        size: height and width of the images.
        width: channels of the first level.
        multipliers: channels of each level, in units of ``width``; each level halves the image.
        blocks: residual blocks of a level.
        attention: sizes of the image at which the level has self-attention.
    """

    def __init__(
        self,
        size: int = 256,
        width: int = 128,
        multipliers: Sequence[int] = (1, 1, 2, 2, 2, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (16,),
    ) -> None:
        if width % 32:
            raise ValueError(f"width={width}; it must be a multiple of 32, the number of groups that are normalised")
        if size % 2 ** (len(multipliers) - 1):
            raise ValueError(
                f"size={size} cannot be halved {len(multipliers) - 1} times, between the {len(multipliers)} levels of "
                "multipliers"
            )
        sizes = [size >> level for level in range(len(multipliers))]
        if absent := [one for one in attention if one not in sizes]:
            raise ValueError(f"attention={list(attention)}; no level has size {absent[0]}, they have {sizes}")
        self.size, self.width, self.multipliers = size, width, list(multipliers)
        self.blocks, self.attention = blocks, list(attention)

    def config(self) -> Config:
        kinds = ["Attn" * (self.size >> level in self.attention) for level in range(len(self.multipliers))]
        return {
            "_class_name": "UNet2DModel",
            "sample_size": self.size,
            "in_channels": 3,  # the skips of diffusers know colours only
            "out_channels": 3,
            "block_out_channels": [self.width * multiplier for multiplier in self.multipliers],
            "layers_per_block": self.blocks,
            "down_block_types": [f"{kind}SkipDownBlock2D" for kind in kinds],
            "up_block_types": [f"{kind}SkipUpBlock2D" for kind in reversed(kinds)],
            "time_embedding_type": "fourier",
            "norm_eps": 1e-6,
            "norm_num_groups": None,
            "attention_head_dim": None,
            "mid_block_scale_factor": math.sqrt(2),
        }

    def initialise(self, network: nn.Module) -> None:
        """Every branch starts at zero, and with them the output, as in the original (``init_scale`` 0)."""
        from diffusers.models.attention_processor import Attention
        from diffusers.models.resnet import ResnetBlock2D

        last: list[nn.Module] = [network.conv_out]  # type: ignore[list-item]
        for module in network.modules():
            if isinstance(module, ResnetBlock2D):
                last.append(module.conv2)
            elif isinstance(module, Attention):
                last.append(module.to_out[0])
            elif getattr(module, "skip_norm", None) is not None:  # on the way up; down, the skip carries the image
                last.append(module.skip_conv)  # type: ignore[arg-type]
        for module in last:
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
