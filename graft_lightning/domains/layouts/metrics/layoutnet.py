"""The network whose features layout FID is measured in: the architecture that LayoutGAN++ published, and its followers.

An encoder with a learned class token sees labels and boxes; the token's output, 256 numbers, are the features. It is
trained to tell layouts from noised ones, and a decoder has to rebuild labels and boxes from the features alone.

The parameters have the published names, so that published weights fit. Papers trained one network each, on their own
data: a FID compares with others in the same network only.

References:
    LayoutGAN++, arXiv 2108.00871.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.domains.layouts.layout import edges
from graft_lightning.refusals import DamagedFile
from graft_lightning.tensors import load_into, read_torch, refuse_not_finite
from graft_lightning.types import SettingsError

WIDTH = 256
HEADS = 4
LAYERS = 4

PACKED = 6
"""Numbers of an element of a packed batch: label, box, and 1 where there is one."""


class LayoutNet(nn.Module):
    """Encoder, decoder, and the head that tells noised layouts.

    Args:
        labels: of the vocabulary.
        max_elements: that the decoder can rebuild.
        first_label: the index that the first label has in the embedding: 0 in LayoutGAN++, 1 where 0 means padding.
        corners: whether boxes are seen as left, top, right, bottom, and not as centre and size.
    """

    num_features = WIDTH

    def __init__(self, labels: int, max_elements: int, first_label: int = 0, corners: bool = False) -> None:
        super().__init__()
        if labels < 1 or max_elements < 1:
            raise SettingsError(f"labels={labels}, max_elements={max_elements}; both must be at least 1")
        self.labels, self.max_elements = labels, max_elements
        self.first_label, self.corners = first_label, corners
        self.emb_label = nn.Embedding(labels + first_label, WIDTH)
        self.fc_bbox = nn.Linear(4, WIDTH)
        self.enc_fc_in = nn.Linear(2 * WIDTH, WIDTH)
        self.enc_transformer = _WithToken()
        self.fc_out_disc = nn.Linear(WIDTH, 1)
        self.pos_token = nn.Parameter(torch.rand(max_elements, 1, WIDTH))
        self.dec_fc_in = nn.Linear(2 * WIDTH, WIDTH)
        self.dec_transformer = _transformer()
        self.fc_out_cls = nn.Linear(WIDTH, labels + first_label)
        self.fc_out_bbox = nn.Linear(WIDTH, 4)

    def seen(self, box: Tensor) -> Tensor:
        """Boxes as the network sees them."""
        return edges(box) if self.corners else box

    def encode(self, label: Tensor, box: Tensor, mask: Tensor) -> Tensor:
        """Features ``(batch, 256)``.

        Args:
            label: int64 ``(batch, elements)``.
            box: as `seen` gives them, ``(batch, elements, 4)``.
            mask: bool ``(batch, elements)``.
        """
        x = torch.cat([self.fc_bbox(box), self.emb_label(label + self.first_label)], -1)
        return self.enc_transformer(torch.relu(self.enc_fc_in(x)), mask)

    def decode(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of labels ``(elements, labels)`` and boxes ``(elements, 4)``, of all elements of the batch together.

        The order of the elements is what the positions mean: that in which they were given.
        """
        places = self.pos_token[: mask.shape[1], 0].expand(len(mask), -1, -1)
        x = torch.cat([features[:, None].expand_as(places), places], -1)
        x = self.dec_transformer(torch.relu(self.dec_fc_in(x)), src_key_padding_mask=~mask)[mask]
        return self.fc_out_cls(x), self.fc_out_bbox(x).sigmoid()

    def forward(self, packed: Tensor) -> Tensor:
        """Features of a packed batch ``(batch, elements, 6)``, float32 ``(batch, 256)``."""
        mask = packed[..., 5] > 0.5
        label = packed[..., 0].round().long().clamp(0, self.labels - 1)
        return self.encode(label, self.seen(packed[..., 1:5]), mask)


class _WithToken(nn.Module):
    """A transformer encoder with a class token before its elements; gives the token's output."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.core = _transformer()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        absent = torch.cat([mask.new_zeros(len(x), 1), ~mask], 1)
        return self.core(x, src_key_padding_mask=absent)[:, 0]


def _transformer() -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, WIDTH // 2, batch_first=True)
    return nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)


def packed(samples: Any) -> Tensor:
    """A batch of layouts as one float32 tensor ``(batch, elements, 6)``: label, box, mask; zeros where padded."""
    mask = samples["mask"].float()
    whole = torch.cat([samples["label"].float()[..., None], samples["box"].float(), mask[..., None]], -1)
    return whole.masked_fill(mask[..., None] == 0, 0.0)


def read_published(path: str, corners: bool, labels: int) -> LayoutNet:
    """A network with published weights, a checkpoint of torch whose parameters may begin with ``module.``.

    Args:
        path: of the file; nothing but tensors is read from it.
        corners: as in `LayoutNet`: false for LayoutGAN++ and LayoutDM, true for LayoutDiffusion and LayoutFlow.
        labels: of the vocabulary.

    Raises:
        DamagedFile: if they cannot be read.
        SettingsError: if they are not of this architecture, or of another number of labels.
    """
    try:
        state: dict[str, Any] = read_torch(Path(path).expanduser())
    except DamagedFile as error:
        raise DamagedFile(f"weights={path} are no checkpoint of tensors: {error}") from None
    state = {name.removeprefix("module."): value for name, value in state.get("state_dict", state).items()}
    try:
        known, places = len(state["emb_label.weight"]), len(state["pos_token"])
    except KeyError as error:
        raise SettingsError(f"weights={path} are not of LayoutNet: {error} is absent") from None
    if known not in (labels, labels + 1):
        raise SettingsError(f"weights={path} are of {known} labels; the vocabulary has {labels}")
    network = LayoutNet(labels, places, known - labels, corners)
    state = {name: value for name, value in state.items() if name != "enc_transformer.token_mask"}
    refuse_not_finite({name for name, _ in network.named_parameters()}, state, f"weights={path}")
    load_into(network, state, f"weights={path} are not of LayoutNet: what they hold")
    return network
