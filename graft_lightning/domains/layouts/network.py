"""A transformer on the elements of a layout, which have no order."""

import torch
from torch import Tensor, nn

from graft_lightning.domains.base.times import TimedTypes, fourier
from graft_lightning.domains.base.transformer import Block
from graft_lightning.domains.layouts.layout import edges

COUNT_SCALE = 32.0
"""Elements per unit of the waves by which the number of elements is told."""

COUNT_WAVES = 8
"""Waves by which the number of elements is told."""


class LayoutTransformer(nn.Module):
    """Denoises boxes and labels, given what is known of them and the number of elements.

    Attention over the elements of a layout, in blocks that the times and the number of elements modulate. It adds no
    positions in a sequence, so that it is equivariant to permutations. Of each box it sees centre, size and edges, each
    also as waves down to 1/64 of the page: what is aligned with what is read off them by products.

    The defaults are of the embedded size. That of LayoutDM and LayoutFlow: layers 4, width 512, heads 8 (14 million
    parameters).

    Args:
        classes: of elements, an absorbing class included where the process has one.
        layers: number of blocks.
        width: of a token; a multiple of ``heads``.
        heads: of the attention.
        frequencies: of the waves of each coordinate.
    """

    def __init__(self, classes: int, layers: int = 4, width: int = 88, heads: int = 4, frequencies: int = 8) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.inputs = TimedTypes(classes, width)
        self.boxes = nn.Linear(8 * (1 + 2 * frequencies), width)
        self.flags = nn.Linear(5, width, bias=False)
        self.count = nn.Linear(2 * COUNT_WAVES, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.layers = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.boxes_out = nn.Linear(width, 4)
        self.labels_out = nn.Linear(width, classes)
        for layer in (self.modulation, self.boxes_out, self.labels_out):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self, box: Tensor, label: Tensor, t_box: Tensor, t_label: Tensor, mask: Tensor, flags: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predictions for boxes ``(batch, elements, 4)`` and logits ``(batch, elements, classes)``, zero where padded.

        Args:
            box: centre and size, noisy but for what is known, in [-1, 1]; ``(batch, elements, 4)``.
            label: int64 ``(batch, elements)``.
            t_box: noise of the boxes in [0, 1], ``(batch,)``.
            t_label: noise of the labels in [0, 1], ``(batch,)``.
            mask: bool ``(batch, elements)``.
            flags: which values are known, the label's first, ``(batch, elements, 5)``.
        """
        elements, times = self.inputs(label, t_box, t_label)
        present = mask[..., None].to(elements.dtype)
        page = (box + 1) / 2
        coordinates = torch.cat([page, edges(page)], -1)
        waves = fourier(coordinates, self.frequencies, longest=2.0, shortest=1 / 64).flatten(-2)
        seen = torch.cat([2 * coordinates - 1, waves.to(box.dtype)], -1).to(elements.dtype)
        h = elements + self.boxes(seen) + self.flags(flags.to(elements.dtype))
        counts = fourier(mask.sum(1) / COUNT_SCALE, COUNT_WAVES, longest=4.0, shortest=1 / 8)
        modulation = self.modulation(nn.functional.silu(times + self.count(counts.to(elements.dtype))))
        for layer in self.layers:
            h = layer(h, modulation, mask)
        h = self.norm(h)
        return self.boxes_out(h) * present, self.labels_out(h) * present
