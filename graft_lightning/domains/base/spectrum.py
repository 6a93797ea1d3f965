"""Sharpness of images: how much of their power is at high frequencies."""

import torch
from torch import Tensor

CUT = 0.25
"""Cycles a pixel from which a frequency is high: half of the highest that one axis can carry."""


def high_frequency_share(images: Tensor) -> Tensor:
    """Share of the spectral power in the upper half of frequencies, the mean left out; float32 ``(batch,)``.

    A frequency is the length of its vector, in cycles a pixel. Power is summed over channels. NaN for an image that is
    constant or has a value that is not finite.

    Args:
        images: ``(batch, C, H, W)``.
    """
    pixels = images.detach().float()
    if not len(pixels):  # Fourier transforms refuse a batch of none
        return pixels.new_zeros(0)
    centred = pixels - pixels.mean((2, 3), keepdim=True)
    power = torch.fft.fft2(centred).abs().square().sum(1)
    down, across = (torch.fft.fftfreq(size, device=power.device) for size in power.shape[1:])
    high = torch.hypot(down[:, None], across[None, :]) >= CUT
    total = power.sum((1, 2))
    # of a constant image rounding leaves less than this
    floor = 1e-10 * down.numel() * across.numel() * pixels.square().sum((1, 2, 3))
    return torch.where(total > floor, (power * high).sum((1, 2)) / total, torch.nan)
