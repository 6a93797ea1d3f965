"""Metrics of molecules as EDM defines them, and two sanity checks beside them: connectivity and strain.

Pure functions over perceived molecules, and a torchmetrics class for each number. All classes but `Strain` keep the
same states, so that a `MetricCollection` updates one of them for all.

* atom stability: stable atoms / atoms, pooled over molecules
* molecule stability: stable molecules / molecules
* validity: molecules that RDKit accepts / molecules
* uniqueness: distinct SMILES / valid molecules
* valid and unique: distinct SMILES / molecules, the product of the two
* novelty: distinct SMILES that the training set lacks / distinct SMILES
* connectivity: molecules in one piece / molecules
* strain: median MMFF94 strain, kcal/mol, of the molecules that the force field can judge

A share of nothing is NaN, and so is novelty against nothing.

References:
    EDM, arXiv 2203.17003.
"""

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from graft_lightning.domains.molecules.dataset import known_keys
from graft_lightning.domains.molecules.examples import MoleculeExamples
from graft_lightning.domains.molecules.perception import UNPARSEABLE, Perceived, shared
from graft_lightning.domains.molecules.strain import strain

COUNTED = ("atoms", "stable_atoms", "molecules", "stable_molecules", "valid", "connected")


def counts(molecules: Sequence[Perceived]) -> dict[str, int]:
    """What the shares are made of, by the names in `COUNTED`."""
    return {
        "atoms": sum(molecule.atoms for molecule in molecules),
        "stable_atoms": sum(molecule.stable_atoms for molecule in molecules),
        "molecules": len(molecules),
        "stable_molecules": sum(molecule.stable for molecule in molecules),
        "valid": sum(molecule.valid for molecule in molecules),
        "connected": sum(molecule.connected for molecule in molecules),
    }


def novelty(distinct: Tensor, known: Tensor) -> Tensor:
    """The share of ``distinct`` keys that are not among the ``known`` ones; NaN if either is nothing."""
    if not len(known):
        return torch.tensor(torch.nan, dtype=torch.float64)
    return share(int((~torch.isin(distinct, known.to(distinct.device))).sum()), len(distinct))


def strains(molecules: Sequence[Perceived]) -> Tensor:
    """MMFF94 strain of every molecule, kcal/mol, float64 ``(molecules,)``, NaN where it cannot be judged."""
    return torch.tensor([strain(molecule) for molecule in molecules], dtype=torch.float64)


def share(part: Tensor | int, whole: Tensor | int) -> Tensor:
    """Part / whole as float64, NaN of nothing."""
    return torch.as_tensor(part, dtype=torch.float64) / torch.as_tensor(whole, dtype=torch.float64)


class MoleculeMetric(Metric):
    """Counts and keys of all molecules seen; subclasses make one number of them."""

    higher_is_better: bool | None = True
    is_differentiable = False
    full_state_update = False
    atoms: Tensor
    stable_atoms: Tensor
    molecules: Tensor
    stable_molecules: Tensor
    valid: Tensor
    connected: Tensor
    keys: list[Tensor]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        for name in COUNTED:
            self.add_state(name, default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("keys", default=[], dist_reduce_fx="cat")

    def update(self, samples: TensorDictBase, conditions: Sequence[str] | None = None) -> None:
        """Adds a batch of molecules; what was asked for does not matter."""
        molecules = shared(samples)
        for name, value in counts(molecules).items():
            setattr(self, name, getattr(self, name) + value)
        keys = [molecule.key for molecule in molecules if molecule.key != UNPARSEABLE]
        self.keys.append(torch.tensor(keys, dtype=torch.int64, device=self.device))

    @property
    def distinct(self) -> Tensor:
        """Keys of the valid molecules, each once, int64."""
        return dim_zero_cat(self.keys).unique() if len(self.keys) else torch.empty(0, dtype=torch.int64)


class AtomStability(MoleculeMetric):
    """Stable atoms / atoms."""

    def compute(self) -> Tensor:
        return share(self.stable_atoms, self.atoms)


class MoleculeStability(MoleculeMetric):
    """Stable molecules / molecules."""

    def compute(self) -> Tensor:
        return share(self.stable_molecules, self.molecules)


class Validity(MoleculeMetric):
    """Molecules that RDKit accepts / molecules."""

    def compute(self) -> Tensor:
        return share(self.valid, self.molecules)


class Uniqueness(MoleculeMetric):
    """Distinct SMILES / valid molecules. It falls with the number of samples: compare equal numbers."""

    def compute(self) -> Tensor:
        return share(len(self.distinct), self.valid)


class ValidUnique(MoleculeMetric):
    """Distinct SMILES / molecules: validity times uniqueness."""

    def compute(self) -> Tensor:
        return share(len(self.distinct), self.molecules)


class Novelty(MoleculeMetric):
    """Distinct SMILES that the training set lacks / distinct SMILES.

    Args:
        known: the training molecules, or their keys, int64; `dataset.known_keys` gives them.
        arguments: of torchmetrics.
    """

    def __init__(self, known: MoleculeExamples | Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.known = known

    def compute(self) -> Tensor:
        if isinstance(self.known, MoleculeExamples):
            self.known = known_keys(self.known.molecules)
        return novelty(self.distinct, self.known)


class Connectivity(MoleculeMetric):
    """Molecules in one piece / molecules, valid or not."""

    def compute(self) -> Tensor:
        return share(self.connected, self.molecules)


class Strain(Metric):
    """Median MMFF94 strain of the molecules that can be judged, kcal/mol; `judged` tells how many those are."""

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    values: list[Tensor]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, samples: TensorDictBase, conditions: Sequence[str] | None = None) -> None:
        """Adds a batch of molecules; what was asked for does not matter."""
        self.values.append(strains(shared(samples)).to(self.device))

    def compute(self) -> Tensor:
        return dim_zero_cat(self.values).nanmedian() if len(self.values) else torch.tensor(torch.nan)

    @property
    def judged(self) -> Tensor:
        """The share of molecules that the force field could judge."""
        values = dim_zero_cat(self.values) if len(self.values) else torch.empty(0)
        return share(int(values.isfinite().sum()), len(values))
