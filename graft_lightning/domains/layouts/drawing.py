"""Layouts as images: pages side by side, elements coloured by label, and a legend."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.domains.layouts.colours import ASPECTS, Colour, colours
from graft_lightning.domains.layouts.layout import Layout, unpadded
from graft_lightning.domains.layouts.vocabularies import PUBLAYNET, Vocabulary
from graft_lightning.lettering import LINE, font_of, wrapped

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

HEIGHT = 180
"""Pixels of a page."""

MARGIN = 8
"""Pixels between pages."""

WASH = 70
"""Opacity of an element's area, of 255: what overlaps is seen."""

OUTLINE = (220, 20, 20)
"""Colour of the frame around elements that are pointed out."""


def sheet(
    samples: Mapping[str, Tensor] | TensorDict | Sequence[Layout],
    captions: Sequence[str] | None = None,
    vocabulary: Vocabulary = PUBLAYNET,
    outlined: Tensor | None = None,
    columns: int = 8,
    height: int = HEIGHT,
) -> "Image":
    """Pages side by side above a legend. Larger elements are painted first; a page with a broken box is crossed out.

    Args:
        samples: layouts.
        captions: one text under each page, or none.
        vocabulary: what the labels mean.
        outlined: elements that get a red frame, bool ``(batch, elements)``: those that were corrected.
        columns: pages in a row.
        height: pixels of a page.

    Raises:
        ValueError: if there is no layout, or not one caption for each.
    """
    from PIL import Image, ImageDraw

    layouts = list(samples) if isinstance(samples, Sequence) else unpadded(samples)
    if not layouts or (captions is not None and len(captions) != len(layouts)):
        raise ValueError(
            f"{len(captions or [])} captions for {len(layouts)} layouts; give at least one layout, and one text each"
        )
    width = round(height * ASPECTS[vocabulary.name])
    columns = min(columns, len(layouts))
    font = font_of()
    texts = [wrapped(text, width, font) for text in captions or []]
    cell = (width + MARGIN, height + MARGIN + LINE * max((len(text) for text in texts), default=0))
    rows = -(-len(layouts) // columns)
    palette = colours(vocabulary)
    shown = sorted({int(label) for layout in layouts for label in layout.labels})
    entries = _legend([(vocabulary.labels[label], palette[label]) for label in shown], columns * cell[0])
    size = (columns * cell[0] + MARGIN, rows * cell[1] + MARGIN + LINE * len(entries) + MARGIN)
    image = Image.new("RGB", size, (235, 235, 235))
    pen = ImageDraw.Draw(image, "RGBA")
    for index, layout in enumerate(layouts):
        corner = MARGIN + index % columns * cell[0], MARGIN + index // columns * cell[1]
        marked = np.zeros(len(layout), bool) if outlined is None else outlined[index].cpu().numpy()[: len(layout)]
        _page(pen, layout, corner, (width, height), palette, marked)
        for line, text in enumerate(texts[index] if texts else []):
            pen.text((corner[0], corner[1] + height + line * LINE), text, fill="black", font=font)
    for line, row in enumerate(entries):
        top = rows * cell[1] + MARGIN + line * LINE
        for left, name, colour in row:
            pen.rectangle((left, top + 2, left + LINE - 4, top + LINE - 2), fill=(*colour, WASH), outline=colour)
            pen.text((left + LINE, top), name, fill="black", font=font)
    return image


def as_tensor(image: "Image") -> Tensor:
    """An image as uint8 ``(3, height, width)``, the way TensorBoard takes it."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _page(
    pen: "ImageDraw",
    layout: Layout,
    corner: tuple[int, int],
    size: tuple[int, int],
    palette: Sequence[Colour],
    marked: np.ndarray,
) -> None:
    left, top = corner
    pen.rectangle((left, top, left + size[0], top + size[1]), fill="white", outline=(150, 150, 150))
    finite = np.isfinite(layout.boxes).all(1)
    order = sorted(np.flatnonzero(finite), key=lambda k: -float(layout.boxes[k, 2:].prod()))
    for k in order:
        centre, half = layout.boxes[k, :2], np.abs(layout.boxes[k, 2:]) / 2
        low, high = ((centre - half).clip(0, 1) * size, (centre + half).clip(0, 1) * size)
        box = (left + float(low[0]), top + float(low[1]), left + float(high[0]), top + float(high[1]))
        colour = palette[int(layout.labels[k])]
        pen.rectangle(box, fill=(*colour, WASH), outline=colour)
        if marked[k]:
            pen.rectangle(box, outline=OUTLINE, width=3)
    if not finite.all():
        for ends in ((0, 0, size[0], size[1]), (0, size[1], size[0], 0)):
            pen.line((left + ends[0], top + ends[1], left + ends[2], top + ends[3]), fill=OUTLINE, width=2)


def _legend(entries: Sequence[tuple[str, Colour]], width: int) -> list[list[tuple[int, str, Colour]]]:
    """Where the names of the labels stand, line by line: left edge, name, colour."""
    lines: list[list[tuple[int, str, Colour]]] = [[]]
    left = MARGIN
    for name, colour in entries:
        needed = 2 * LINE + round(font_of().getlength(name))
        if left + needed > width and lines[-1]:
            lines.append([])
            left = MARGIN
        lines[-1].append((left, name, colour))
        left += needed
    return lines
