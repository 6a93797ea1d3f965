"""Two rows of samples, one above the other, each with its score and a frame: small enough for a card of TensorBoard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft_lightning.lettering import font_of, wrapped
from graft_lightning.rejection.codec import Codec

COLUMNS = 5
SIDE = 192
"""Pixels of a sample's width."""

LETTERS = 36
"""Pixels of a line's letters: 10 of them on a card of TensorBoard, where 325 by 215 pixels are shown."""

FRAME, GAP = 10, 16


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        title: above it.
        samples: as `Codec.decode` returns them, a batch of one each.
        texts: the line below each.
        colours: of the frames.
    """

    title: str
    samples: Sequence[Any]
    texts: Sequence[str]
    colours: Sequence[str]


def two_rows(codec: Codec, rows: Sequence[Row], captions: Sequence[str] = ()) -> Tensor | None:
    """A sheet, uint8 ``(3, height, width)``; None where the codec draws nothing.

    Args:
        codec: draws a sample.
        rows: of as many samples each, of which the first `COLUMNS` are drawn.
        captions: what a column is of, at the bottom.
    """
    from PIL import Image, ImageDraw

    drawn = [[_tile(codec, sample) for sample in row.samples[:COLUMNS]] for row in rows]
    tiles = [tile for row in drawn for tile in row if tile is not None]
    if not tiles or len(tiles) < sum(map(len, drawn)):
        return None
    font = font_of(LETTERS)
    line, cell = LETTERS + 8, SIDE + 2 * FRAME + GAP
    columns, height = max(map(len, drawn)), max(tile.height for tile in tiles)
    below = [wrapped(text, SIDE + 2 * FRAME, font, most=3) for text in captions[:columns]]
    lines = max(map(len, below), default=0)
    each = height + 2 * FRAME + 2 * line
    sheet = Image.new("RGB", (max(columns, 2) * cell + GAP, len(rows) * each + lines * line + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (row, images) in enumerate(zip(rows, drawn, strict=True)):
        top = number * each
        pen.text((GAP, top + 2), row.title, fill="black", font=font)
        for place, image in enumerate(images):
            assert image is not None
            left, upper = GAP + place * cell, top + line
            box = (left, upper, left + image.width + 2 * FRAME - 1, upper + image.height + 2 * FRAME - 1)
            pen.rectangle(box, outline=row.colours[place], width=FRAME)
            sheet.paste(image, (left + FRAME, upper + FRAME))
            pen.text((left, box[3] + 2), row.texts[place], fill=row.colours[place], font=font)
    for place, texts in enumerate(below):
        for number, text in enumerate(texts):
            where = GAP + place * cell, len(rows) * each + number * line
            pen.text(where, text, fill="black", font=font)
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)


def _tile(codec: Codec, sample: Any) -> Any:
    """One sample of the width of a cell. Of few pixels each stays a square, as contact sheets show them."""
    from PIL import Image

    pixels = codec.draw(sample)
    if pixels is None:
        return None
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    size = SIDE, max(1, round(image.height * SIDE / image.width))
    return image.resize(size, Image.Resampling.NEAREST if image.width < SIDE else Image.Resampling.LANCZOS)
