"""Between layouts, whose boxes are shares of the page, and states of the noise process, whose boxes fill [-1, 1]."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.domains.layouts.layout import batch, centres, edges
from graft_lightning.types import State


def state_of(layouts: Mapping[str, Tensor] | TensorDict) -> State:
    """The state of layouts: boxes scaled from [0, 1] to [-1, 1], zero where padded; everything else is shared."""
    mask = layouts["mask"]
    return {"box": (2 * layouts["box"] - 1) * mask[..., None], "label": layouts["label"], "mask": mask}


def layouts_of(state: Mapping[str, Tensor], labels: int) -> TensorDict:
    """The layouts of finished states: boxes cut at the page's edges, of no size where that is negative.

    An element that an absorbing process has left without a label is none, and those after it move up.

    Args:
        state: fields ``box``, ``label``, ``mask``.
        labels: how many there are; greater labels are none.
    """
    box = (state["box"] + 1) / 2
    size = box[..., 2:].clamp_min(0)
    box = centres(edges(torch.cat([box[..., :2], size], -1)).clamp(0, 1))
    label, mask = state["label"], state["mask"] & (state["label"] < labels)
    order = (~mask).to(label.dtype).argsort(dim=1, stable=True)
    mask = mask.gather(1, order)
    box = box.gather(1, order[..., None].expand_as(box)) * mask[..., None]
    return batch(label.gather(1, order) * mask, box, mask)
