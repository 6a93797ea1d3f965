import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from graft_lightning.domains.images import ImageFiles
from graft_lightning.domains.images.examples import square
from graft_lightning.types import SettingsError


def pixels(content):
    return torch.from_numpy(np.array(Image.open(io.BytesIO(content)).convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("source", ["folder", "archive", "database"])
def test_pictures_in_order_and_exact(request, images, source):
    examples = ImageFiles(str(request.getfixturevalue(source)), size=8, shuffle=False)
    x, texts = examples.batch(range(40), 0)
    assert texts == [""] * 40
    assert x.dtype == torch.float32
    expected = torch.stack([pixels(images[name]) for name in sorted(images)])
    assert torch.equal(((x + 1) * 127.5).round().to(torch.uint8), expected)
    assert x.min() >= -1
    assert x.max() <= 1


def test_a_stretch_is_a_shuffle_and_positions_are_places(folder):
    examples = ImageFiles(str(folder), size=8)
    first, _ = examples.batch(range(40), 3)
    second, _ = examples.batch(range(40, 80), 3)
    other, _ = examples.batch(range(40), 4)
    straight, _ = ImageFiles(str(folder), size=8, shuffle=False).batch(range(40), 3)

    def ordered(x):
        return sorted(x.flatten(1).tolist())

    assert ordered(first) == ordered(second) == ordered(other) == ordered(straight)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
    one_by_one = torch.cat([examples.batch([position], 3)[0] for position in range(35, 45)])
    assert torch.equal(one_by_one, torch.cat([first, second])[35:45])


def test_half_are_mirrored_and_others_every_time(folder):
    plain, _ = ImageFiles(str(folder), size=8).batch(range(800), 0)
    flipped, _ = ImageFiles(str(folder), size=8, flip=True).batch(range(800), 0)
    same = (plain == flipped).flatten(1).all(1)
    assert torch.equal(flipped[~same], plain[~same].flip(-1))
    assert abs(same.float().mean() - 0.5) < 3 * 0.5 / 800**0.5
    assert not torch.equal(same[:40], same[40:80])


def test_what_is_held_out_is_not_trained_on(folder):
    parts = {part: ImageFiles(str(folder), 8, part, held_out=12) for part in ("train", "held_out", "all")}
    assert {part: len(examples) for part, examples in parts.items()} == {"train": 28, "held_out": 12, "all": 40}
    rows = {part: {str(row) for row in e.batch(range(len(e)), 0)[0].tolist()} for part, e in parts.items()}
    assert not rows["train"] & rows["held_out"]
    assert rows["train"] | rows["held_out"] == rows["all"]


def test_the_middle_of_a_resized_picture():
    ramp = np.broadcast_to(np.arange(120, dtype=np.uint8)[None, :, None] * 2, (40, 120, 3))
    cut = np.asarray(square(Image.fromarray(np.ascontiguousarray(ramp)), 20)).astype(float)
    assert cut.shape == (20, 20, 3)
    # halved: column j stands for columns 2 j and 2 j + 1 of the middle 40, which begin at 40
    expected = 2 * (40 + 2 * np.arange(20) + 0.5)
    assert np.abs(cut - expected[None, :, None]).max() <= 1
    tall = np.asarray(square(Image.fromarray(np.ascontiguousarray(ramp.transpose(1, 0, 2))), 20)).astype(float)
    assert np.abs(tall - expected[:, None, None]).max() <= 1
    assert np.asarray(square(Image.new("RGB", (30, 50)), 30)).shape == (30, 30, 3)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("length", [4000, 4001])
def test_a_strip_is_not_made_large_before_it_is_cut(monkeypatch, length, turned):
    strip = np.repeat((np.arange(length) % 251).astype(np.uint8)[None, :, None], 3, 2)
    left = (length - 31) // 2
    middle = strip[:, left : length - left]
    whole, part = (np.swapaxes(one, 0, 1) if turned else one for one in (strip, middle))
    expected = np.asarray(square(Image.fromarray(np.ascontiguousarray(part)), 64))
    sizes, resize = [], Image.Image.resize

    def watched(image, size, *given, **settings):
        sizes.append(size)
        return resize(image, size, *given, **settings)

    monkeypatch.setattr(Image.Image, "resize", watched)
    assert np.array_equal(np.asarray(square(Image.fromarray(np.ascontiguousarray(whole)), 64)), expected)
    assert max(sizes[0]) <= 64 * 9


def test_a_damaged_picture_is_named(tmp_path, images):
    (tmp_path / "good.png").write_bytes(images["000.png"])
    (tmp_path / "half.png").write_bytes(images["001.png"][:60])
    with pytest.raises(SettingsError, match=r"half\.png is no image, or a damaged one"):
        ImageFiles(str(tmp_path), size=8).batch(range(2), 0)


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def test_a_damaged_chunk_is_named(tmp_path):
    """The header of a chunk after the first of the pixels: no OSError, as most damage is."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    content = bytearray(png(noise))
    second = content.index(b"IDAT", content.index(b"IDAT") + 4)
    content[second : second + 4] = b"\x00\x01\x02\x03"
    (tmp_path / "chunk.png").write_bytes(content)
    with pytest.raises(SettingsError, match=r"chunk\.png is no image, or a damaged one.*take it away"):
        ImageFiles(str(tmp_path), size=8).read(0)


@pytest.mark.parametrize("error", [SyntaxError, ValueError, zlib.error, struct.error], ids=lambda kind: kind.__name__)
def test_whatever_a_decoder_raises_the_picture_is_named(tmp_path, images, monkeypatch, error):
    def fail(*arguments, **keywords):
        raise error("odd")

    monkeypatch.setattr(Image.Image, "convert", fail)
    (tmp_path / "odd.png").write_bytes(images["000.png"])
    with pytest.raises(SettingsError, match=r"odd\.png is no image, or a damaged one \(odd\)"):
        ImageFiles(str(tmp_path), size=8).read(0)


def test_a_picture_that_is_too_large_is_named(tmp_path, monkeypatch):
    (tmp_path / "poster.png").write_bytes(png(np.zeros((64, 64), np.uint8)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(SettingsError, match=r"poster\.png is too large .*make it smaller"):
        ImageFiles(str(tmp_path), size=8).read(0)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("a.png", np.full((8, 8), 30000, np.uint16)),
        ("a.bmp", np.zeros((8, 8), np.int32)),
        ("a.jpg", np.zeros((8, 8), np.float32)),
    ],
    ids=["I;16", "I", "F"],
)
def test_more_than_8_bits_are_refused(tmp_path, name, array):
    path = tmp_path / name
    Image.fromarray(array).save(path, format="PNG" if array.dtype == np.uint16 else "TIFF")
    with pytest.raises(SettingsError, match=r"a\.\w+ has more than 8 bits a channel \(mode [IF].*convert it to 8"):
        ImageFiles(str(tmp_path), size=8).read(0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"part": "test"}, "part='test'"), ({"part": "held_out"}, "held_out=0"), ({"size": 0}, "size=0")],
    ids=["part", "held_out", "size"],
)
def test_settings_that_cannot_be(settings, said):
    with pytest.raises(ValueError, match=said):
        ImageFiles("nowhere", **settings)


def test_more_held_out_than_there_are(folder):
    with pytest.raises(SettingsError, match=r"held_out=40, but .* has only 40"):
        len(ImageFiles(str(folder), held_out=40))
