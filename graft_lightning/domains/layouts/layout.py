"""What a layout is in memory, and the ways between single layouts, padded batches, and edges in place of centres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.domains.base.elements import MASK, Elements, Field

LAYOUTS = Elements(
    {"box": Field("float32", (4,)), "label": Field("int64", stored="uint8")}, sample="layout", plural="elements"
)
"""What a layout consists of."""


@dataclass(frozen=True, eq=False)
class Layout:
    """One layout as it stands in a file.

    Attributes:
        labels: int64 ``(elements,)``, indices into the names of a vocabulary.
        boxes: float64 ``(elements, 4)``: centre x, centre y, width, height, as shares of the page's sides.
        name: of the page or screen in the file, "" without one.
        source: file and place where it starts, for messages.
        filtered: whether an element was left out of it.
    """

    labels: np.ndarray
    boxes: np.ndarray
    name: str = ""
    source: str = ""
    filtered: bool = False

    def __len__(self) -> int:
        return len(self.labels)


def arrays(layout: Layout) -> dict[str, np.ndarray]:
    """One layout's fields, as `LAYOUTS` names them."""
    return {"box": layout.boxes, "label": layout.labels}


def batch(label: Tensor, box: Tensor, mask: Tensor) -> TensorDict:
    """The fields of layouts as the ``TensorDict`` that this domain passes around."""
    return TensorDict({"label": label, "box": box, MASK: mask}, batch_size=[len(label)])


def padded(layouts: Sequence[Layout], width: int | None = None) -> TensorDict:
    """Layouts as one padded batch.

    Args:
        layouts: any number of elements each.
        width: elements per row; the largest layout's by default.

    Raises:
        ValueError: if a layout has more than ``width`` elements.
    """
    return batch(**LAYOUTS.padded([arrays(layout) for layout in layouts], width))


def unpadded(samples: Mapping[str, Tensor] | TensorDict) -> list[Layout]:
    """The layouts of a padded batch, one by one (rows without any element included)."""
    return [
        Layout(fields["label"].numpy(), fields["box"].double().numpy())
        for fields in LAYOUTS.unpadded({name: samples[name] for name in ("label", "box", MASK)})
    ]


def edges(box: Tensor) -> Tensor:
    """Left, top, right, bottom of boxes ``(..., 4)`` that are given by centre and size."""
    centre, half = box[..., :2], box[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def centres(ltrb: Tensor) -> Tensor:
    """Centre and size of boxes ``(..., 4)`` that are given by left, top, right, bottom."""
    low, high = ltrb[..., :2], ltrb[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)
