"""From geometry to what a chemist would call the molecule: RDKit graph, SMILES, key.

What EDM counts as a molecule's identity is the canonical SMILES of the largest fragment of its bond graph. Hydrogens
are explicit atoms and appear as ``[H]``; no conformer is attached, hence no stereochemistry; the rule knows no aromatic
bonds, though RDKit may perceive them. RDKit fills missing valences with implicit hydrogens, so that a molecule fails
only where a valence is exceeded.

RDKit is imported by the first function that needs it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase

from graft_lightning.domains.molecules.atoms import ATOMIC_NUMBERS, SYMBOLS, Molecule, batch, padded
from graft_lightning.domains.molecules.edm_rules import PAIRS, bonds, joined_molecules, stable_atoms

if TYPE_CHECKING:
    from rdkit.Chem import Mol

UNPARSEABLE = -1
"""The key of a molecule that RDKit refuses: equal to nothing."""


class Perceived:
    """One molecule with all that its geometry implies; RDKit's part is worked out when it is first asked for.

    Args:
        types: ``(atoms,)``, indices into `atoms.SYMBOLS`.
        positions: ``(atoms, 3)``, Angstrom.
        bonds: (first atom, second atom, order) of every bond, first < second.
        stable_atoms: how many atoms are stable.
        connected: whether the bonds hold all atoms together.
    """

    def __init__(
        self,
        types: np.ndarray,
        positions: np.ndarray,
        bonds: list[tuple[int, int, int]],
        stable_atoms: int,
        connected: bool,
    ) -> None:
        self.types = types
        self.positions = positions
        self.bonds = bonds
        self.stable_atoms = stable_atoms
        self.connected = connected

    @property
    def atoms(self) -> int:
        """The number of atoms."""
        return len(self.types)

    @property
    def stable(self) -> bool:
        """Whether every atom is stable, and there is one."""
        return 0 < self.atoms == self.stable_atoms

    def count(self, symbol: str) -> int:
        """How many atoms of an element there are, bonded or not."""
        return int((self.types == SYMBOLS.index(symbol)).sum())

    @cached_property
    def mol(self) -> "Mol | None":
        """The sanitised RDKit molecule, hydrogens explicit; None if RDKit refuses it, or a position is not finite."""
        if not (self.atoms and np.isfinite(self.positions).all()):
            return None
        return sanitised(build_molecule(self.types, self.bonds))

    @cached_property
    def largest(self) -> "Mol | None":
        """The fragment of `mol` with most atoms, the first of equals."""
        if self.mol is None:
            return None
        if self.connected:
            return self.mol
        from rdkit import Chem

        return max(Chem.GetMolFrags(self.mol, asMols=True), key=lambda fragment: fragment.GetNumAtoms())

    @cached_property
    def smiles(self) -> str | None:
        """Canonical SMILES of the largest fragment, with explicit hydrogens; None if invalid."""
        if self.largest is None:
            return None
        from rdkit import Chem

        return str(Chem.MolToSmiles(self.largest))

    @property
    def valid(self) -> bool:
        """Whether RDKit accepts the bond graph."""
        return self.mol is not None

    @cached_property
    def key(self) -> int:
        """A number that two molecules share if and only if they share their SMILES (but for a hash collision)."""
        return UNPARSEABLE if self.smiles is None else smiles_key(self.smiles)


def perceive(samples: TensorDictBase | Sequence[Molecule]) -> list[Perceived]:
    """Bonds and stability of every molecule, vectorised; RDKit is not called yet.

    Molecules of like size are looked at together, so that memory is bounded by `edm_rules.PAIRS` whatever their sizes.

    Raises:
        ValueError: if a `Molecule` has an element without bond rule.
    """
    if isinstance(samples, TensorDictBase):
        counts = samples["mask"].sum(-1).tolist()
    else:
        counts = [len(molecule.symbols) for molecule in samples]
    found: dict[int, Perceived] = {}
    for chosen in _alike(counts):
        if isinstance(samples, TensorDictBase):
            piece = _cropped(samples[torch.tensor(chosen)], counts[chosen[-1]])
        else:
            piece = padded([samples[i] for i in chosen])
        found.update(zip(chosen, _perceive(piece), strict=True))
    return [found[i] for i in range(len(counts))]


def _alike(counts: Sequence[int]) -> Iterator[list[int]]:
    """Molecules in pieces, the smallest first; a piece has at most `edm_rules.PAIRS` pairs of atoms, padding included.

    A molecule with more pairs is a piece of its own.
    """
    piece: list[int] = []
    for i in sorted(range(len(counts)), key=counts.__getitem__):
        if piece and (len(piece) + 1) * counts[i] ** 2 > PAIRS:
            yield piece
            piece = []
        piece.append(i)
    if piece:
        yield piece


def _cropped(samples: TensorDictBase, width: int) -> TensorDict:
    """The batch with ``width`` atoms a row; padding, which may stand anywhere, goes to the end."""
    order = torch.sort((~samples["mask"]).int(), dim=-1, stable=True).indices[:, :width]
    positions = samples["positions"].gather(1, order[..., None].expand(-1, -1, 3))
    return batch(positions, samples["types"].gather(1, order), samples["mask"].gather(1, order))


def shared(samples: TensorDictBase) -> list[Perceived]:
    """`perceive`, with a memory of the last batch: several rewards and the keys look at the same samples.

    A batch is known by its content, so that nothing goes stale when samples change in place.
    """
    digest = hashlib.blake2b(digest_size=16)
    for field in ("positions", "types", "mask"):
        values = samples[field].detach().cpu().contiguous()
        digest.update(f"{values.dtype}{tuple(values.shape)}".encode())
        digest.update(values.view(torch.uint8).numpy().data)
    key = digest.digest()
    if key not in _remembered:
        _remembered.clear()
        _remembered[key] = perceive(samples)
    return _remembered[key]


_remembered: dict[bytes, list[Perceived]] = {}


def molecule_keys(samples: TensorDictBase) -> torch.Tensor:
    """De-duplication keys, int64 ``(batch,)``: equal for equal canonical SMILES, `UNPARSEABLE` where there is none."""
    return torch.tensor([molecule.key for molecule in shared(samples)], dtype=torch.int64)


def _perceive(samples: TensorDictBase) -> list[Perceived]:
    positions, types, mask = (samples[field].detach().cpu() for field in ("positions", "types", "mask"))
    molecule, first, second, order = bonds(positions, types, mask)
    valence = torch.zeros(mask.shape, dtype=torch.int64).index_put((molecule, first), order, accumulate=True)
    stable = stable_atoms(valence[..., None], types, mask).sum(-1).tolist()
    connected = joined_molecules(molecule, first, second, mask).tolist()
    found: list[list[tuple[int, int, int]]] = [[] for _ in range(len(mask))]
    once = first < second
    columns = (index[once].tolist() for index in (molecule, first, second, order))
    for row, i, j, number in zip(*columns, strict=True):
        found[row].append((i, j, number))
    counts = mask.sum(-1).tolist()
    return [
        Perceived(types[b, :n].numpy(), positions[b, :n].double().numpy(), sorted(found[b]), stable[b], connected[b])
        for b, n in enumerate(counts)
    ]


def build_molecule(types: np.ndarray, bonds: Sequence[tuple[int, int, int]]) -> "Mol":
    """The bond graph as an RDKit molecule with explicit hydrogens, not yet sanitised.

    Args:
        types: ``(atoms,)``, indices into `atoms.SYMBOLS`.
        bonds: (first atom, second atom, order 1 to 3).
    """
    from rdkit import Chem

    order_of = (Chem.BondType.ZERO, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
    mol = Chem.RWMol()
    for atom_type in types.tolist():
        mol.AddAtom(Chem.Atom(ATOMIC_NUMBERS[atom_type]))
    for i, j, order in bonds:
        mol.AddBond(i, j, order_of[order])
    return mol.GetMol()


def sanitised(mol: "Mol") -> "Mol | None":
    """The molecule after RDKit's sanitisation, which changes it in place; None where a valence is exceeded."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol)
        except ValueError:  # base class of RDKit's own complaints
            return None
    return mol


def smiles_key(smiles: str) -> int:
    """A non-negative int64 that depends on the text alone: the same on every machine and in every run."""
    return int.from_bytes(hashlib.blake2b(smiles.encode(), digest_size=8).digest(), "big") >> 1
