"""Layout FID: the Frechet distance of layouts from real ones, in the features of a network of layouts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from graft_lightning.domains.base import Examples
from graft_lightning.domains.base.distances import FrechetDistance
from graft_lightning.domains.layouts.dataset import CACHE
from graft_lightning.domains.layouts.examples import LayoutExamples
from graft_lightning.domains.layouts.metrics.layoutnet import LayoutNet, packed, read_published
from graft_lightning.domains.layouts.metrics.layoutnet_training import Training, trained


class LayoutFID(FrechetDistance):
    """Frechet distance from real layouts, in the features of `layoutnet.LayoutNet`.

    Without weights the network is trained on the very layouts that samples are compared to, once, and kept. Networks
    differ from paper to paper: the number compares with others of the same network only, and grows as samples get
    fewer. Name both with it.

    Args:
        real: real layouts.
        weights: published weights, a checkpoint of torch; trained on ``train`` by default.
        corners: whether those weights see boxes by their edges, as LayoutDiffusion's and LayoutFlow's do.
        train: on which the network is trained; ``real`` by default.
        steps: of that training.
        count: how many real layouts; all by default.
        cache: folder in which a trained network is kept.
        progress: whether to show a progress bar while it is trained.
        arguments: of torchmetrics.

    Raises:
        FileNotFoundError: if there are no such weights.
        SettingsError: if they are of another network.
    """

    def __init__(
        self,
        real: LayoutExamples,
        weights: str | None = None,
        corners: bool = False,
        train: LayoutExamples | None = None,
        steps: int = 500,
        count: int | None = None,
        cache: str = str(CACHE),
        progress: bool = True,
        **arguments: Any,
    ) -> None:
        if weights is not None and not Path(weights).is_file():
            raise FileNotFoundError(f"weights={weights}: there is no such file; leave it out to train a network here")
        seen = real if train is None else train
        super().__init__(_Packed(real), _Features(real, weights, corners, seen, steps, cache, progress), count)

    def update(self, samples: Any, conditions: Sequence[str] | None = None) -> None:
        """Adds a batch of layouts; what was asked for does not matter."""
        super().update(packed(samples).to(self.device))


class _Features(nn.Module):
    """The network, trained or read when it is first needed."""

    num_features = LayoutNet.num_features

    def __init__(
        self,
        real: LayoutExamples,
        weights: str | None,
        corners: bool,
        train: LayoutExamples,
        steps: int,
        cache: str,
        progress: bool,
    ) -> None:
        super().__init__()
        self.real, self.path, self.corners, self.train_on = real, weights, corners, train
        self.training_settings, self.cache, self.progress = Training(steps=steps), Path(cache), progress
        self.network: LayoutNet | None = None

    def forward(self, samples: Tensor) -> Tensor:
        if self.network is None:
            if self.path is None:
                self.network = trained(self.train_on.layouts, self.training_settings, self.cache, self.progress)
            else:
                labels = len(self.real.layouts.vocabulary)
                self.network = read_published(self.path, self.corners, labels).eval().requires_grad_(False)
        return self.network.to(samples.device)(samples)


class _Packed(Examples):
    """Layouts as tensors in the range of [-1, 1] that distances take real samples in: theirs is (x + 1) / 2."""

    def __init__(self, real: LayoutExamples) -> None:
        self.real = real

    def __len__(self) -> int:
        return len(self.real)

    def batch(self, positions: Sequence[int], seed: int) -> tuple[Tensor, list[str]]:
        found = self.real.layouts.read(list(positions))
        return 2 * packed(found) - 1, [""] * len(positions)
