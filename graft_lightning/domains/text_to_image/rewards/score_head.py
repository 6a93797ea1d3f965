"""The head that LAION's aesthetic predictor and ImageReward share: five linear layers, nothing in between."""

from pathlib import Path

from torch import Tensor, nn

from graft_lightning.tensors import read_tensors, read_torch

_WIDTHS = (1024, 128, 64, 16, 1)
_PLACES = (0, 2, 4, 6, 7)  # of the linear layers in the published weights; dropout sits at the places between


class ScoreHead(nn.Module):
    """``features -> 1024 -> 128 -> 64 -> 16 -> 1``, without activations, so that it is one linear map in fact.

    Parameters are named as in the published files, ``layers.{0,2,4,6,7}.{weight,bias}``. Dropout, which is off outside
    of training, is left out.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                str(place): nn.Linear(before, after)
                for place, before, after in zip(_PLACES, (features, *_WIDTHS), _WIDTHS, strict=False)
            }
        )

    def forward(self, features: Tensor) -> Tensor:
        """Scores ``(batch,)`` of features ``(batch, features)``."""
        for layer in self.layers.values():
            features = layer(features)
        return features.squeeze(-1)


def read_weights(path: str, what: str) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or torch file.

    Raises:
        FileNotFoundError: if it is absent; ``what`` says where it comes from.
        DamagedFile: if it cannot be read.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"weights {path!r} are absent; {what}")
    if file.suffix == ".safetensors":
        return read_tensors(file)[0]
    return read_torch(file)
