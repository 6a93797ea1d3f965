"""The reference of the digits: a small text-to-image diffusion model, pre-trained here and shipped with the project."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.domains.base import Conditions, Examples, ImageReference
from graft_lightning.domains.base.weights import DATA, load_weights, save_weights
from graft_lightning.domains.digits.data import CANVAS_SIZE, DigitPairs
from graft_lightning.domains.digits.network import DigitTransformer
from graft_lightning.domains.digits.prompts import SPLITS, encode, prompts
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process, Shape
from graft_lightning.processes.samplers import DDPM, Sampler
from graft_lightning.processes.schedules import Cosine

REMAKE = "python -m graft_lightning fit --config experiments/digits/pretrain.yaml"


class DigitReference(ImageReference):
    """Pairs of handwritten digits from prompts such as "a three to the left of a seven".

    Args:
        weights: safetensors file; the shipped one by default.
        sampler: by default 40 steps of DDPM, predictions clipped to the range of images.
        guidance_scale: classifier-free guidance; 1 is none.
        network: arguments of `DigitTransformer` that differ from its defaults.
    """

    output = "v_prediction"
    lora_targets = ("qkv", "out", "mlp_in", "mlp_out", "modulation")

    def __init__(
        self,
        weights: str | None = None,
        sampler: Sampler | None = None,
        guidance_scale: float = 1.0,
        network: dict[str, int] | None = None,
    ) -> None:
        super().__init__(sampler or DDPM(steps=40, clip_sample=1.0), guidance_scale)
        self.weights = weights
        self.network = dict(network or {})

    @cached_property
    def process(self) -> Process:
        return Process(GaussianPath(Cosine()))

    @property
    def weights_file(self) -> Path:
        """Where the weights are read."""
        return Path(self.weights) if self.weights else DATA / "digits" / "reference.safetensors"

    def build(self, pretrained: bool = True) -> nn.Module:
        network = DigitTransformer(**self.network)
        if pretrained:
            load_weights(network, self.weights_file, self._architecture(), REMAKE)
        return network

    def _architecture(self) -> dict[str, Any]:
        """Every argument of the network, those left at their defaults too: they may change, and files stay."""
        return {name: p.default for name, p in signature(DigitTransformer).parameters.items()} | self.network

    def save(self, network: nn.Module, path: Path, provenance: dict[str, Any]) -> None:
        """Writes weights that `build` reads."""
        save_weights(network, path, self._architecture(), provenance)

    def denoise(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        return network(x_t, (t / self.process.t_max).to(x_t.dtype), condition)

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> Tensor:
        return encode(conditions).to(device)

    def refuse(self, conditions: Sequence[str]) -> None:
        self.encode(conditions, "cpu")

    def shape(self, conditions: Sequence[str]) -> Shape:
        return (1, CANVAS_SIZE, CANVAS_SIZE)

    def decode(self, x_0: Tensor) -> Tensor:
        assert isinstance(x_0, Tensor)
        return (x_0.clamp(-1, 1) + 1) / 2

    def state_of(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        return 2 * samples - 1


class DigitPrompts(Conditions):
    """The prompts of one split: train (80), tune (26) or report (48).

    Args:
        split: "train" is fine-tuned on, "tune" is for choosing settings, "report" for reporting.
        limit: at most so many, from the top.
    """

    def __init__(self, split: str, limit: int | None = None) -> None:
        if split not in SPLITS:
            raise ValueError(f"split={split!r}; it must be one of {', '.join(SPLITS)}")
        self.split = split
        self.limit = limit

    def texts(self) -> list[str]:
        return prompts(self.split)[: self.limit]


class CaptionedDigits(Examples):
    """Images of pairs of digits with captions, some of which are wrong.

    Args:
        wrong_captions: share of captions that were drawn independently of their image.
        no_captions: share of captions left empty, which teaches the unconditional model.
        third: which real digits are shown.
    """

    def __init__(self, wrong_captions: float = 0.4, no_captions: float = 0.1, third: str = "reference") -> None:
        self.wrong_captions, self.no_captions, self.third = wrong_captions, no_captions, third

    def batch(self, positions: Sequence[int], seed: int) -> tuple[Tensor, list[str]]:
        images, captions = _shown(seed, self.third, self.wrong_captions).batch(torch.tensor(list(positions)))
        # The golden ratio spreads the empty captions evenly over any stretch of the stream.
        empty = [(position * 0.6180339887498949) % 1 < self.no_captions for position in positions]
        return images, ["" if none else text for none, text in zip(empty, captions, strict=True)]


@lru_cache(maxsize=4)
def _shown(seed: int, third: str, wrong_captions: float) -> DigitPairs:
    return DigitPairs(2**40, seed, third, wrong_captions)
