import pytest
import torch
from torch import nn

from graft_lightning.domains.text_to_image.rewards import JPEGCompressed, JPEGCompressibility
from graft_lightning.domains.text_to_image.rewards.base import ImageJudge, NetworkJudge


class Brightness(ImageJudge):
    def __init__(self, batch_size=2):
        super().__init__(batch_size)
        self._sizes = []

    def judge(self, images, conditions):
        self._sizes.append(len(images))
        return torch.tensor([image.getpixel((0, 0))[0] + len(c) for image, c in zip(images, conditions, strict=True)])


def test_batches_keep_order_and_leave_broken_pictures_out():
    samples = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 3, 4, 4).clone() / 255
    samples[1, 2, 3, 3] = float("nan")
    samples[3, 0, 0, 0] = float("inf")
    reward = Brightness()
    scores = reward(samples, ["", "a", "ab", "abc", "abcd"])
    assert scores[[0, 2, 4]].tolist() == [0.0, 4.0, 8.0]
    assert scores[[1, 3]].isnan().all()
    assert scores.dtype == torch.float32
    assert reward._sizes == [2, 1]


def test_no_pictures_no_judgement():
    reward = Brightness()
    assert reward(torch.zeros(0, 3, 4, 4), []).shape == (0,)
    assert reward(torch.full((1, 3, 4, 4), float("nan")), [""]).isnan().all()
    assert reward._sizes == []


class Lazy(NetworkJudge):
    loads = 0

    def load(self):
        self.loads += 1
        return nn.Sequential(nn.Linear(1, 1), nn.Dropout())

    def judge(self, images, conditions):
        return self.network(torch.ones(len(images), 1, device=self._device)).squeeze(1)


def test_the_network_is_loaded_once_frozen_and_where_it_was_sent():
    reward = Lazy().to("meta")
    assert reward.loads == 0
    assert {parameter.device.type for parameter in reward.network.parameters()} == {"meta"}
    reward = Lazy()
    first, second = (reward(torch.zeros(3, 3, 4, 4), [""] * 3) for _ in range(2))
    assert torch.equal(first, second), "dropout is off"
    assert reward.loads == 1
    assert not any(parameter.requires_grad for parameter in reward.network.parameters())
    assert {p.device.type for p in reward.to("meta").network.parameters()} == {"meta"}


def test_wrong_dtype():
    with pytest.raises(ValueError, match="'half' is not one of float32, bfloat16, float16"):
        Lazy(dtype="half")


@pytest.mark.parametrize("outside", [-1.0, -0.01, 1.01, 255.0])
def test_floats_outside_the_range_are_refused_by_name(outside):
    images = torch.rand(3, 3, 8, 8)
    images[1, 0, 0, 0] = outside
    for reward in (JPEGCompressibility(), JPEGCompressed(JPEGCompressibility())):
        with pytest.raises(
            ValueError, match=r"^JPEGCompressibility: samples reach from .*; expected floats in \[0, 1\]"
        ):
            reward(images, ["a"] * 3)


def test_rounding_outside_the_range_changes_nothing():
    images = torch.rand(2, 3, 8, 8)
    images[:, 0, 0] = torch.tensor([0.0, 1.0]).repeat(4)
    rounded = images.clone()
    rounded[:, 0, 0] = torch.tensor([-0.001, 1.001]).repeat(4)
    assert torch.equal(JPEGCompressibility()(rounded, ["a"] * 2), JPEGCompressibility()(images, ["a"] * 2))
