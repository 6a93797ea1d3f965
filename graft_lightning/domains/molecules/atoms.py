"""The vocabulary of atoms, and molecules as padded batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

SYMBOLS = ("H", "C", "N", "O", "F")
"""The elements of QM9; an atom's type is the index into this tuple (the order of EDM's one-hot code)."""

ATOMIC_NUMBERS = (1, 6, 7, 8, 9)
"""Of `SYMBOLS`, in the same order."""

TYPES = {symbol: index for index, symbol in enumerate(SYMBOLS)}
"""The type of an element, by its symbol."""


@dataclass(frozen=True, eq=False)
class Molecule:
    """One molecule as it stands in a file.

    Attributes:
        symbols: the elements, ``atoms`` of them; any element, not just those of `SYMBOLS`.
        positions: float64 ``(atoms, 3)``, Angstrom.
        name: identifier or comment in the file (``gdb_42`` in QM9), "" without one.
        smiles: the SMILES that the file itself states, "" without one. Never used by a metric.
        properties: what else the file states, by name, in the file's units.
        source: file and line where it starts, for messages.
    """

    symbols: tuple[str, ...]
    positions: np.ndarray
    name: str = ""
    smiles: str = ""
    properties: dict[str, float] = field(default_factory=dict)
    source: str = ""

    @property
    def foreign(self) -> set[str]:
        """Elements outside `SYMBOLS`, for which there is no bond rule."""
        return set(self.symbols) - set(SYMBOLS)


def padded(molecules: Sequence[Molecule], width: int | None = None) -> TensorDict:
    """Molecules as one padded batch (positions float32, as they are in the file, not centred).

    Args:
        molecules: with elements of `SYMBOLS` only.
        width: atoms per row; the largest molecule's by default.

    Raises:
        ValueError: if a molecule has a foreign element, or more than ``width`` atoms.
    """
    largest = max((len(molecule.symbols) for molecule in molecules), default=0)
    width = largest if width is None else width
    if largest > width:
        raise ValueError(f"a molecule has {largest} atoms, more than the width of {width}")
    positions = torch.zeros(len(molecules), width, 3)
    types = torch.zeros(len(molecules), width, dtype=torch.int64)
    mask = torch.zeros(len(molecules), width, dtype=torch.bool)
    for row, molecule in enumerate(molecules):
        if molecule.foreign:
            raise ValueError(
                f"{molecule.source or 'molecule ' + str(row)}: elements {sorted(molecule.foreign)} are not among "
                f"{', '.join(SYMBOLS)}"
            )
        n = len(molecule.symbols)
        positions[row, :n] = torch.as_tensor(molecule.positions, dtype=torch.float32)
        types[row, :n] = torch.tensor([TYPES[symbol] for symbol in molecule.symbols])
        mask[row, :n] = True
    return batch(positions, types, mask)


def batch(positions: Tensor, types: Tensor, mask: Tensor) -> TensorDict:
    """The fields of molecules as the ``TensorDict`` that this domain passes around."""
    return TensorDict({"positions": positions, "types": types, "mask": mask}, batch_size=[len(positions)])


def unpadded(samples: TensorDict) -> list[Molecule]:
    """The molecules of a padded batch, one by one (rows without any atom included)."""
    rows = zip(samples["positions"].cpu(), samples["types"].cpu(), samples["mask"].cpu(), strict=True)
    return [
        Molecule(tuple(SYMBOLS[t] for t in types[mask].tolist()), positions[mask].double().numpy())
        for positions, types, mask in rows
    ]


def centred(positions: Tensor, mask: Tensor) -> Tensor:
    """Positions with zero centre of mass per molecule (every atom weighs the same), zero where padded.

    Args:
        positions: ``(batch, atoms, 3)``.
        mask: bool ``(batch, atoms)``.
    """
    weight = mask[..., None].to(positions.dtype)
    mean = (positions * weight).sum(-2, keepdim=True) / weight.sum(-2, keepdim=True).clamp(min=1)
    return (positions - mean) * weight
