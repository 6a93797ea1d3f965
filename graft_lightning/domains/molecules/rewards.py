"""Rewards of molecules. All see a molecule as its geometry implies it: EDM's bonds, RDKit's graph, MMFF94's strain.

What cannot be scored (RDKit refuses it, the force field has no parameters) gets the least reward, 0: a model must not
gain by leaving the range in which it can be scored. Sums of rewards are `rejection.rewards.WeightedSum`, orders of
precedence `rejection.rewards.Lexicographic`; rewards that look at the same batch share the work of perceiving it.

All score on the CPU. Seconds per 1,000 molecules of 12 atoms on one core: stability .1, validity .2, logP and
accessibility .4, strain .6, drug-likeness 1.5; `rejection.rewards.ParallelReward` spreads them over processes.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from math import exp, isnan
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from graft_lightning.domains.molecules.atoms import SYMBOLS
from graft_lightning.domains.molecules.perception import Perceived, shared
from graft_lightning.domains.molecules.strain import strain
from graft_lightning.ranges import Natural
from graft_lightning.rejection.reward import Reward


class MoleculeReward(Reward):
    """A reward of one molecule at a time."""

    @abstractmethod
    def score(self, molecule: Perceived) -> float:
        """The reward of one molecule."""

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        return torch.tensor([self.score(molecule) for molecule in shared(samples)], dtype=torch.float32)


class Stable(MoleculeReward):
    """1 if every atom has exactly its valence by EDM's rule, else 0. Fragments are allowed, as EDM allows them.

    Args:
        connected: whether the molecule must also be in one piece.
    """

    def __init__(self, connected: bool = False) -> None:
        self.connected = connected

    def score(self, molecule: Perceived) -> float:
        return float(molecule.stable and (molecule.connected or not self.connected))


class StableAtoms(MoleculeReward):
    """The share of atoms that are stable by EDM's rule."""

    def score(self, molecule: Perceived) -> float:
        return molecule.stable_atoms / max(molecule.atoms, 1)


class Valid(MoleculeReward):
    """1 if RDKit accepts the bond graph, else 0. Valences that are not filled pass; `Stable` is the stricter."""

    def score(self, molecule: Perceived) -> float:
        return float(molecule.valid)


class DrugLikeness(MoleculeReward):
    """QED (Bickerton et al., Nat. Chem. 4, 90, 2012) of the largest fragment, in [0, 1]; 0 if invalid."""

    def score(self, molecule: Perceived) -> float:
        if molecule.largest is None:
            return 0.0
        from rdkit.Chem import QED

        return float(QED.qed(without_hydrogens(molecule)))


class LogPWindow(MoleculeReward):
    """1 where Crippen's logP of the largest fragment lies in [low, high], falling linearly to 0 outside; 0 if invalid.

    Args:
        low: lower end of the window.
        high: upper end.
        margin: distance from the window at which the reward reaches 0, in units of logP.
    """

    def __init__(self, low: float, high: float, margin: float = 1.0) -> None:
        if not low <= high:
            raise ValueError(f"low={low} must not lie above high={high}")
        if margin <= 0:
            raise ValueError(f"margin={margin}; it must be positive")
        self.low, self.high, self.margin = low, high, margin

    def score(self, molecule: Perceived) -> float:
        if molecule.largest is None:
            return 0.0
        from rdkit.Chem import Crippen

        value = Crippen.MolLogP(without_hydrogens(molecule))  # type: ignore[attr-defined]  # absent from RDKit's stub
        outside = max(self.low - value, value - self.high, 0.0)
        return max(0.0, 1 - outside / self.margin)


class SyntheticAccessibility(MoleculeReward):
    """How easily the largest fragment is made: (10 - SA score) / 9, in [0, 1], 1 the easiest; 0 if invalid.

    The score (Ertl and Schuffenhauer, J. Cheminform. 1, 8, 2009) is RDKit's own, from the contributions of its wheel.
    """

    def score(self, molecule: Perceived) -> float:
        if molecule.largest is None:
            return 0.0
        score = _sa_scorer().calculateScore(without_hydrogens(molecule))
        return min(1.0, max(0.0, (10 - score) / 9))


class Heteroatoms(MoleculeReward):
    """1 if a molecule has at least so many atoms other than hydrogen and carbon, else 0.

    Args:
        at_least: the number.
        stable: whether the molecule must be stable as well; otherwise atoms count whether or not they make sense.
    """

    def __init__(self, at_least: Natural = 3, stable: bool = False) -> None:
        self.at_least, self.stable = at_least, stable

    def score(self, molecule: Perceived) -> float:
        count = molecule.atoms - molecule.count("H") - molecule.count("C")
        return float(count >= self.at_least and (molecule.stable or not self.stable))


class Composition(MoleculeReward):
    """1 / (1 + d), d the number of atoms too many or too few, summed over the elements that are named.

    Args:
        target: wanted number of atoms by element, such as ``{"C": 3, "O": 2}``.
    """

    def __init__(self, target: dict[str, int]) -> None:
        unknown = sorted(set(target) - set(SYMBOLS))
        if unknown or not target:
            raise ValueError(f"target={target}; it must name elements among {', '.join(SYMBOLS)}")
        self.target = dict(target)

    def score(self, molecule: Perceived) -> float:
        return 1 / (1 + sum(abs(molecule.count(symbol) - count) for symbol, count in self.target.items()))


class LowStrain(MoleculeReward):
    """exp(-strain / scale) by MMFF94, in [0, 1]; 0 unless the molecule is stable, in one piece, and has parameters.

    A reward of stability that cannot be won by geometries which only the distance rule believes.

    Args:
        scale: strain in kcal/mol at which the reward has fallen to 1/e.
    """

    def __init__(self, scale: float = 20.0) -> None:
        if scale <= 0:
            raise ValueError(f"scale={scale} kcal/mol; it must be positive")
        self.scale = scale

    def score(self, molecule: Perceived) -> float:
        energy = strain(molecule)
        return 0.0 if isnan(energy) else exp(-energy / self.scale)


def without_hydrogens(molecule: Perceived) -> Any:
    """The largest fragment with implicit hydrogens, as drug-likeness, logP and accessibility expect it."""
    from rdkit import Chem

    return Chem.RemoveHs(molecule.largest)


@lru_cache(maxsize=1)
def _sa_scorer() -> ModuleType:
    """RDKit's ``sascorer``, which its wheel carries beside the package, not inside.

    Raises:
        FileNotFoundError: if this build of RDKit comes without it.
    """
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    from rdkit import RDConfig

    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; rdkit from PyPI has it, this build does not")
    spec = spec_from_file_location("sascorer", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
