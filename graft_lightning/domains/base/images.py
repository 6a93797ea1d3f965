"""What all domains of images share: unconditional flows, contact sheets and PNG files."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from graft_lightning.domains.base.decoding import image_in
from graft_lightning.domains.base.spectrum import high_frequency_share
from graft_lightning.durable import replacing
from graft_lightning.lettering import LINE, font_of, wrapped
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import Sampler
from graft_lightning.processes.schedules import RectifiedFlow, Trigonometric
from graft_lightning.rejection.codec import WrongSize
from graft_lightning.rejection.reference import Reference

BLANK = 0.01
"""Standard deviation of the values of a channel, at and below which it shows nothing (values lie in [0, 1])."""

ROUNDING = 0.5 / 255
"""How far outside [0, 1] arithmetic in half precision may lead; half a level of a pixel."""


class ImageReference(Reference):
    """A reference whose samples are images ``(batch, channels, height, width)`` in [0, 1]."""

    same_within = 0.01

    def degenerate(self, samples: Tensor) -> Tensor:
        """Images with a value that is not finite, or whose every channel is constant."""
        pixels = samples.detach().float().flatten(2)
        return ~pixels.isfinite().flatten(1).all(1) | (pixels.std(-1, correction=0).amax(1) <= BLANK)

    def sharpness(self, samples: Tensor) -> Tensor:
        """Share of the spectral power in the upper half of frequencies."""
        return high_frequency_share(samples)

    def draw(self, samples: Tensor, captions: Sequence[str] | None = None, columns: int = 8) -> Tensor:
        """A contact sheet, uint8 ``(3, height, width)``. Arguments as in `contact_sheet`."""
        return contact_sheet(samples, captions, columns)

    def write(self, samples: Tensor, names: Sequence[str], folder: Path) -> list[Path]:
        """Writes one PNG a sample. Returns the paths."""
        from PIL import Image

        paths = []
        for name, pixels in zip(names, to_pixels(samples), strict=True):
            paths.append(folder / f"{name}.png")
            with replacing(paths[-1]) as temporary:
                Image.fromarray(pixels).save(temporary, format="PNG")
        return paths

    def sample_shape(self, conditions: Sequence[str]) -> Sequence[int]:
        """Channels, height and width of a sample; those of a state by default."""
        shape = self.shape(conditions)
        assert not isinstance(shape, Mapping)
        return shape

    def read(self, path: Path, condition: str) -> Tensor:
        """The image in a file of any kind that Pillow reads, ``(1, channels, height, width)``; nothing is resized."""
        channels, height, width = self.sample_shape([condition])
        image = image_in(path.read_bytes(), path)
        if image.size != (width, height):
            found = "{} x {}".format(*image.size)
            raise WrongSize(f"{path} has {found} pixels; samples of the model have {width} x {height}")
        pixels = np.array(image.convert("L") if channels == 1 else image).reshape(1, height, width, channels)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


class UnconditionalImages(ImageReference):
    """A model of images in [-1, 1] that takes no prompts."""

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> Tensor:
        """Nothing: one empty row a sample.

        Raises:
            ValueError: if a condition says something.
        """
        if any(conditions):
            raise ValueError(f"condition {next(filter(None, conditions))!r}: this model is unconditional, it takes ''")
        return torch.zeros(len(conditions), 0, device=device)

    def refuse(self, conditions: Sequence[str]) -> None:
        self.encode(conditions, "cpu")

    def decode(self, x_0: Tensor) -> Tensor:
        assert isinstance(x_0, Tensor)
        return (x_0.clamp(-1, 1) + 1) / 2

    def state_of(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        return 2 * samples - 1


class UnconditionalFlow(UnconditionalImages):
    """An unconditional flow of images in [-1, 1], or the corrector of one.

    Args:
        sampler: how it is sampled.
        path: "linear", where the network gives the velocity eps - x_0, or "trigonometric", the variance-preserving
            path of correctors, where it gives the v-prediction.
    """

    def __init__(self, sampler: Sampler, path: Literal["linear", "trigonometric"] = "linear") -> None:
        super().__init__(sampler)
        if path not in ("linear", "trigonometric"):
            raise ValueError(f"path={path!r}; it is 'linear' or 'trigonometric'")
        self.path_name = path
        self.output = "flow" if path == "linear" else "v_prediction"

    @cached_property
    def process(self) -> Process:
        return Process(GaussianPath(RectifiedFlow() if self.path_name == "linear" else Trigonometric()))


def check_range(samples: Tensor) -> None:
    """Refuses what would be clamped.

    Raises:
        ValueError: if a value is outside [0, 1] by more than rounding.
    """
    if not samples.numel():
        return
    low, high = (float(value) for value in samples.detach().float().aminmax())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(
            f"samples reach from {low:.4g} to {high:.4g}; expected floats in [0, 1], not in [-1, 1] or [0, 255]"
        )


def to_pixels(samples: Tensor) -> np.ndarray:
    """Images in [0, 1] as uint8 ``(batch, height, width, 3)``; one channel is repeated."""
    pixels = (samples.detach().float().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def contact_sheet(
    samples: Tensor, captions: Sequence[str] | None = None, columns: int = 8, side: int = 96, margin: int = 4
) -> Tensor:
    """Images side by side, each enlarged to about ``side`` pixels without smoothing.

    Args:
        samples: ``(batch, channels, height, width)`` in [0, 1].
        captions: one text under each image, or none.
        columns: images in a row.
        side: least width of an image on the sheet.
        margin: pixels between images.

    Returns:
        uint8 ``(3, height, width)``.
    """
    from PIL import Image, ImageDraw

    pixels = to_pixels(samples)
    height, width = pixels.shape[1:3]
    scale = max(1, round(side / width))
    font = font_of()
    texts = [wrapped(text, scale * width, font) for text in captions or []]
    lines = max((len(text) for text in texts), default=0)
    cell = (scale * width + margin, scale * height + margin + lines * LINE)
    columns = min(columns, len(pixels))
    rows = -(-len(pixels) // columns)
    sheet = Image.new("RGB", (columns * cell[0] + margin, rows * cell[1] + margin), "white")
    pen = ImageDraw.Draw(sheet)
    for i, image in enumerate(pixels):
        left, top = margin + i % columns * cell[0], margin + i // columns * cell[1]
        sheet.paste(
            Image.fromarray(image).resize((scale * width, scale * height), Image.Resampling.NEAREST), (left, top)
        )
        for line, text in enumerate(texts[i] if texts else []):
            pen.text((left, top + scale * height + line * LINE), text, fill="black", font=font)
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)
