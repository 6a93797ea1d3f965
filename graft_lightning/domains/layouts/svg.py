"""Layouts as SVG: one page a file, for papers and for editors of drawings."""

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from graft_lightning.domains.layouts.colours import ASPECTS, colours
from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.vocabularies import PUBLAYNET, Vocabulary
from graft_lightning.durable import write_text

HEIGHT = 1000
"""Units of a page, in which lines and letters are measured too."""

LEGEND = 40
"""Units of the line below the page that explains the colours."""


def svg(layout: Layout, vocabulary: Vocabulary = PUBLAYNET, outlined: np.ndarray | None = None) -> str:
    """A page with its elements and a legend. Elements with a box that is not finite are left out, and said to be.

    Args:
        layout: of any number of elements.
        vocabulary: what its labels mean.
        outlined: elements that get a red frame, bool ``(elements,)``.
    """
    width = round(HEIGHT * ASPECTS[vocabulary.name])
    palette = [f"rgb({red},{green},{blue})" for red, green, blue in colours(vocabulary)]
    finite = np.isfinite(layout.boxes).all(1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + LEGEND}" font-family="sans-serif">',
        f"<title>{escape(layout.name or 'layout')}</title>",
        f'<rect width="{width}" height="{HEIGHT}" fill="white" stroke="grey"/>',
    ]
    for k in sorted(np.flatnonzero(finite), key=lambda k: -float(layout.boxes[k, 2:].prod())):
        x, y, w, h = layout.boxes[k].tolist()
        left, top = (x - w / 2) * width, (y - h / 2) * HEIGHT
        colour, label = palette[int(layout.labels[k])], vocabulary.labels[int(layout.labels[k])]
        frame = ("red", 5) if outlined is not None and outlined[k] else (colour, 2)
        lines.append(
            f'<rect x="{left:.2f}" y="{top:.2f}" width="{max(w, 0) * width:.2f}" height="{max(h, 0) * HEIGHT:.2f}" '
            f'fill="{colour}" fill-opacity="0.3" stroke="{frame[0]}" stroke-width="{frame[1]}">'
            f"<title>{escape(label)}</title></rect>"
        )
    left = 0.0
    for index in sorted({int(label) for label in layout.labels}):
        name = vocabulary.labels[index]
        lines.append(f'<rect x="{left:.0f}" y="{HEIGHT + 12}" width="16" height="16" fill="{palette[index]}"/>')
        lines.append(f'<text x="{left + 20:.0f}" y="{HEIGHT + 26}" font-size="16">{escape(name)}</text>')
        left += 34 + 9 * len(name)
    if not finite.all():
        lines.append(
            f'<text x="{left:.0f}" y="{HEIGHT + 26}" font-size="16" fill="red">{int((~finite).sum())} not finite</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def write_svg(path: Path | str, layout: Layout, vocabulary: Vocabulary = PUBLAYNET) -> None:
    """Writes a page as an SVG file."""
    write_text(Path(path), svg(layout, vocabulary))
