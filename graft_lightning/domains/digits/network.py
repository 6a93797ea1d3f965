"""A compact transformer that denoises digits, given a noise level and, if it was built for one, a prompt."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft_lightning.domains.base.times import Times
from graft_lightning.domains.base.transformer import Block
from graft_lightning.domains.digits.prompts import SLOTS, VOCABULARY

WAVES = (32, 8.0, 1 / 8)
"""Of time: how many Fourier features have a cosine and a sine, the longest and the shortest wavelength."""


class DigitTransformer(nn.Module):
    """Transformer over patches of the image, in blocks that time modulates.

    The prompt's tokens, one a slot, stand in front of the patches. The output starts at zero.
    """

    def __init__(
        self,
        image_size: int = 16,
        patch_size: int = 4,
        width: int = 96,
        depth: int = 4,
        heads: int = 4,
        mlp_ratio: int = 2,
        vocabulary: int = VOCABULARY,
        text_tokens: int = len(SLOTS),
        channels: int = 1,
    ) -> None:
        """Build the network.

        Args:
            image_size: height and width of the image, pixels.
            patch_size: height and width of a patch, pixels; divides `image_size`.
            width: channels of a token; a multiple of `heads`.
            depth: number of blocks.
            heads: attention heads of a block.
            mlp_ratio: hidden width of a block's MLP in units of `width`.
            vocabulary: number of token ids; 0 builds an unconditional network.
            text_tokens: tokens of a prompt.
            channels: channels of the image.

        Raises:
            ValueError: if sizes do not divide.
        """
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"patch_size {patch_size} does not divide image_size {image_size}")
        if width % heads:
            raise ValueError(f"heads {heads} does not divide width {width}")
        self.patch_size, self.channels, self.width = patch_size, channels, width
        self.text_tokens = text_tokens if vocabulary else 0
        patches = (image_size // patch_size) ** 2
        self.patch_in = nn.Linear(channels * patch_size**2, width)
        self.position = nn.Parameter(torch.randn(1, patches, width) * 0.3)
        self.time = Times(1, width, *WAVES)
        if vocabulary:
            self.words = nn.Embedding(vocabulary, width)
            self.word_position = nn.Parameter(torch.randn(1, text_tokens, width) * 0.3)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(ReluBlock(width, heads, mlp_ratio * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, channels * patch_size**2)
        for layer in (self.modulation, self.modulation_out, self.patch_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x_t: Tensor, t: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Return the raw output, of the shape of `x_t`.

        Args:
            x_t: noisy images (B, C, H, W), data in [-1, 1].
            t: network time (B,), in [0, 1] from data to noise.
            tokens: token ids (B, L) of the prompts; absent for a network without a vocabulary.
        """
        h = self.patch_in(_patches(x_t, self.patch_size)) + self.position
        condition = self.time(t)
        if tokens is not None:
            h = torch.cat([self.words(tokens) + self.word_position, h], dim=1)
        condition = F.silu(condition)
        modulation = self.modulation(condition)
        for block in self.blocks:
            h = block(h, modulation)
        scale, shift = self.modulation_out(condition)[:, None].chunk(2, dim=-1)
        h = self.norm(h[:, self.text_tokens :]) * (1 + scale) + shift
        return _picture(self.patch_out(h), self.patch_size, x_t.shape)


class ReluBlock(Block):
    """A block whose MLP has no biases, for which the shifts stand in, and ReLU for GELU.

    On a CPU those two cost as much as half of the products.
    """

    def _build_mlp(self, width: int, hidden: int) -> None:
        self.mlp_in = nn.Linear(width, hidden, bias=False)
        self.mlp_out = nn.Linear(hidden, width, bias=False)

    def _mlp(self, h: Tensor) -> Tensor:
        return self.mlp_out(F.relu(self.mlp_in(h)))


def _patches(x: Tensor, size: int) -> Tensor:
    """Cut (B, C, H, W) into patches (B, P, C size size)."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // size, size, width // size, size)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * size * size)


def _picture(patches: Tensor, size: int, shape: torch.Size) -> Tensor:
    """Put patches (B, P, C size size) together again to an image of `shape` (B, C, H, W)."""
    batch, channels, height, width = shape
    x = patches.reshape(batch, height // size, width // size, channels, size, size)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(shape)
