"""Somebody else's model as a reference: a small DDPM of 28 x 28 pictures, its network and how it is called, one file.

The network is written from a description of the weights' file; tests hold its outputs against known answers. What has
to be said to fine-tune it is `Pictures`: process, sampler, how the network is called, what its samples are.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft_lightning.domains.base import ImageReference
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process, Shape
from graft_lightning.processes.samplers import DDIM, Sampler
from graft_lightning.processes.schedules import Linear
from graft_lightning.tensors import load_into, read_tensors

WEIGHTS = "data/ddpm_mnist.safetensors"
LEVELS, TIME = 1000, 100
"""Noise levels, and numbers that stand for one."""

STAGES = {
    "b1": (28, (1, 10, 10, 10)),
    "b2": (14, (10, 20, 20, 20)),
    "b3": (7, (20, 40, 40, 40)),
    "b_mid": (3, (40, 20, 20, 40)),
    "b4": (7, (80, 40, 20, 20)),
    "b5": (14, (40, 20, 10, 10)),
    "b_out": (28, (20, 10, 10, 10)),
}
"""Of each stage: height and width, and the channels between its three blocks."""

TIMES = {"te1": 1, "te2": 10, "te3": 20, "te_mid": 40, "te4": 80, "te5": 40, "te_out": 20}
"""Of each stage: channels to which the level is added."""


class Block(nn.Module):
    """Two convolutions. The norm runs over channels, height and width: the mean brightness of a picture is lost."""

    def __init__(self, size: int, channels: int, out: int, normalised: bool) -> None:
        super().__init__()
        self.normalised = normalised
        self.ln = nn.LayerNorm((channels, size, size))
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(batch, out, size, size)``."""
        x = self.ln(x) if self.normalised else x
        return F.silu(self.conv2(F.silu(self.conv1(x))))


class Network(nn.Module):
    """A U-Net of 606,852 weights that predicts eps."""

    def __init__(self) -> None:
        super().__init__()
        self.time_embed = nn.Embedding(LEVELS, TIME)
        self.time_embed.requires_grad_(False)
        for name, (size, widths) in STAGES.items():
            last = 2 if name == "b_out" else None  # its norm is in the file, and unused
            blocks = [Block(size, widths[i], widths[i + 1], i != last) for i in range(3)]
            setattr(self, name, nn.Sequential(*blocks))
        for name, width in TIMES.items():
            setattr(self, name, nn.Sequential(nn.Linear(TIME, width), nn.SiLU(), nn.Linear(width, width)))
        self.down1, self.down2 = nn.Conv2d(10, 10, 4, 2, 1), nn.Conv2d(20, 20, 4, 2, 1)
        self.down3 = nn.Sequential(nn.Conv2d(40, 40, 2, 1), nn.SiLU(), nn.Conv2d(40, 40, 4, 2, 1))
        self.up1 = nn.Sequential(nn.ConvTranspose2d(40, 40, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(40, 40, 2, 1))
        self.up2, self.up3 = nn.ConvTranspose2d(20, 20, 4, 2, 1), nn.ConvTranspose2d(10, 10, 4, 2, 1)
        self.conv_out = nn.Conv2d(10, 1, 3, padding=1)

    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:
        """Predicted noise ``(batch, 1, 28, 28)`` of noisy pictures at timesteps ``(batch,)`` from 0 to 999."""
        code = self.time_embed(timestep)

        def at(name: str, h: Tensor) -> Tensor:
            return h + self.get_submodule(name)(code)[:, :, None, None]

        high = self.b1(at("te1", x))
        middle = self.b2(at("te2", self.down1(high)))
        low = self.b3(at("te3", self.down2(middle)))
        h = self.b_mid(at("te_mid", self.down3(low)))
        h = self.b4(at("te4", torch.cat([low, self.up1(h)], 1)))
        h = self.b5(at("te5", torch.cat([middle, self.up2(h)], 1)))
        return self.conv_out(self.b_out(at("te_out", torch.cat([high, self.up3(h)], 1))))


class Pictures(ImageReference):
    """A DDPM of 28 x 28 pictures, unconditional.

    Args:
        weights: safetensors file; the README says where it comes from.
        sampler: by default 50 steps of DDIM with eta 1; without clipping four pictures of five are blank.
    """

    output = "epsilon"
    lora_targets = ("conv1", "conv2")

    def __init__(self, weights: str = WEIGHTS, sampler: Sampler | None = None) -> None:
        super().__init__(sampler or DDIM(steps=50, eta=1.0, clip_sample=1.0))
        self.weights = weights

    @cached_property
    def process(self) -> Process:
        return Process(GaussianPath(Linear(LEVELS)))

    @property
    def weights_file(self) -> Path:
        return Path(self.weights)

    def build(self, pretrained: bool = True) -> nn.Module:
        network = Network()
        if pretrained:
            if not self.weights_file.is_file():
                raise FileNotFoundError(f"weights={self.weights}: absent; experiments/mnist/README.md says where it is")
            tensors, _ = read_tensors(self.weights_file)
            load_into(network, tensors, f"weights={self.weights}")
        return network

    def denoise(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        return network(x_t, t.long() - 1)  # level n of ours is timestep n - 1 of the network

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> Tensor:
        return torch.zeros(len(conditions), 0, device=device)

    def shape(self, conditions: Sequence[str]) -> Shape:
        return (1, 28, 28)

    def decode(self, x_0: Tensor) -> Tensor:
        return (x_0.clamp(-1, 1) + 1) / 2
