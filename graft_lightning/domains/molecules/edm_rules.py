"""Bonds, stability and connectivity from geometry alone, by the rules of EDM.

A bond's order follows from the two elements and their distance: with table lengths and margins in picometres and a
distance d, the order is 0 unless d < single + 10, then 1 unless d < double + 5, then 2 unless d < triple + 3, then 3.
Every comparison is strict; a pair without an entry has no bond of that order. An atom is stable if its orders add up to
exactly its valence, a molecule if all its atoms are. There are no charges and no aromatic bonds, and a stable molecule
need not be connected.

Everything here is vectorised over padded batches and needs torch only.

References:
    Equivariant Diffusion for Molecule Generation in 3D (EDM), arXiv 2203.17003, appendix on stability.
"""

import torch
from torch import Tensor

from graft_lightning.domains.molecules.atoms import SYMBOLS, TYPES

SINGLE = {
    "HH": 74, "HC": 109, "HN": 101, "HO": 96, "HF": 92, "CC": 154, "CN": 147, "CO": 143, "CF": 135, "NN": 145,
    "NO": 140, "NF": 136, "OO": 148, "OF": 142, "FF": 142,
}  # fmt: skip
"""Lengths of single bonds in pm."""

DOUBLE = {"CC": 134, "CN": 129, "CO": 120, "NN": 125, "NO": 121, "OO": 121}
"""Lengths of double bonds in pm."""

TRIPLE = {"CC": 120, "CN": 116, "CO": 113, "NN": 110}
"""Lengths of triple bonds in pm."""

MARGINS = (10, 5, 3)
"""Added to the length of single, double, triple bonds, in pm."""

VALENCE = (1, 4, 3, 2, 1)
"""The sum of bond orders that makes an atom stable, by type."""


def _cutoffs() -> Tensor:
    """Distances in pm below which a pair of types has at least one, two, three bonds, ``(3, types, types)``."""
    cutoffs = torch.zeros(3, len(SYMBOLS), len(SYMBOLS), dtype=torch.float32)
    for order, (lengths, margin) in enumerate(zip((SINGLE, DOUBLE, TRIPLE), MARGINS, strict=True)):
        for pair, length in lengths.items():
            i, j = TYPES[pair[0]], TYPES[pair[1]]
            cutoffs[order, i, j] = cutoffs[order, j, i] = length + margin
    return cutoffs


CUTOFFS = _cutoffs()
"""``(3, types, types)``, pm; zero, which no distance is below, where there is no such bond. They are nested: a distance
below the cut-off for one order is below those for all smaller orders."""


PAIRS = 1 << 20
"""Pairs of atoms that are looked at together; each takes about 60 bytes while it is."""


def bonds(positions: Tensor, types: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Molecule, first atom, second atom and order of every bond, each int64 ``(bonds,)``, either way round.

    Arguments as of `bond_orders`. Memory beyond the bonds themselves is that of `PAIRS` pairs, or of one row of each
    molecule if that is more.
    """
    batch, atoms = mask.shape
    rows = max(1, PAIRS // max(1, batch * atoms))
    found = []
    for start in range(0, atoms, rows):
        block = slice(start, start + rows)
        # The difference itself and not torch.cdist: that takes the way over a matrix product for more than 25 atoms,
        # and loses the digits which decide close calls.
        distance = (positions[:, block, None] - positions[:, None]).square().sum(-1).sqrt() * 100
        pair = mask[:, block, None] & mask[:, None]
        pair.diagonal(start, 1, 2).fill_(False)  # of the block: an atom and itself
        orders = torch.zeros_like(distance, dtype=torch.int64)
        for cutoffs in CUTOFFS.to(distance):
            orders += (distance < cutoffs[types[:, block, None], types[:, None]]) & pair
        molecule, first, second = torch.nonzero(orders, as_tuple=True)
        found.append((molecule, first + start, second, orders[molecule, first, second]))
    if not found:
        nothing = torch.zeros(0, dtype=torch.int64, device=mask.device)
        return nothing, nothing, nothing, nothing
    molecule, first, second, order = (torch.cat(parts) for parts in zip(*found, strict=True))
    return molecule, first, second, order


def bond_orders(positions: Tensor, types: Tensor, mask: Tensor) -> Tensor:
    """The order of every bond, int64 ``(batch, atoms, atoms)``: symmetric, 0 on the diagonal and where padded.

    Args:
        positions: ``(batch, atoms, 3)``, Angstrom, in the precision in which distances are to be compared (EDM:
            float32). An atom whose position is not finite has no bonds.
        types: int64 ``(batch, atoms)``.
        mask: bool ``(batch, atoms)``.
    """
    molecule, first, second, order = bonds(positions, types, mask)
    orders = torch.zeros(*mask.shape, mask.shape[1], dtype=torch.int64, device=mask.device)
    orders[molecule, first, second] = order
    return orders


def stable_atoms(orders: Tensor, types: Tensor, mask: Tensor) -> Tensor:
    """Atoms whose bond orders add up to their valence, bool ``(batch, atoms)``, False where padded.

    Args:
        orders: as `bond_orders` returns them, ``(batch, atoms, atoms)``.
        types: int64 ``(batch, atoms)``.
        mask: bool ``(batch, atoms)``.
    """
    valence = torch.tensor(VALENCE, device=types.device)[types]
    return (orders.sum(-1) == valence) & mask


def stable_molecules(stable: Tensor, mask: Tensor) -> Tensor:
    """Molecules all of whose atoms are stable, bool ``(batch,)``; False for one without atoms.

    Args:
        stable: as `stable_atoms` returns them, ``(batch, atoms)``.
        mask: bool ``(batch, atoms)``.
    """
    return (stable | ~mask).all(-1) & mask.any(-1)


def connected_molecules(orders: Tensor, mask: Tensor) -> Tensor:
    """Molecules of a single fragment, bool ``(batch,)``; False for one without atoms.

    Args:
        orders: as `bond_orders` returns them, ``(batch, atoms, atoms)``.
        mask: bool ``(batch, atoms)``.
    """
    molecule, first, second = torch.nonzero(orders, as_tuple=True)
    return joined_molecules(molecule, first, second, mask)


def joined_molecules(molecule: Tensor, first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    """`connected_molecules` from a list of bonds, either way round, as `bonds` returns it."""
    batch, atoms = mask.shape
    start, end = molecule * atoms + first, molecule * atoms + second
    # Every atom takes the least name among its neighbours' and its own, tells it to the atom whose name it had, and
    # takes the name of the atom so named: names spread over ever larger steps, not from bond to bond.
    name = torch.arange(batch * atoms, device=mask.device)
    while True:
        least = torch.minimum(name[start], name[end])
        new = name.scatter_reduce(0, name[end], least, "amin").scatter_reduce(0, end, least, "amin")
        new = new[new]
        if torch.equal(new, name):
            break
        name = new
    name = name.view(batch, atoms)
    least = name.masked_fill(~mask, batch * atoms).amin(-1, keepdim=True)
    return ((name == least) | ~mask).all(-1) & mask.any(-1)
