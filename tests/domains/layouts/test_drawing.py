import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from graft_lightning.domains.layouts.colours import colours
from graft_lightning.domains.layouts.drawing import HEIGHT, MARGIN, OUTLINE, as_tensor, sheet
from graft_lightning.domains.layouts.layout import Layout, padded
from graft_lightning.domains.layouts.pages import Pages
from graft_lightning.domains.layouts.svg import svg, write_svg
from graft_lightning.domains.layouts.vocabularies import PUBLAYNET, RICO25, VOCABULARIES

PAGE = Layout(np.array([0, 4]), np.array([[0.5, 0.25, 1.0, 0.5], [0.5, 0.75, 0.5, 0.25]]), "a < b")


def count(image, colour):
    return int((np.array(image) == colour).all(-1).sum())


def test_elements_stand_where_they_are_and_in_their_colours():
    image = sheet([PAGE])
    width = round(HEIGHT * 2**-0.5)
    blue, vermilion = colours(PUBLAYNET)[0], colours(PUBLAYNET)[4]
    pixels = np.array(image)
    assert tuple(pixels[MARGIN, MARGIN + width // 2]) == blue  # the upper edge of the text
    assert tuple(pixels[MARGIN + round(0.625 * HEIGHT), MARGIN + width // 2]) == vermilion  # that of the figure
    assert tuple(pixels[MARGIN + round(0.95 * HEIGHT), MARGIN + width // 2]) == (255, 255, 255)
    assert count(image, blue) > 100
    assert not count(image, OUTLINE)


def test_the_legend_has_what_occurs_only():
    for label, colour in enumerate(colours(PUBLAYNET)):
        legend = np.array(sheet([PAGE]))[HEIGHT + 2 * MARGIN :]
        assert (legend == colour).all(-1).any() == (label in (0, 4))


def test_what_was_corrected_is_outlined_and_what_is_broken_crossed_out():
    marked = torch.tensor([[False, True]])
    assert 100 < count(sheet([PAGE], outlined=marked), OUTLINE) < 1000
    broken = Layout(np.array([0, 0]), np.array([[0.5, 0.5, np.nan, 0.1], [0.5, 0.5, 0.1, 0.1]]))
    assert count(sheet([broken]), OUTLINE) > 100
    assert 'fill="red">1 not finite' in svg(broken)
    assert 'stroke="red"' in svg(PAGE, outlined=np.array([True, False]))


def test_batches_and_lists_give_the_same_sheet_whatever_the_padding():
    pages = list(Pages().pages(10))
    image = as_tensor(sheet(pages, [f"page {k}" for k in range(10)]))
    assert torch.equal(image, as_tensor(sheet(padded(pages, 30), [f"page {k}" for k in range(10)])))
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    assert not torch.equal(image, as_tensor(sheet(pages)))
    with pytest.raises(ValueError, match="1 captions for 10 layouts"):
        sheet(pages, ["one"])
    with pytest.raises(ValueError, match="at least one layout"):
        sheet([])


def test_svg_is_well_formed_and_has_every_element(tmp_path):
    write_svg(tmp_path / "a.svg", PAGE)
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["a < b", "text", "figure"]
    text = svg(PAGE)
    assert re.search(r'x="0.00" y="0.00" width="707.00" height="500.00"', text)
    screen = Layout(np.arange(25), np.full((25, 4), 0.5))
    ElementTree.fromstring(svg(screen, RICO25))
    assert sheet([screen], vocabulary=RICO25).size[1] > HEIGHT + 2 * MARGIN


def test_no_two_labels_share_a_colour():
    for vocabulary in VOCABULARIES.values():
        found = colours(vocabulary)
        distance = [sum(abs(a - b) for a, b in zip(x, y, strict=True)) for k, x in enumerate(found) for y in found[:k]]
        assert min(distance) > 80
