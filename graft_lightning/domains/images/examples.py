"""Training images from files, addressed by position in an endless stream."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from graft_lightning.domains.base import Examples
from graft_lightning.domains.base.decoding import image_in
from graft_lightning.domains.images.files import EncodedImages, open_files
from graft_lightning.processes.noise import place_seeds
from graft_lightning.shuffles import shuffles
from graft_lightning.types import SettingsError

if TYPE_CHECKING:
    from PIL import Image

THREADS = min(8, os.cpu_count() or 1)
"""That decode the images of one batch side by side."""


class ImageFiles(Examples):
    """Images of a folder, a zip archive or an LMDB database, in [-1, 1], in an endless sequence of shuffles.

    An image is turned as its EXIF data ask, and what is transparent is laid on white, as a viewer shows it; of several
    frames the first counts. The shorter side is resized (Lanczos) to ``size``, then the middle square is cut out. An
    image that cannot be read, or would be cut off at 8 bits a channel, is an error that names it.

    Args:
        path: of the folder (all below it counts), the .zip, or the database.
        size: height and width.
        part: "train", "held_out", or "all".
        held_out: so many images are held out of training, chosen by a fixed seed; of the rest nothing changes if
            ``part`` does.
        flip: mirrors half of them, others every time they come.
        shuffle: False keeps the order of their names.
        channels: 3, or 1 for grey images, as networks with one channel take them.
    """

    def __init__(
        self,
        path: str,
        size: int = 256,
        part: Literal["train", "held_out", "all"] = "train",
        held_out: int = 0,
        flip: bool = False,
        shuffle: bool = True,
        channels: Literal[1, 3] = 3,
    ) -> None:
        if part not in ("train", "held_out", "all"):
            raise ValueError(f"part={part!r}; it is 'train', 'held_out' or 'all'")
        if held_out < 0 or (part == "held_out" and held_out == 0):
            raise ValueError(f"held_out={held_out}, part={part!r}; a part that is held out has at least 1 image")
        if size < 1:
            raise ValueError(f"size={size}; it is a number of pixels")
        if channels not in (1, 3):
            raise ValueError(f"channels={channels}; images have 3, grey ones 1")
        self.channels = channels
        self.path, self.size, self.part, self.held_out = path, size, part, held_out
        self.flip, self.shuffle = flip, shuffle
        self._found: tuple[EncodedImages, list[str]] | None = None

    def _open(self) -> tuple[EncodedImages, list[str]]:
        """The files, and the names of the part."""
        if self._found is None:
            files = open_files(self.path, self.size)
            names = files.names
            if self.held_out >= len(names) and self.part != "all":
                raise SettingsError(f"held_out={self.held_out}, but {self.path} has only {len(names)} images")
            if self.part != "all" and self.held_out:
                order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist()
                chosen = order[: self.held_out] if self.part == "held_out" else order[self.held_out :]
                names = [names[i] for i in sorted(chosen)]
            self._found = files, names
        return self._found

    def __len__(self) -> int:
        return len(self._open()[1])

    def batch(self, positions: Sequence[int], seed: int) -> tuple[Tensor, list[str]]:
        length = len(self)
        in_order = [position % length for position in positions]
        chosen = shuffles(length, seed, "images").at(positions) if self.shuffle else in_order
        if len(chosen) > 1:
            with ThreadPoolExecutor(THREADS) as pool:
                images = list(pool.map(self.read, chosen))
        else:
            images = [self.read(index) for index in chosen]
        if self.flip:
            mirrored = (place_seeds("flip", seed, positions) & 1).bool().tolist()
            images = [image.flip(-1) if turn else image for image, turn in zip(images, mirrored, strict=True)]
        return torch.stack(images) / 127.5 - 1, [""] * len(chosen)

    def read(self, index: int) -> Tensor:
        """Image ``index`` of the part, bytes ``(channels, size, size)``.

        Raises:
            SettingsError: if it cannot be read, or has more than 8 bits a channel; names it.
        """
        files, names = self._open()
        image = image_in(files.read(names[index]), files.shown(names[index]))
        if self.channels == 1:
            image = image.convert("L")
        pixels = np.array(square(image, self.size)).reshape(self.size, self.size, self.channels)
        return torch.from_numpy(pixels).permute(2, 0, 1)


LONGEST = 8
"""Times its shorter side that an image may be long before its ends go: whole, a strip of 1 x 4000 takes gigabytes."""


def square(image: "Image.Image", size: int) -> "Image.Image":
    """The middle of an image, its shorter side resized to ``size``."""
    from PIL import Image

    width, height = image.size
    short = min(width, height)
    across, down = (max(0, side - LONGEST * short) // 2 for side in (width, height))  # as much at either end
    if across or down:
        image = image.crop((across, down, width - across, height - down))
        width, height = image.size
    if short != size:
        scaled = (max(size, round(width * size / short)), max(size, round(height * size / short)))
        image = image.resize(scaled, Image.Resampling.LANCZOS, reducing_gap=3.0)
    left, top = (image.size[0] - size) // 2, (image.size[1] - size) // 2
    return image.crop((left, top, left + size, top + size))
