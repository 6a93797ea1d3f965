import io

import numpy as np
import pytest
import torch
from PIL import Image

from graft_lightning.domains.text_to_image.images import from_pil, jpeg, squared, to_pil, to_uint8


def test_levels_are_rounded_and_clipped():
    levels = torch.tensor([0.0, 0.4999 / 255, 0.5001 / 255, 127.4 / 255, 1.0, 1.3, -0.2])
    pixels = to_uint8(levels.reshape(1, 1, 1, 7))
    assert pixels[0, 0, :, 0].tolist() == [0, 0, 1, 127, 255, 255, 0]


def test_channels_go_last_and_grey_is_repeated():
    colour = to_uint8(torch.tensor([1.0, 0.0, 0.2]).reshape(1, 3, 1, 1).expand(2, 3, 4, 5))
    assert colour.shape == (2, 4, 5, 3)
    assert colour[1, 3, 4].tolist() == [255, 0, 51]
    assert to_uint8(torch.full((1, 1, 2, 2), 0.2))[0, 0, 0].tolist() == [51, 51, 51]


def test_every_level_survives_in_half_precision_of_its_own():
    levels = torch.arange(256).reshape(1, 1, 16, 16) / 255
    assert np.array_equal(to_uint8(levels)[0, :, :, 0].ravel(), np.arange(256))
    assert np.array_equal(to_uint8(levels.half())[0, :, :, 0].ravel(), np.arange(256))


@pytest.mark.parametrize("wrong", [torch.rand(3, 4, 4), torch.rand(1, 4, 4, 4), torch.ones(1, 3, 4, 4).byte()])
def test_what_is_no_image_is_refused(wrong):
    with pytest.raises(ValueError, match=r"expected floats in \[0, 1\] of shape"):
        to_uint8(wrong)


def test_pictures_are_like_those_of_diffusers():
    from diffusers.image_processor import VaeImageProcessor

    samples = torch.rand(2, 3, 6, 8)
    theirs = VaeImageProcessor.numpy_to_pil(samples.permute(0, 2, 3, 1).numpy())
    for mine, other in zip(to_pil(samples), theirs, strict=True):
        assert mine.tobytes() == other.tobytes()
        assert mine.size == (8, 6)


@pytest.mark.parametrize(("size", "corner", "before"), [((5, 2), (0, 1), 1), ((2, 5), (1, 0), 1), ((2, 4), (1, 0), 1)])
def test_squares(size, corner, before):
    image = Image.new("RGB", size, (9, 9, 9))
    square = squared(image, (1, 2, 3))
    assert square.size == (max(size), max(size))
    assert square.getpixel(corner) == (9, 9, 9)
    assert square.getpixel((0, 0)) == (1, 2, 3)
    assert square.tobytes().count(bytes([9, 9, 9])) == size[0] * size[1]
    assert squared(square, (0, 0, 0)) is square


def test_jpeg():
    image = Image.new("RGB", (16, 16), (200, 10, 10))
    data = jpeg(image, 90)
    assert Image.open(io.BytesIO(data)).format == "JPEG"
    assert len(jpeg(image, 10)) < len(data)


def test_pictures_and_back():
    samples = torch.rand(2, 3, 5, 7)
    torch.testing.assert_close(from_pil(to_pil(samples)), (samples * 255).round() / 255)
    assert from_pil([]).shape[:2] == (0, 3)
