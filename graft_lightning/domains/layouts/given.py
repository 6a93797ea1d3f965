"""What a condition fixes of a layout: how it is put into a network, and how it decides the network's answer.

Every task is the same model on the same process. What is known enters the network as it is, with a flag that says so,
in place of the noisy value; and the answer for it is the one that leads a sampler there, whatever the network thinks.
So no task has a sampler, an objective or a pool of its own, and what is known earns no gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.domains.layouts.partial import Known

CERTAIN = 30.0
"""The logit of a label that is known, above all others: finite, since a loss takes its logarithm."""

FREE, FIXED, ROUGH = 0, 1, 2
"""What is known of a coordinate."""


def encoded(counts: Sequence[int], known: Sequence[Sequence[Known]], width: int) -> TensorDict:
    """Conditions as tensors.

    Args:
        counts: elements that each asks for.
        known: of the first elements of each.
        width: elements per row.

    Returns:
        ``count`` int64 ``(batch,)``; ``label`` int64 ``(batch, width)``, -1 where free; ``box`` float32
        ``(batch, width, 4)`` in [-1, 1], 0 where free; ``known`` uint8 like ``box``: `FREE`, `FIXED` or `ROUGH`.
    """
    label = torch.full((len(counts), width), -1)
    box = torch.full((len(counts), width, 4), torch.nan)
    kinds = torch.zeros(len(counts), width, 4, dtype=torch.uint8)
    for row, elements in enumerate(known):
        if not elements:
            continue
        label[row, : len(elements)] = torch.tensor([-1 if one.label is None else one.label for one in elements])
        box[row, : len(elements)] = torch.tensor([one.box for one in elements])
        rough = torch.tensor([one.rough for one in elements])
        kinds[row, : len(elements)] = torch.where(rough, ROUGH, FIXED).to(torch.uint8)
    free = box.isnan()
    fields = {
        "count": torch.tensor(list(counts), dtype=torch.int64),
        "label": label,
        "box": (2 * box - 1).masked_fill(free, 0),
        "known": kinds.masked_fill(free, FREE),
    }
    return TensorDict(fields, batch_size=[len(counts)])


@dataclass(frozen=True)
class Given:
    """What is known at the noise of one call of a network.

    Attributes:
        label: int64 ``(batch, elements)``; -1 where free.
        box: in [-1, 1], ``(batch, elements, 4)``.
        fixed: which coordinates of boxes are known, bool, like ``box``.
    """

    label: Tensor
    box: Tensor
    fixed: Tensor

    @classmethod
    def at(cls, condition: TensorDict, alpha: Tensor, sigma: Tensor, roughness: float, width: int) -> "Given":
        """What holds where boxes have the signal ``alpha`` and the noise ``sigma``, ``(batch,)`` each.

        Args:
            condition: what `encoded` made.
            alpha: of the boxes.
            sigma: of the boxes.
            roughness: what is known roughly holds while sigma / alpha lies above this; then it is free.
            width: elements per row of the state: of training, as many as the largest layout of its set has.
        """
        early = (sigma > roughness * alpha)[:, None, None]
        more = width - condition["label"].shape[1]  # negative: what is cut is padding
        label = torch.nn.functional.pad(condition["label"], (0, more), value=-1)
        box, kind = (torch.nn.functional.pad(condition[name], (0, 0, 0, more)) for name in ("box", "known"))
        return cls(label, box, (kind == FIXED) | ((kind == ROUGH) & early))

    @property
    def flags(self) -> Tensor:
        """Which values are known, the label first: float32 ``(batch, elements, 5)``."""
        return torch.cat([(self.label >= 0)[..., None], self.fixed], -1).float()

    def into(self, box: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and labels with what is known in its place."""
        return torch.where(self.fixed, self.box.to(box.dtype), box), torch.where(self.label >= 0, self.label, label)

    def velocities(self, raw: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The v-prediction of boxes; where one is known, that of which x_0 is what is known.

        Args:
            raw: the network's, ``(batch, elements, 4)``.
            x_t: boxes at their level, noisy also where they are known.
            alpha: their signal, ``(batch,)``.
            sigma: their noise, ``(batch,)``.
        """
        a, b = (value[:, None, None].to(x_t.dtype) for value in (alpha, sigma))
        exact = (a * x_t - (a**2 + b**2) * self.box.to(x_t.dtype)) / b.clamp_min(torch.finfo(x_t.dtype).tiny)
        return torch.where(self.fixed & (b > 0), exact.to(raw.dtype), raw)

    def logits(self, raw: Tensor) -> Tensor:
        """The logits of labels ``(batch, elements, classes)``; where one is known, those of certainty."""
        known = (self.label >= 0)[..., None]
        certain = CERTAIN * torch.nn.functional.one_hot(self.label.clamp_min(0), raw.shape[-1]).to(raw.dtype)
        return torch.where(known, certain, raw)
