"""Letters on pictures: one font for every sheet, and lines no wider than what they stand below."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

SMALL = 10
"""Size of the letters below a sample, in pixels."""

LINE = 13
"""Pixels of a line of these."""


@cache
def font_of(size: int = SMALL) -> "FreeTypeFont":
    """A font of a size in pixels: matplotlib's, whose words stand apart where Pillow's run together at ten pixels."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def wrapped(text: str, width: float, font: "FreeTypeFont", most: int | None = None) -> list[str]:
    """Lines no wider than so many pixels, broken at spaces, and within a word that is wider by itself.

    Args:
        text: any.
        width: in pixels.
        font: that it will be written in.
        most: lines; what follows them is left out, and three dots say so.
    """
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines += [""] if lines[-1] else []
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [*lines[: most - 1], lines[most - 1] + " ..."] if most and len(lines) > most else lines
