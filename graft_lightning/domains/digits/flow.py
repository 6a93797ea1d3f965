"""Single handwritten digits, unconditional: an 8 x 8 flow small enough to be inverted in seconds."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graft_lightning.domains.base import Examples
from graft_lightning.domains.base.saved_flow import SavedFlow
from graft_lightning.domains.base.times import fourier
from graft_lightning.domains.digits.classifier import DigitClassifier, default_classifier
from graft_lightning.domains.digits.data import DIGIT_SIZE
from graft_lightning.domains.digits.network import WAVES, DigitTransformer
from graft_lightning.processes.noise import Noise, place_seeds
from graft_lightning.processes.process import Shape
from graft_lightning.processes.samplers import Sampler
from graft_lightning.shuffles import shuffles

HELD_OUT = 500
"""Digits that neither flow nor corrector sees; the other 1,297 are trained on."""


NETWORK = {"image_size": DIGIT_SIZE, "patch_size": 2, "width": 48, "depth": 3, "vocabulary": 0}
"""Arguments of `DigitTransformer` that are the flow's own: 82 thousand weights."""


class StraightPath(nn.Module):
    """A network and, beside it, a linear map of the image whose 64 directions are gated by time.

    The exact velocity or v-prediction from N(0, I) to a Gaussian is of that form, so that a corrector with this path
    starts where the Gaussian corrector is, and its network has only the rest to learn.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        pixels = DIGIT_SIZE**2
        self.into = nn.Linear(pixels, pixels, bias=False)
        self.gate = nn.Linear(2 * WAVES[0], pixels)
        self.out = nn.Linear(pixels, pixels)
        nn.init.orthogonal_(self.into.weight)
        self.out.weight.data = self.into.weight.data.T.clone()
        for zero in (self.gate.weight, self.gate.bias, self.out.bias):
            nn.init.zeros_(zero)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The output ``(batch, 1, 8, 8)`` for noisy images and times ``(batch,)`` in [0, 1]."""
        straight = self.out(self.into(x_t.flatten(1)) * self.gate(fourier(t, *WAVES).to(x_t)))
        return self.network(x_t, t) + straight.reshape(x_t.shape)


class DigitFlow(SavedFlow):
    """A flow of single digits; with another path or a narrower network also the corrector of its noise.

    Args:
        weights: safetensors file; needed where the flow is not trained but used.
        sampler: 20 steps of Euler by default.
        path: as in `SavedFlow`.
        network: arguments of `DigitTransformer` that differ from `NETWORK`.
        straight: puts a `StraightPath` beside the network; for correctors.
    """

    network_class = DigitTransformer
    remake = "python -m graft_lightning fit --config experiments/digits/flow.yaml"
    lora_targets = ("qkv", "out", "mlp_in", "mlp_out", "modulation")

    def __init__(
        self,
        weights: str | None = None,
        sampler: Sampler | None = None,
        path: Literal["linear", "trigonometric"] = "linear",
        network: dict[str, int] | None = None,
        straight: bool = False,
    ) -> None:
        super().__init__(weights, sampler, path, NETWORK | dict(network or {}))
        self.straight = straight

    def make(self) -> nn.Module:
        network = super().make()
        return StraightPath(network) if self.straight else network

    def architecture(self) -> dict[str, Any]:
        return super().architecture() | {"straight": self.straight}

    def shape(self, conditions: Sequence[str]) -> Shape:
        return (1, DIGIT_SIZE, DIGIT_SIZE)


class RealDigits(Examples):
    """Single real digits in [-1, 1]; every stretch of ``len(self)`` positions is a shuffle of all of them.

    Args:
        part: "train" (1,297 digits) or "held_out" (500).
        noise: standard deviation of the noise added to the pixels, whose own grid is 1/8 wide.
    """

    def __init__(self, part: Literal["train", "held_out"] = "train", noise: float = 0.0) -> None:
        if part not in ("train", "held_out"):
            raise ValueError(f"part={part!r}; it is 'train' or 'held_out'")
        if noise < 0:
            raise ValueError(f"noise={noise}; it is a standard deviation, 0 or above")
        self.part, self.noise = part, noise

    def __len__(self) -> int:
        return len(real_digits(self.part))

    def batch(self, positions: Sequence[int], seed: int) -> tuple[Tensor, list[str]]:
        images = real_digits(self.part)
        chosen = shuffles(len(images), seed, "digits").at(positions)
        x = images[chosen]
        if self.noise:
            x = x + self.noise * Noise(place_seeds("pixels", seed, positions)).normal(*x.shape[1:])
        return x, [""] * len(chosen)


@lru_cache(maxsize=2)
def real_digits(part: str) -> Tensor:
    """One part of the digits, ``(n, 1, 8, 8)`` in [-1, 1], "train" or "held_out"; the split comes from a fixed seed."""
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[HELD_OUT:] if part == "train" else order[:HELD_OUT]]


class DigitFeatures(nn.Module):
    """Digits in [0, 1] -> 32 features of the shipped classifier: the space of distances.

    They are divided by one number, so that over the real digits their variance is 1 on average. Larger images, and
    coloured ones, are averaged to grey ones of 8 x 8.
    """

    num_features = 32

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(batch, 32)`` of ``(batch, channels, height, width)``."""
        network, scale = _classifier_and_scale()
        network, scale = network.to(images.device), scale.to(images.device)
        grey = images.float().mean(1)
        if grey.shape[-1] != DIGIT_SIZE:
            grey = nn.functional.adaptive_avg_pool2d(grey, DIGIT_SIZE)
        return network.features(grey) / scale


@lru_cache(maxsize=1)
def _classifier_and_scale() -> tuple[DigitClassifier, Tensor]:
    network = default_classifier()
    real = torch.cat([real_digits("train"), real_digits("held_out")])[:, 0]
    return network, network.features((real + 1) / 2).var(0).mean().sqrt()
