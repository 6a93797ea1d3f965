"""The share of power at high frequencies, by closed forms, and when the alarm on it is raised."""

import math

import pytest
import torch
from sklearn.datasets import load_digits

from graft_lightning.callbacks.alarms import Alarms, figures_of, raised
from graft_lightning.callbacks.sample_facts import facts_of
from graft_lightning.domains.base.spectrum import high_frequency_share
from graft_lightning.domains.digits import DigitReference

DIGITS = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16


def wave(cycles_a_pixel, amplitude=1.0, size=32):
    return amplitude * torch.cos(2 * math.pi * cycles_a_pixel * torch.arange(size)).expand(1, 1, size, size)


def test_waves_by_hand():
    assert float(high_frequency_share(wave(1 / 8))) == pytest.approx(0, abs=1e-6)
    assert float(high_frequency_share(wave(1 / 4))) == pytest.approx(1)
    assert float(high_frequency_share(wave(1 / 8).mT)) == pytest.approx(0, abs=1e-6)
    both = 5 + wave(1 / 8, amplitude=2.0) + wave(3 / 8, amplitude=1.0)  # power 4 : 1, and a mean that does not count
    assert float(high_frequency_share(both)) == pytest.approx(1 / 5, rel=1e-4)


def test_channels_are_summed():
    image = torch.cat([wave(1 / 8, amplitude=3.0), wave(3 / 8, amplitude=1.0)], 1)
    assert float(high_frequency_share(image)) == pytest.approx(1 / 10, rel=1e-4)


def test_nothing_is_said_of_constant_or_broken_images_and_none_of_no_image():
    images = torch.full((3, 3, 8, 8), 0.7)
    images[1, 0, 2, 2] = torch.inf
    images[2, :, :4] = 0.1
    assert high_frequency_share(images).isnan().tolist() == [True, True, False]
    assert high_frequency_share(images[:0]).shape == (0,)


def pictures(generator, count=40):
    return DIGITS[torch.randint(len(DIGITS), (count,), generator=generator)]


def blurred(images, sigma):
    down, across = (torch.fft.fftfreq(size) for size in images.shape[2:])
    kernel = torch.exp(-2 * (math.pi * sigma) ** 2 * (down[:, None] ** 2 + across[None, :] ** 2))
    return torch.fft.ifft2(torch.fft.fft2(images) * kernel).real


def alarms(now, base):
    found = [figures_of(facts_of(DigitReference(), s, ["a"] * len(s), range(len(s))), None) for s in (now, base)]
    return "sharpness" in raised(Alarms(), *found, [])


def test_the_alarm_is_quiet_on_other_draws_of_one_law_and_raised_by_a_blur():
    generator = torch.Generator().manual_seed(0)
    pairs = [(pictures(generator), pictures(generator)) for _ in range(200)]
    assert sum(alarms(now, base) for now, base in pairs) <= 10  # 5 %
    assert sum(alarms(blurred(now, sigma=1.0), base) for now, base in pairs) >= 190
