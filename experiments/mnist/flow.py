"""A flow of 28 x 28 digits that one core trains in minutes, and the corrector of its noise: the same, narrower."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft_lightning.domains.base.saved_flow import SavedFlow
from graft_lightning.domains.base.times import Times
from graft_lightning.processes.process import Shape

SIZE = 28
FOLD = 2
"""Pixels that are folded into channels, each way: convolutions at 28 x 28 would cost four times as much."""

WAVES = (32, 8.0, 1 / 8)
"""Of time: how many Fourier features have a cosine and a sine, the longest and the shortest wavelength."""


class Residual(nn.Module):
    """Two convolutions beside a path that nothing normalises, so that mean brightness is not lost; starts at zero."""

    def __init__(self, channels: int, times: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulated = nn.GroupNorm(4, channels, affine=False)
        self.modulation = nn.Linear(times, 2 * channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        """Features ``(batch, channels, height, width)``, given a vector of the time ``(batch, times)``."""
        scale, shift = self.modulation(time)[:, :, None, None].chunk(2, 1)
        inner = self.conv1(F.silu(self.norm(h)))
        return h + self.conv2(F.silu(self.modulated(inner) * (1 + scale) + shift))


class FlowNetwork(nn.Module):
    """A U-Net of two levels, 14 x 14 and 7 x 7; its output starts at zero.

    Args:
        width: channels at 14 x 14, twice as many at 7 x 7; a multiple of 4.
        depth: residual blocks at 7 x 7.

    Raises:
        ValueError: of another width.
    """

    def __init__(self, width: int = 24, depth: int = 3) -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise ValueError(f"width={width}; it is a multiple of 4, the number of groups that are normalised")
        times, side = 2 * width, SIZE // FOLD
        self.time = Times(1, times, *WAVES)
        self.into = nn.Conv2d(FOLD**2, width, 3, padding=1)
        # convolutions do not know where they are, and the mean of digits or of their noise differs from place to place
        self.position = nn.Parameter(torch.zeros(1, width, side, side))
        self.first, self.last = Residual(width, times), Residual(width, times)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Residual(2 * width, times) for _ in range(depth))
        self.up = nn.Conv2d(2 * width, 4 * width, 1)
        self.join = nn.Conv2d(2 * width, width, 1)
        self.out = nn.Conv2d(width, FOLD**2, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The output ``(batch, 1, 28, 28)`` for noisy images and times ``(batch,)`` in [0, 1], data at 0."""
        time = F.silu(self.time(t))
        h = self.into(F.pixel_unshuffle(x_t, FOLD).contiguous(memory_format=torch.channels_last))
        h = self.first(h + self.position, time)
        low = self.down(h)
        for block in self.blocks:
            low = block(low, time)
        h = self.join(torch.cat([h, F.pixel_shuffle(self.up(low), 2)], 1))
        return F.pixel_shuffle(self.out(self.last(h, time)), FOLD)


class PictureFlow(SavedFlow):
    """A flow of 28 x 28 digits; with another path and a narrower network also the corrector of its noise."""

    network_class = FlowNetwork
    remake = "python -m graft_lightning fit --config experiments/mnist/flow.yaml"
    lora_targets = ("conv1", "conv2")

    def shape(self, conditions: Sequence[str]) -> Shape:
        return (1, SIZE, SIZE)
