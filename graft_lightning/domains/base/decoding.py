"""Images as a viewer shows them, and how many bits their files have for a channel."""

import io
import re
from typing import TYPE_CHECKING

from graft_lightning.types import SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

_HEADER = 1 << 16
"""Bytes in which a file of JPEG 2000 or AVIF tells its bits."""


def image_in(content: bytes, where: object) -> "Image":
    """An encoded image of 8 bits a channel, in RGB, as a viewer shows it.

    Args:
        content: of a file.
        where: its name, for the error.

    Raises:
        SettingsError: if it cannot be read, or has more than 8 bits a channel; names it.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as opened:
            mode, bits = opened.mode, bits_per_channel(opened, content)
            image = opened if bits > 8 else as_shown(opened)
    except Image.DecompressionBombError as error:
        raise SettingsError(f"{where} is too large ({error}); make it smaller, or take it away") from error
    except UnidentifiedImageError as error:  # whose message tells of an object of Python
        reason = "its first bytes are those of no format that Pillow knows" if content else "the file is empty"
        raise SettingsError(f"{where} is no image, or a damaged one ({reason}); mend it, or take it away") from error
    except Exception as error:  # of damaged data decoders raise anything: OSError, SyntaxError, struct.error
        raise SettingsError(f"{where} is no image, or a damaged one ({error}); mend it, or take it away") from error
    if bits > 8:  # converted, everything above 255 is white, or the lower bits are lost
        raise SettingsError(
            f"{where} has more than 8 bits a channel (mode {mode}, {bits} bits); convert it to 8 bits, or take it away"
        )
    return image


def as_shown(image: "Image") -> "Image":
    """The image in RGB: turned as its EXIF data ask, and laid on white where it is transparent.

    Its numbers stay as they are: a colour profile is not applied, as it is not where published networks and statistics
    come from.
    """
    from PIL import Image, ImageOps

    try:
        image.getexif()
    except Exception:  # of damaged EXIF data readers raise anything, and viewers show the image as it lies
        turned = image
    else:
        turned = ImageOps.exif_transpose(image)
    if not turned.has_transparency_data:
        return turned.convert("RGB")
    layer = turned.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def bits_per_channel(image: "ImageFile", content: bytes) -> int:
    """Bits that the file has for each channel; Pillow itself cuts most images down to 8 without a word.

    Args:
        image: opened, not yet loaded.
        content: of the file.
    """
    if image.mode.startswith("I;"):
        return int(re.sub(r"\D", "", image.mode) or 16)
    found = [32 if image.mode in ("I", "F") else 8]
    for tile in image.tile:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        raw = arguments[0] if arguments else None
        # RGB;16B of PNG and TIFF; but BGR;16 of BMP packs all channels into 16 bits
        if isinstance(raw, str) and (marked := re.fullmatch(r"(?!BGR).*;(\d+)[A-Z]*", raw)):
            found.append(int(marked[1]))
        if image.format == "PPM" and len(arguments) > 1 and isinstance(arguments[1], int):  # the largest value
            found.append(arguments[1].bit_length())
    return max(*found, _announced(image.format, content[:_HEADER]))


def _announced(kind: str | None, header: bytes) -> int:
    """Bits that the headers of formats tell of whose decoder in Pillow does not; 0 for other formats."""
    if (
        kind == "JPEG2000"
    ):  # the marker of the codestream; after it 40 bytes of sizes, and the first channel's depth - 1
        place = header.find(b"\xff\x4f\xff\x51")
        return (header[place + 42] & 0x7F) + 1 if 0 <= place < len(header) - 42 else 0
    if kind == "AVIF":  # a box of pixel information: version and flags, number of channels, bits of each
        place = header.find(b"pixi")
        return header[place + 9] if 0 <= place < len(header) - 9 else 0
    return 0
