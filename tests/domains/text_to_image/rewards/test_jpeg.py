import io

import numpy as np
import pytest
import torch
from PIL import Image

from graft_lightning.domains.text_to_image.images import to_uint8
from graft_lightning.domains.text_to_image.rewards import JPEGCompressed, JPEGCompressibility, JPEGIncompressibility
from graft_lightning.rejection.reward import Reward

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


class Seen(Reward):
    def __call__(self, samples, conditions):
        self.samples = samples
        return torch.arange(float(len(conditions)))


@pytest.mark.parametrize("channels", [3, 1])
def test_another_reward_looks_after_compression(channels):
    seen = Seen()
    images = IMAGES[:, :channels].clone()
    images[0, 0, 0, 0] = float("nan")
    assert JPEGCompressed(seen)(images, ["a", "b"]).tolist() == [0.0, 1.0]
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(images[1:])[0]).save(buffer, format="JPEG")  # at Pillow's default quality
    expected = np.asarray(Image.open(buffer)).transpose(2, 0, 1) / np.float32(255)
    torch.testing.assert_close(seen.samples[1], torch.from_numpy(expected))
    assert seen.samples[0].isnan().any(), "what is broken stays broken"
    assert seen.samples.shape == (2, 3, 32, 32)
