"""Colours of labels: the same for a label of a vocabulary in every picture."""

import colorsys

from graft_lightning.domains.layouts.vocabularies import Vocabulary

DISTINCT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000")
"""Colours that the colour-blind tell apart as well (Okabe and Ito); for up to eight labels."""

STEP = 9 / 25
"""Of the hue's circle, from one label to the next: 25 labels have 25 hues, and neighbours are far apart."""

Colour = tuple[int, int, int]

ASPECTS = {"publaynet": 2**-0.5, "rico13": 9 / 16, "rico25": 9 / 16, "magazine": 3 / 4}
"""Width over height of the pages of a vocabulary: A4, telephones, magazines."""


def colours(vocabulary: Vocabulary) -> list[Colour]:
    """Red, green and blue, 0 to 255, for every label."""
    if len(vocabulary) <= len(DISTINCT):
        return [_parsed(text) for text in DISTINCT[: len(vocabulary)]]
    return [_turned(index) for index in range(len(vocabulary))]


def _parsed(text: str) -> Colour:
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def _turned(index: int) -> Colour:
    red, green, blue = colorsys.hls_to_rgb(index * STEP % 1, (0.3, 0.5, 0.7)[index % 3], (0.6, 1.0)[index % 2])
    return round(255 * red), round(255 * green), round(255 * blue)
