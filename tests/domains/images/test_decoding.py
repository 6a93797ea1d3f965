"""Images as a viewer shows them: each kind of file against pixels known beforehand."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from graft_lightning.domains.images import ImageFiles
from graft_lightning.types import SettingsError

SIDE = 8
COLOURS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def read(folder, content, name="a.png", **settings):
    (folder / name).write_bytes(content)
    return ImageFiles(str(folder), size=SIDE, **settings).read(0).permute(1, 2, 0).numpy()


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# The eight orientations of EXIF, as what a viewer does with the rows and columns of the file.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation(tmp_path, orientation, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(COLOURS), kind, exif=oriented(orientation), **options)
    np.testing.assert_array_equal(read(tmp_path, content), TURNS[orientation](COLOURS))


def test_a_turned_picture_is_cut_from_its_middle_as_it_is_shown(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    content = encoded(Image.fromarray(wide), exif=oriented(6))
    assert (read(tmp_path, content) == 200).all()


def test_damaged_exif_is_no_damaged_picture(tmp_path):
    content = encoded(Image.fromarray(COLOURS), exif=b"Exif\0\0no TIFF file at all")
    np.testing.assert_array_equal(read(tmp_path, content), COLOURS)


def on_white(colours, alpha):
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


ALPHA = np.linspace(0, 255, SIDE * SIDE).astype(np.uint8).reshape(SIDE, SIDE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_laid_on_white(tmp_path, kind):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = encoded(Image.fromarray(np.dstack([COLOURS, ALPHA])), kind, **options)
    assert np.abs(read(tmp_path, content) - on_white(COLOURS, ALPHA)).max() <= 1


def test_grey_with_alpha_is_laid_on_white(tmp_path):
    grey = COLOURS[..., 0]
    content = encoded(Image.fromarray(np.dstack([grey, ALPHA]), mode="LA"))
    expected = on_white(np.repeat(grey[..., None], 3, axis=2), ALPHA)
    assert np.abs(read(tmp_path, content) - expected).max() <= 1


def palette():
    image = Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) % 4, mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    return image


@pytest.mark.parametrize(("kind", "name"), [("PNG", "a.png"), ("GIF", "a.gif")])
def test_palettes(tmp_path, kind, name):
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]], np.uint8)
    expected = colours[np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 4]
    np.testing.assert_array_equal(read(tmp_path, encoded(palette(), kind), name), expected)
    colours[2] = 255  # the transparent one
    expected = colours[np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 4]
    np.testing.assert_array_equal(read(tmp_path, encoded(palette(), kind, transparency=2), name), expected)


def test_a_transparent_colour_of_a_picture_without_alpha(tmp_path):
    content = encoded(Image.fromarray(COLOURS), transparency=tuple(COLOURS[2, 3].tolist()))
    expected = COLOURS.copy()
    expected[2, 3] = 255
    np.testing.assert_array_equal(read(tmp_path, content), expected)


def test_cmyk(tmp_path):
    ink = np.zeros((SIDE, SIDE, 4), np.uint8)
    ink[..., 0] = 255  # cyan
    content = encoded(Image.fromarray(ink, mode="CMYK"), "TIFF")
    assert (read(tmp_path, content, "a.tif") == [0, 255, 255]).all()


def test_black_and_white(tmp_path):
    black = COLOURS[..., 0] > 127
    found = read(tmp_path, encoded(Image.fromarray(black)))
    np.testing.assert_array_equal(found, np.repeat(black[..., None], 3, axis=2) * 255)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.tif", "TIFF"), ("a.tiff", "TIFF"), ("a.gif", "GIF"), ("a.bmp", "BMP"), ("a.webp", "WEBP"), ("a.ppm", "PPM"),
     ("a.tga", "TGA"), ("a.jp2", "JPEG2000"), ("a.JPG", "JPEG"), ("a.jfif", "JPEG"), ("a.qoi", "QOI")],
)  # fmt: skip
def test_formats(tmp_path, name, kind):
    found = read(tmp_path, encoded(Image.new("RGB", (SIDE, SIDE), (200, 100, 50)), kind), name)
    assert np.abs(found.astype(int) - [200, 100, 50]).max() <= 3


def png(bits, colour_type, channels):
    """A PNG by hand: Pillow writes none with 16 bits and colours."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + b"\x80\x10" * (SIDE * channels * bits // 16) for _ in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


DEEP = {
    "grey png": lambda: png(16, 0, 1),
    "colour png": lambda: png(16, 2, 3),
    "grey png with alpha": lambda: png(16, 4, 2),
    "colour png with alpha": lambda: png(16, 6, 4),
    "grey ppm": lambda: b"P5 8 8 65535\n" + b"\x10\x00" * 64,
    "colour ppm": lambda: b"P6 8 8 1023\n" + b"\x01\x00" * 192,
    "grey tiff": lambda: encoded(Image.fromarray(np.full((8, 8), 3000, np.uint16)), "TIFF"),
    "float tiff": lambda: encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"),
    "grey jpeg 2000": lambda: encoded(Image.fromarray(np.full((8, 8), 3000, np.uint16)), "JPEG2000"),
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_8_bits_a_channel_are_refused(tmp_path, kind):
    with pytest.raises(SettingsError, match=r"a\.png has more than 8 bits a channel .*convert it to 8 bits"):
        read(tmp_path, DEEP[kind]())


def test_8_bits_by_the_same_hand_are_read(tmp_path):
    assert read(tmp_path, png(8, 2, 3)).shape == (8, 8, 3)
    packed = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 16, 0, 128, 0, 0, 0, 0)  # 5 bits a channel, 16 a pixel
    bitmap = b"BM" + struct.pack("<IHHI", 54 + 128, 0, 0, 54) + packed + b"\x1f\x7c" * 64
    assert (read(tmp_path, bitmap) == [255, 0, 255]).all()


def test_grey_data_sets(tmp_path):
    """One channel on request, whatever the files have; three by default, all alike."""
    grey = COLOURS[..., 0]
    content = encoded(Image.fromarray(grey))
    np.testing.assert_array_equal(read(tmp_path, content, channels=1)[..., 0], grey)
    assert (read(tmp_path, content) == grey[..., None]).all()
    x, _ = ImageFiles(str(tmp_path), size=SIDE, channels=1).batch(range(1), 0)
    assert x.shape == (1, 1, SIDE, SIDE)
    torch.testing.assert_close((x[0, 0] + 1) * 127.5, torch.from_numpy(grey).float())
    colour = read(tmp_path, encoded(Image.fromarray(COLOURS)), channels=1)
    luma = COLOURS @ [0.299, 0.587, 0.114]
    assert np.abs(colour[..., 0] - luma).max() <= 1
    with pytest.raises(ValueError, match="channels=2; images have 3, grey ones 1"):
        ImageFiles(str(tmp_path), channels=2)
