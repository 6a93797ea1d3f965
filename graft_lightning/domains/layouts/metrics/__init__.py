"""Metrics of layouts, as their papers define them, under the papers' names.

* `geometry`, `means`: alignment, overlap, mean IoU of a layout, and their means in each paper's scale;
* `matching`, `distributions`, `sets`: MaxIoU, DocSim, distances of labels, boxes and counts, uniqueness, repetitions;
* `layoutnet`, `layoutnet_training`, `fid`: layout FID and the network that it is measured in;
* `diversity`.
"""

from graft_lightning.domains.layouts.metrics.diversity import LayoutDiversity
from graft_lightning.domains.layouts.metrics.fid import LayoutFID
from graft_lightning.domains.layouts.metrics.means import Alignment, MeanIoU, Overlap
from graft_lightning.domains.layouts.metrics.sets import (
    BoxDistance,
    ClassDistance,
    CountDistance,
    DocSim,
    Elements,
    LabelCountDistance,
    MaxIoU,
    Repeated,
    Uniqueness,
)

__all__ = [
    "Alignment",
    "BoxDistance",
    "ClassDistance",
    "CountDistance",
    "DocSim",
    "Elements",
    "LabelCountDistance",
    "LayoutDiversity",
    "LayoutFID",
    "MaxIoU",
    "MeanIoU",
    "Overlap",
    "Repeated",
    "Uniqueness",
]
