"""What rewards of images share: batches, images, networks that are loaded when first asked."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graft_lightning.domains.base.loading import loaded
from graft_lightning.domains.base.pretrained import loaded_network
from graft_lightning.domains.base.weights import stored_elements
from graft_lightning.domains.text_to_image.images import to_pil
from graft_lightning.rejection.reward import Reward

if TYPE_CHECKING:
    from PIL.Image import Image

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def sound_rows(samples: Tensor) -> list[int]:
    """The rows whose every pixel is a number."""
    return samples.isfinite().flatten(1).all(1).nonzero().flatten().tolist()


class ImageJudge(Reward):
    """A reward of images, each judged by itself. A image with a pixel that is not a number is worth NaN.

    Args:
        batch_size: images judged at a time.
    """

    def __init__(self, batch_size: int = 16) -> None:
        self._batch_size = batch_size

    @abstractmethod
    def judge(self, images: "list[Image]", conditions: list[str]) -> Tensor:
        """Scores ``(batch,)`` of RGB images and the prompts that they were made for."""

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        scores = torch.full((len(conditions),), float("nan"))
        sound = sound_rows(samples)
        for start in range(0, len(sound), self._batch_size):
            rows = sound[start : start + self._batch_size]
            with torch.no_grad():
                judged = self.judge(images(samples[rows], self.name), [conditions[row] for row in rows])
            scores[rows] = judged.detach().to("cpu", torch.float32)
        return scores


def images(samples: Tensor, reward: str) -> "list[Image]":
    """Samples as images.

    Raises:
        ValueError: if they are none, or not in [0, 1]; names the reward.
    """
    try:
        return to_pil(samples)
    except ValueError as error:
        raise ValueError(f"{reward}: {error}") from None


class NetworkJudge(ImageJudge):
    """An `ImageJudge` that a network gives. The network is loaded by the first call, onto the device of `to`.

    Args:
        dtype: of the network's weights: "float32", "bfloat16" or "float16".
        batch_size: images judged at a time.
    """

    def __init__(self, dtype: str = "float32", batch_size: int = 16) -> None:
        super().__init__(batch_size)
        if dtype not in DTYPES:
            raise ValueError(f"dtype: {dtype!r} is not one of {', '.join(DTYPES)}")
        self.dtype = dtype
        self._network: Any = None
        self._device = torch.device("cpu")

    @abstractmethod
    def load(self) -> Any:
        """Loads the network and whatever goes with it; returns the network.

        Raises:
            ModelUnavailableError: if it cannot be had; says what to do.
        """

    def fetch(self, load: Callable[..., Any], setting: str = "model", **options: Any) -> Any:
        """What ``load`` makes of the folder or hub id that a setting names; errors name the setting."""
        return loaded(load, getattr(self, setting), f"{self.name}, setting `{setting}`", **options)

    def fetch_network(self, kind: Any, setting: str = "model") -> Any:
        """A network of a class of transformers, complete, from the folder or hub id that a setting names.

        Raises:
            ModelUnavailableError: if it cannot be had, or lacks weights: random ones would judge in their place.
            SettingsError: if weights are damaged or not finite.
        """
        what = f"{self.name}, setting `{setting}`"
        return loaded_network(kind.from_pretrained, getattr(self, setting), what, dtype=self.dtype)

    def weight_bytes(self) -> int | None:
        """Of the files of a local folder."""
        folder = Path(getattr(self, "model", "")).expanduser()
        found = stored_elements(folder) if folder.is_dir() else None
        return None if found is None else found * DTYPES[self.dtype].itemsize

    @property
    def network(self) -> Any:
        """The network, loaded, frozen and on its device."""
        if self._network is None:
            self._network = self.load().to(self._device).eval().requires_grad_(False)
        return self._network

    def to(self, device: torch.device | str) -> "NetworkJudge":
        self._device = torch.device(device)
        if self._network is not None:
            self._network.to(self._device)
        return self
