"""Rewards and metrics of 28 x 28 digits, by classifiers of real ones: one half for rewards, the other held out."""

import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft_lightning.domains.base import Examples, distances
from graft_lightning.processes.noise import hashed_seed
from graft_lightning.rejection.reward import Reward
from graft_lightning.shuffles import shuffles

log = logging.getLogger("graft_lightning.mnist")

DIGITS = "data/digits_10k.npz"
FRAME = 3
"""Pixels of the border, on each side: real digits leave them black."""

Half = Literal["reward", "judge"]


@lru_cache(maxsize=4)
def digits(path: str, half: Half) -> tuple[Tensor, Tensor]:
    """Every second of the real digits: images ``(n, 1, 28, 28)`` in [0, 1] and labels ``(n,)``.

    Raises:
        FileNotFoundError: if the file is absent.
        ValueError: of another half.
    """
    if half not in ("reward", "judge"):
        raise ValueError(f"half={half!r}; it is 'reward' or 'judge'")
    if not Path(path).is_file():
        raise FileNotFoundError(f"digits={path}: absent; experiments/mnist/README.md says how to get it")
    import numpy as np

    with np.load(path) as file:
        part = slice(int(half == "judge"), None, 2)
        images, labels = file["images"][part], file["labels"][part]
    return torch.from_numpy(images).float().unsqueeze(1) / 255, torch.from_numpy(labels).long()


class Classifier(nn.Module):
    """Three convolutions and two linear layers."""

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, out in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(channels, out, 3, stride=2, padding=1), nn.ReLU()]
        self.to_features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, self.num_features), nn.ReLU())
        self.to_logits = nn.Linear(self.num_features, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(batch, 10)`` of images ``(batch, 1, 28, 28)`` in [0, 1]."""
        return self.to_logits(self.to_features(images * 2 - 1))


@lru_cache(maxsize=4)
def classifier(path: str, half: Half) -> Classifier:
    """A classifier of one half of the digits, trained by the first call in about ten seconds of one core."""
    log.info("training the classifier of the half %r of %s", half, path)
    images, labels = digits(path, half)
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), torch.inference_mode(False):
        torch.manual_seed(hashed_seed("classifier", half) % 2**32)
        network = Classifier()
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
        epochs, size = 8, 100
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * (len(images) // size))
        for _ in range(epochs):
            for rows in torch.randperm(len(images))[: len(images) // size * size].split(size):
                # generated digits are shifted or dimmer, which is no reason to misread one
                shift = torch.randint(-1, 2, (2,)).tolist()
                shown = images[rows].roll(shift, (2, 3)) * (0.8 + 0.2 * torch.rand(size, 1, 1, 1))
                loss = F.cross_entropy(network(shown), labels[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return network.eval().requires_grad_(False)


def border(images: Tensor) -> Tensor:
    """Mean brightness ``(batch,)`` of the outermost pixels of images ``(batch, 1, height, width)`` in [0, 1]."""
    frame = torch.ones_like(images[:1], dtype=torch.bool)
    frame[..., FRAME:-FRAME, FRAME:-FRAME] = False
    return images.masked_select(frame).reshape(len(images), -1).mean(1)


def without_background(images: Tensor) -> Tensor:
    """Images whose background is black and whose brightest pixel is white: border's median off, contrast stretched."""
    frame = torch.cat([images[..., :FRAME, :].flatten(1), images[..., -FRAME:, :].flatten(1)], 1)
    left = (images - frame.median(1).values[:, None, None, None]).clamp_min(0)
    return left / left.amax((1, 2, 3), keepdim=True).clamp_min(1e-3)


class DarkBorder(Reward):
    """1 where the border is black, 0 from a brightness of ``grey`` on; knows nothing of digits.

    Args:
        grey: mean brightness in (0, 1] that counts as none.
    """

    def __init__(self, grey: float = 0.25) -> None:
        if not 0 < grey <= 1:
            raise ValueError(f"grey={grey}; it is a brightness in (0, 1]")
        self.grey = grey

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        return (1 - border(samples) / self.grey).clamp_min(0)


class _Judged(Reward):
    """A score by a classifier.

    Args:
        half: of the digits: "reward" to maximise, "judge" for a held-out metric.
        digits: path of the digits.
    """

    def __init__(self, half: Half = "reward", digits: str = DIGITS) -> None:
        self.half, self.digits = half, digits

    @property
    def name(self) -> str:
        return type(self).__name__ + ("Judge" if self.half == "judge" else "")

    def probabilities(self, samples: Tensor) -> Tensor:
        """Probabilities ``(batch, 10)`` of the classes, on the CPU."""
        return classifier(self.digits, self.half)(samples.float().cpu()).softmax(1)


class LegibleDarkBorder(_Judged):
    """Legibility, the probability of the likeliest digit, times `DarkBorder`."""

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        return self.probabilities(samples).amax(1) * DarkBorder()(samples, conditions).cpu()


class IsOneOf(_Judged):
    """Probability that a picture is one of some digits.

    Args:
        of: the digits.
        clean: whether the background is removed before the classifier looks.
        half: as in the other rewards.
        digits: path of the digits.
    """

    def __init__(
        self, of: Sequence[int] = (1, 4, 7), clean: bool = True, half: Half = "reward", digits: str = DIGITS
    ) -> None:
        if not of or not set(of) <= set(range(10)):
            raise ValueError(f"of={list(of)}; it is a list of digits, 0 to 9")
        super().__init__(half, digits)
        self.of, self.clean = list(of), clean

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        samples = without_background(samples) if self.clean else samples
        return self.probabilities(samples)[:, self.of].sum(1)


class MNISTDigits(Examples):
    """Real digits in [-1, 1], in endless shuffles.

    Args:
        half: which.
        digits: path of the digits.
    """

    def __init__(self, half: Half = "judge", digits: str = DIGITS) -> None:
        self.half, self.digits = half, digits

    def __len__(self) -> int:
        return len(digits(self.digits, self.half)[0])

    def batch(self, positions: Sequence[int], seed: int) -> tuple[Tensor, list[str]]:
        images, _ = digits(self.digits, self.half)
        return images[shuffles(len(images), seed, "digits").at(positions)] * 2 - 1, [""] * len(positions)


class Features(nn.Module):
    """Features of the classifier of the half that no reward sees: samples in [0, 1] -> ``(batch, 64)``."""

    num_features = Classifier.num_features

    def __init__(self, digits: str = DIGITS) -> None:
        super().__init__()
        self.digits = digits

    def forward(self, samples: Tensor) -> Tensor:
        """Features, on the device of the samples."""
        return classifier(self.digits, "judge").to_features(samples.float().cpu() * 2 - 1).to(samples.device)


class FrechetDistance(distances.FrechetDistance):
    """The Frechet distance from the real digits that no reward sees, in the features of their classifier.

    Args:
        digits: path of the digits.
        arguments: of the metric.
    """

    def __init__(self, digits: str = DIGITS, **arguments: Any) -> None:
        super().__init__(real=MNISTDigits("judge", digits), features=Features(digits), **arguments)


class KernelDistance(distances.KernelDistance):
    """The kernel distance, arguments as in `FrechetDistance`; of other pictures a distance of features, not of digits.

    Args:
        digits: path of the digits.
        arguments: of the metric.
    """

    def __init__(self, digits: str = DIGITS, **arguments: Any) -> None:
        super().__init__(real=MNISTDigits("judge", digits), features=Features(digits), **arguments)
