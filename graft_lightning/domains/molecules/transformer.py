"""A plain transformer on atoms. It knows nothing of rotations: training shows it every molecule turned at random."""

import math

import torch
from torch import Tensor, nn

from graft_lightning.domains.base.masks import centred
from graft_lightning.domains.base.times import TimedTypes
from graft_lightning.domains.base.transformer import Block
from graft_lightning.domains.molecules.atoms import SYMBOLS


class MoleculeTransformer(nn.Module):
    """Denoises positions and types; same interface as `egnn.EGNN`.

    Attention over the atoms of a molecule, in blocks that the times modulate. Without positions in a sequence it is
    equivariant to permutations; translations are taken out by centring; rotations are to be learnt, from
    `rotations.random_rotations`.

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
        self.inputs = TimedTypes(classes, width)
        wavelengths = torch.exp(torch.linspace(math.log(16), math.log(0.5), frequencies))
        self.register_buffer("wavenumbers", 2 * math.pi / wavelengths, persistent=False)
        self.positions = nn.Linear(3 + 6 * frequencies, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.layers = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(layers))
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
