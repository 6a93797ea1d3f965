"""A plain transformer on atoms. It knows nothing of rotations: training shows it every molecule turned at random."""

import math

import torch
from torch import Tensor, nn

from graft_lightning.domains.molecules.atoms import SYMBOLS, centred
from graft_lightning.domains.molecules.embedding import Inputs


class MoleculeTransformer(nn.Module):
    """Denoises positions and types; same interface as `egnn.EGNN`.

    Attention over the atoms of a molecule, in blocks that are scaled, shifted and gated by the times (arXiv
    2212.09748). Without positions in a sequence it is equivariant to permutations; translations are taken out by
    centring; rotations are to be learnt, from `rotations.random_rotations`.

    The defaults are of the embedded size; for QM9, layers 12, width 384 and heads 6 (22 million parameters).

    Args:
        classes: of atoms, an absorbing class included where the process has one.
        layers: number of blocks.
        width: of a token; a multiple of ``heads``.
        heads: of the attention.
        frequencies: Fourier features of each coordinate, of wavelengths from 16 Angstrom down to 1/2.
    """

    def __init__(
        self, classes: int = len(SYMBOLS), layers: int = 4, width: int = 96, heads: int = 4, frequencies: int = 8
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads={heads} does not divide width={width}")
        self.inputs = Inputs(classes, width)
        wavelengths = torch.exp(torch.linspace(math.log(16), math.log(0.5), frequencies))
        self.register_buffer("wavenumbers", 2 * math.pi / wavelengths, persistent=False)
        self.positions = nn.Linear(3 + 6 * frequencies, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.layers = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.positions_out = nn.Linear(width, 3, bias=False)  # centring would take a bias out
        self.types_out = nn.Linear(width, classes)
        for layer in (self.modulation, self.positions_out, self.types_out):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    wavenumbers: Tensor

    def forward(
        self, positions: Tensor, types: Tensor, t_positions: Tensor, t_types: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predictions for positions ``(batch, atoms, 3)``, zero centre of mass, and logits ``(batch, atoms, classes)``.

        Arguments as in `egnn.EGNN.forward`; both results are zero where padded.
        """
        atoms, times = self.inputs(types, t_positions, t_types)
        present = mask[..., None].to(atoms.dtype)
        x = centred(positions, mask)
        phases = (x[..., None] * self.wavenumbers).flatten(-2)
        h = atoms + self.positions(torch.cat([x, phases.cos(), phases.sin()], -1).to(atoms.dtype))
        modulation = self.modulation(nn.functional.silu(times))
        for layer in self.layers:
            h = layer(h, modulation, mask)
        h = self.norm(h)
        return centred(self.positions_out(h), mask), self.types_out(h) * present


class Block(nn.Module):
    """Pre-norm attention and MLP, modulated by the times.

    Args:
        width: of a token.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        # Gates start at 1/2, so that all blocks take part from the first step; the outputs still start at zero.
        self.table = nn.Parameter(torch.tensor([0.0, 0.0, 0.5, 0.0, 0.0, 0.5]).repeat_interleave(width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, h: Tensor, modulation: Tensor, mask: Tensor) -> Tensor:
        """Tokens ``(batch, atoms, width)`` after the block.

        Args:
            h: tokens.
            modulation: ``(batch, 6 width)``.
            mask: bool ``(batch, atoms)``; nobody attends to padding.
        """
        scale_1, shift_1, gate_1, scale_2, shift_2, gate_2 = (modulation + self.table)[:, None].chunk(6, -1)
        h = h + gate_1 * self._attention(self.norm(h) * (1 + scale_1) + shift_1, mask)
        return h + gate_2 * self.mlp(self.norm(h) * (1 + scale_2) + shift_2)

    def _attention(self, h: Tensor, mask: Tensor) -> Tensor:
        query, key, value = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # A row without any atom attends everywhere: a softmax over nothing would be NaN.
        allowed = (mask | ~mask.any(-1, keepdim=True))[:, None, None]
        found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.out(found.transpose(1, 2).flatten(2))
