"""The features that published distances are measured in."""

import torch
from torch import Tensor, nn

from graft_lightning.domains.base.images import check_range
from graft_lightning.types import SettingsError


class Inception(nn.Module):
    """Images ``(batch, 1 or 3, height, width)`` in [0, 1] -> 2048 features of the Inception network of FID.

    The TensorFlow port of torch-fidelity, through torchmetrics; its weights (91 MB) are fetched when it is first used.

    Args:
        weights: a local copy of the weights, ``pt_inception-2015-12-05-6726825d.pth``.
    """

    num_features = 2048

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        self.weights = weights
        self._built: list[nn.Module] = []  # in a list, so that it is no submodule: nothing saves it

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(batch, 2048)``; NaN of an image with a pixel that is not finite, of which bytes know nothing.

        Raises:
            SettingsError: where torch-fidelity is not installed.
            ValueError: if a pixel is outside [0, 1] by more than rounding.
        """
        if not self._built:
            self._built.append(self._build())
        broken = ~images.isfinite().flatten(1).all(1)
        check_range(images[~broken])
        images = images.expand(-1, 3, -1, -1)  # grey ones; it leaves colours as they are
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        found: Tensor = self._built[0].to(images.device)(pixels)
        return found.masked_fill(broken[:, None], torch.nan)

    def _build(self) -> nn.Module:
        from torchmetrics.image.fid import NoTrainInceptionV3
        from torchmetrics.utilities.imports import _TORCH_FIDELITY_AVAILABLE

        if not _TORCH_FIDELITY_AVAILABLE:
            raise SettingsError(
                "features: Inception needs torch-fidelity: pip install graft_lightning[inception]; without it set "
                "features to a network of your own, images in [0, 1] -> (batch, num_features)"
            )
        return NoTrainInceptionV3("inception-v3-compat", ["2048"], self.weights).eval()
