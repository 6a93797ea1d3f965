"""Grids of captioned pictures, for TensorBoard and for reports."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

_PAPER = (255, 255, 255)
_INK = (40, 40, 40)
_LINE = 12
_MARGIN = 6


def draw_grid(
    samples: Tensor, captions: Sequence[str] | None = None, columns: int = 8, scale: int = 5, marks: Sequence[bool] = ()
) -> "Image":
    """Draw pictures side by side, magnified without blur, each with its caption below.

    Args:
        samples: pictures (B, 1, H, W) in [0, 1].
        captions: a line or more of text for each picture, wrapped to its width; none if absent.
        columns: pictures in a row.
        scale: screen pixels per pixel.
        marks: for each picture whether it is framed green (True) or red (False); no frames if empty.

    Raises:
        ValueError: if captions or marks are not as many as pictures.
    """
    from PIL import Image, ImageDraw

    for name, given in (("captions", captions), ("marks", marks)):
        if given and len(given) != len(samples):
            raise ValueError(f"{len(given)} {name} for {len(samples)} pictures")
    height, width = (side * scale for side in samples.shape[-2:])
    texts = [_wrapped(text, width) for text in captions or [""] * len(samples)]
    columns = max(1, min(columns, len(samples)))
    cell = (width + _MARGIN, height + _MARGIN + _LINE * max((len(lines) for lines in texts), default=0))
    size = (columns * cell[0] + _MARGIN, math.ceil(len(samples) / columns) * cell[1] + _MARGIN)
    page = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(page)
    pixels = (samples.detach().cpu().float().nan_to_num().clamp(0, 1)[:, 0] * 255).round().to(torch.uint8).numpy()
    for i, picture in enumerate(pixels):
        x, y = _MARGIN + i % columns * cell[0], _MARGIN + i // columns * cell[1]
        page.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST), (x, y))
        if marks:
            frame = (x - 2, y - 2, x + width + 1, y + height + 1)
            pen.rectangle(frame, outline=(30, 150, 60) if marks[i] else (210, 50, 40), width=2)
        for number, line in enumerate(texts[i]):
            pen.text((x, y + height + 1 + number * _LINE), line, fill=_INK)
    return page


def grid_tensor(
    samples: Tensor, captions: Sequence[str] | None = None, columns: int = 8, scale: int = 5, marks: Sequence[bool] = ()
) -> Tensor:
    """Return what `draw_grid` draws as a tensor (3, H, W), uint8: what TensorBoard's `add_image` takes."""
    page = draw_grid(samples, captions, columns, scale, marks)
    pixels = torch.frombuffer(bytearray(page.tobytes()), dtype=torch.uint8)
    return pixels.reshape(page.height, page.width, 3).permute(2, 0, 1)


def _wrapped(text: str, width: int) -> list[str]:
    """Break a caption into lines that fit `width` screen pixels; a newline in it is kept."""
    from PIL import ImageFont

    font = ImageFont.load_default()
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines
