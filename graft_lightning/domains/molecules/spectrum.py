"""Numbers in which molecules can be compared, whatever the order of their atoms and however they are turned."""

import torch
from torch import Tensor

from graft_lightning.domains.molecules.atoms import SYMBOLS
from graft_lightning.domains.molecules.periodic_table import ELEMENTS


def coulomb_spectrum(positions: Tensor, types: Tensor, mask: Tensor) -> Tensor:
    """Eigenvalues of the Coulomb matrix (arXiv 1109.2618), by size, float64 ``(batch, atoms)``; 0 for padding.

    Element i, i is Z^2.4 / 2, element i, j the product of the two atomic numbers over their distance in Angstrom.

    Args:
        positions: Angstrom, ``(batch, atoms, 3)``; what is not finite gives NaN.
        types: ``(batch, atoms)``, as in `atoms.SYMBOLS`.
        mask: bool ``(batch, atoms)``.
    """
    table = [ELEMENTS.index(symbol) + 1 for symbol in SYMBOLS]
    charges = torch.tensor(table, dtype=torch.float64, device=types.device)[types] * mask
    x = positions.double()
    broken = ~(x.isfinite().all(-1) | ~mask).all(-1)
    x = x.nan_to_num().masked_fill(~mask[..., None], 0.0)
    distance = torch.cdist(x, x)
    # atoms on top of each other are as bad as it gets, but no reason for an infinite number
    off = charges[:, :, None] * charges[:, None] / distance.clamp_min(0.1)
    matrix = off - torch.diag_embed(off.diagonal(dim1=1, dim2=2)) + torch.diag_embed(0.5 * charges**2.4)
    values = torch.linalg.eigvalsh(matrix)
    order = values.abs().argsort(dim=1, descending=True)
    return values.gather(1, order).masked_fill(broken[:, None], torch.nan)
