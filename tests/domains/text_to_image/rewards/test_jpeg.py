import io

import pytest
import torch
from PIL import Image

from graft_lightning.domains.text_to_image.images import to_uint8
from graft_lightning.domains.text_to_image.rewards import JPEGCompressibility, JPEGIncompressibility

IMAGES = torch.stack([torch.zeros(3, 32, 32), torch.rand(3, 32, 32)])


@pytest.mark.parametrize("quality", [95, 40])
def test_the_size_in_kilobytes(quality):
    sizes = []
    for pixels in to_uint8(IMAGES):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
        sizes.append(buffer.tell() / 1000)
    assert sizes[0] < sizes[1]
    torch.testing.assert_close(JPEGIncompressibility(quality)(IMAGES, ["", ""]), torch.tensor(sizes))
    torch.testing.assert_close(JPEGCompressibility(quality)(IMAGES, ["", ""]), -torch.tensor(sizes))
