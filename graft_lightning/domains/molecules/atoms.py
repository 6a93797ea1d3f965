"""The vocabulary of atoms, and molecules as padded batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.domains.base.elements import Elements, Field

SYMBOLS = ("H", "C", "N", "O", "F")
"""The elements of QM9; an atom's type is the index into this tuple (the order of EDM's one-hot code)."""

ATOMIC_NUMBERS = (1, 6, 7, 8, 9)
"""Of `SYMBOLS`, in the same order."""

TYPES = {symbol: index for index, symbol in enumerate(SYMBOLS)}
"""The type of an element, by its symbol."""

ATOMS = Elements(
    {"positions": Field("float32", (3,)), "types": Field("int64", stored="uint8")}, sample="molecule", plural="atoms"
)
"""What a molecule consists of."""


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
    for row, molecule in enumerate(molecules):
        if molecule.foreign:
            raise ValueError(
                f"{molecule.source or 'molecule ' + str(row)}: elements {sorted(molecule.foreign)} are not among "
                f"{', '.join(SYMBOLS)}"
            )
    found = [arrays(molecule.positions, molecule.symbols) for molecule in molecules]
    return batch(**ATOMS.padded(found, width))


def arrays(positions: np.ndarray, symbols: Sequence[str]) -> dict[str, np.ndarray]:
    """One molecule's fields, as `ATOMS` names them."""
    return {"positions": positions, "types": np.array([TYPES[symbol] for symbol in symbols], dtype=np.int64)}


def batch(positions: Tensor, types: Tensor, mask: Tensor) -> TensorDict:
    """The fields of molecules as the ``TensorDict`` that this domain passes around."""
    return TensorDict({"positions": positions, "types": types, "mask": mask}, batch_size=[len(positions)])


def unpadded(samples: TensorDict) -> list[Molecule]:
    """The molecules of a padded batch, one by one (rows without any atom included)."""
    return [
        Molecule(tuple(SYMBOLS[t] for t in fields["types"].tolist()), fields["positions"].double().numpy())
        for fields in ATOMS.unpadded(samples)
    ]
