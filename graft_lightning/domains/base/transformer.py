"""The transformer block that networks of several domains are made of."""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm attention and MLP, each scaled, shifted and gated by the condition (DiT, arXiv 2212.09748).

    The condition is projected once for all blocks, and every block adds a table of its own (PixArt, arXiv 2310.00426).
    It adds no positions to the tokens: permuted tokens give permuted results.

    Args:
        width: of a token; a multiple of ``heads``.
        heads: of the attention.
        hidden: units of the MLP.

    Raises:
        ValueError: if the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads={heads} does not divide width={width}")
        self.heads = heads
        # Gates start at 1/2, so that all blocks take part from the first step, while outputs still start at zero.
        self.table = nn.Parameter(torch.tensor([0.0, 0.0, 0.5, 0.0, 0.0, 0.5]).repeat_interleave(width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self._build_mlp(width, hidden)

    def _build_mlp(self, width: int, hidden: int) -> None:
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU("tanh"), nn.Linear(hidden, width))

    def _mlp(self, h: Tensor) -> Tensor:
        return self.mlp(h)

    def forward(self, h: Tensor, modulation: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens ``(batch, tokens, width)`` after the block.

        Args:
            h: tokens.
            modulation: ``(batch, 6 width)``.
            mask: bool ``(batch, tokens)``; nobody attends to padding. None where there is none.
        """
        scale_1, shift_1, gate_1, scale_2, shift_2, gate_2 = (modulation + self.table)[:, None].chunk(6, -1)
        h = h + gate_1 * self._attention(self.norm(h) * (1 + scale_1) + shift_1, mask)
        return h + gate_2 * self._mlp(self.norm(h) * (1 + scale_2) + shift_2)

    def _attention(self, h: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # A row without any element attends everywhere: a softmax over nothing would be NaN.
        allowed = None if mask is None else (mask | ~mask.any(-1, keepdim=True))[:, None, None]
        found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.out(found.transpose(1, 2).flatten(2))
