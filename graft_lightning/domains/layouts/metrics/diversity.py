"""How different the layouts of a condition are from each other."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from graft_lightning.domains.base import Diversity
from graft_lightning.domains.layouts.coverage import coverage
from graft_lightning.domains.layouts.vocabularies import vocabulary
from graft_lightning.rejection.codec import Codec


class CoverageCodec(Codec):
    """Compares layouts by what the elements of each label cover.

    Args:
        labels: of the vocabulary.
    """

    def __init__(self, labels: int) -> None:
        self.labels = labels

    def numbers(self, samples: Mapping[str, Tensor]) -> Tensor:
        return coverage(samples, self.labels)


class LayoutDiversity(Diversity):
    """Mean distance of two layouts of a condition, in what the elements of each label cover (`coverage`).

    Args:
        vocabulary: what the labels mean.
        arguments: of torchmetrics.
    """

    def __init__(self, vocabulary: str = "publaynet", **arguments: Any) -> None:
        super().__init__(CoverageCodec(_size(vocabulary)), **arguments)


def _size(name: str) -> int:
    return len(vocabulary(name))
